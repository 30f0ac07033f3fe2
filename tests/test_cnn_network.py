"""The second study's network layer by layer, its variants, and weights of the old Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_fixtures import write_old_weights

from thermocancer.config.learning import CnnSection
from thermocancer.errors import ConfigError, DataError

keras = pytest.importorskip("keras")

from thermocancer.models.image_classifier import (  # noqa: E402  # noqa: E402
    STUDY_PARAMETERS,
    backbone_head,
    build_classifier,
    load_old_weights,
    on_backbone,
    read_old_weights,
    study_network,
)

CONVOLUTIONS = [(16, 329), (16, 162), (32, 79), (32, 37), (64, 16), (64, 6)]
POOLED = (164, 81, 39, 18, 8, 3)


def test_the_study_s_network_layer_by_layer() -> None:
    model = study_network()
    found = [(type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params()) for layer in model.layers]
    expected: list[tuple[str, tuple[int, ...], int]] = [("InputLayer", (331, 331, 3), 0)]
    depth = 3
    for (filters, size), pooled in zip(CONVOLUTIONS, POOLED, strict=True):
        expected.append(("Conv2D", (size, size, filters), 9 * depth * filters + filters))
        expected.append(("MaxPooling2D", (pooled, pooled, filters), 0))
        depth = filters
    expected += [
        ("Flatten", (576,), 0), ("Dropout", (576,), 0), ("Dense", (64,), 576 * 64 + 64), ("Dense", (1,), 65),
        ("Activation", (1,), 0),
    ]  # fmt: skip
    assert found == expected
    assert model.count_params() == STUDY_PARAMETERS == 109_073
    layers = {layer.name: layer for layer in model.layers}
    assert layers["conv_1"].padding == "valid"
    assert [layers[name].activation.__name__ for name in ("conv_6", "dense_64", "logit")] == ["relu", "relu", "linear"]
    assert type(layers["dense_64"].kernel_initializer).__name__ == "HeUniform"
    assert layers["dropout"].rate == 0.2


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="too small") as caught:
        study_network((189, 331, 3))
    assert "pooled" in str(caught.value.hint)
    assert study_network((190, 190, 1)).output_shape == (None, 1)


@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_the_pooled_network_takes_any_size(color: str) -> None:
    config = CnnSection(model="pooled", size=(17, 40), color=color)
    assert build_classifier(config).output_shape == (None, 1)


def test_a_backbone_sees_raw_colours_of_grey_images() -> None:
    from thermocancer.models.backbones import build_backbone

    backbone = build_backbone("random", (16, 16))
    head = backbone_head(64)
    image = np.random.default_rng(0).uniform(size=(1, 16, 16, 1)).astype(np.float32)
    whole = on_backbone(backbone, (16, 16, 1), head)
    np.testing.assert_allclose(whole(image), head(backbone(255 * np.repeat(image, 3, axis=-1))), atol=1e-6)


def arrays_of(seed: int = 0, shape: tuple[int, int, int] = (331, 331, 3)) -> list[tuple[str, list[np.ndarray]]]:
    """Random weights of the study's network under the names an old Keras gave its layers."""
    rng = np.random.default_rng(seed)
    layers = [layer for layer in study_network(shape).layers if layer.weights]
    return [
        (f"{'dense' if 'conv' not in layer.name else 'conv2d'}_{number}",
         [rng.normal(0, 0.05, weight.shape).astype(np.float32) for weight in layer.weights])
        for number, layer in enumerate(layers)
    ]  # fmt: skip


@pytest.mark.parametrize("whole_model", [True, False], ids=["model file", "weights file"])
def test_old_weights_open(tmp_path: Path, whole_model: bool) -> None:
    arrays = arrays_of()
    layers = [arrays[0], ("max_pooling2d", []), *arrays[1:]]
    write_old_weights(tmp_path / "old.h5", layers, whole_model=whole_model)
    model = study_network()
    said = load_old_weights(model, tmp_path / "old.h5")
    assert len(said) == 8
    assert said[0].startswith("conv2d_0 -> conv_1")
    for found, (_, expected) in zip([layer for layer in model.layers if layer.weights], arrays, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(found.get_weights(), expected, strict=True))


def test_a_model_inside_the_model_is_unfolded(tmp_path: Path) -> None:
    import h5py

    arrays = arrays_of()
    with h5py.File(tmp_path / "nested.h5", "w") as file:
        file.attrs["layer_names"] = [b"sequential"]
        group = file.create_group("sequential")
        names = [f"{name}/{kind}:0" for name, _ in arrays for kind in ("kernel", "bias")]
        group.attrs["weight_names"] = [each.encode() for each in names]
        for name, array in zip(names, (each for _, own in arrays for each in own), strict=True):
            group.create_dataset(name, data=array)
    assert len(load_old_weights(study_network(), tmp_path / "nested.h5")) == 8


def test_every_layer_that_does_not_fit_is_named(tmp_path: Path) -> None:
    arrays = arrays_of()
    arrays[2][1][0] = np.zeros((3, 3, 16, 48), np.float32)
    arrays[6][1][0] = np.zeros((500, 64), np.float32)
    write_old_weights(tmp_path / "wrong.h5", arrays)
    model = study_network()
    before = model.get_weights()
    with pytest.raises(DataError, match="do not fit") as caught:
        load_old_weights(model, tmp_path / "wrong.h5")
    assert "conv2d_2 has [(3, 3, 16, 48), (32,)] where conv_3 needs [(3, 3, 16, 32), (32,)]" in str(caught.value.found)
    assert "dense_6" in str(caught.value.found)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("content", [b"", b"not HDF5", None], ids=["empty", "foreign", "missing"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="weights file"):
        read_old_weights(path)


def test_an_hdf5_file_of_something_else_is_refused(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(DataError, match="not a Keras 2 weights file"):
        read_old_weights(tmp_path / "other.h5")


def test_backbones_open_the_files_that_keras_publishes(tmp_path: Path) -> None:
    """The published ``..._notop.h5`` files have the same old layout."""
    from thermocancer.models.backbones import build_backbone

    plain = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3))
    import h5py

    with h5py.File(tmp_path / "notop.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in plain.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.5.0"
        for layer in plain.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0".encode() for weight in layer.weights]
            group.attrs["weight_names"] = names or np.zeros(0, "S1")
            for name, array in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name.decode(), data=array + 0.01)
    model = build_backbone("mobilenetv2", (32, 32), weights=tmp_path / "notop.h5")
    pairs = zip(plain.get_weights(), model.get_weights(), strict=True)
    assert all(np.allclose(one + 0.01, other) for one, other in pairs)
