"""Frames to backbone input, and the cache of features: no network is needed for either."""

from __future__ import annotations

import numpy as np
import pytest
from sequence_fixtures import SHAPE, in_memory

from thermocancer.cache import content_hash
from thermocancer.classifiers.sequence.input import (
    augmented,
    encoder_input,
    frame_input,
    input_from_json,
    input_to_json,
)
from thermocancer.classifiers.sequence.readers import check_frames
from thermocancer.config import load_config
from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.config.learning import DitSection, InputSection
from thermocancer.errors import ConfigError, DataError
from thermocancer.features.frozen import FeatureCache
from thermocancer.thermal.rendering import render

INDICES = np.array([0, 5, 19])


def sequence() -> np.ndarray:
    return in_memory(2).frames("Frontal", np.array([0]), INDICES)[0]


def test_a_frame_is_its_rendering() -> None:
    frames = sequence()
    given = frame_input(DitSection(size=SHAPE))
    images = given.of_temperatures(frames, frames[0], INDICES)
    assert images.shape == (3, 1, *SHAPE, 3)
    expected = render(frames[1].astype(np.float32) / np.float32(100), Rendering())
    np.testing.assert_array_equal(images[1, 0], expected)


def test_difference_and_rate_are_degrees() -> None:
    frames = sequence()
    config = DitSection(
        size=SHAPE, channels=("difference", "rate"), difference_range=CelsiusRange(low=0, high=4),
        rate_range=CelsiusRange(low=0, high=1),
    )  # fmt: skip
    images = encoder_input(config, SHAPE, InputSection(kind="celsius")).of_temperatures(frames, frames[0], INDICES)
    celsius = frames.astype(float) / 100
    np.testing.assert_allclose(images[2, 0, ..., 0], np.clip((celsius[2] - celsius[0]) / 4, 0, 1), atol=1e-5)
    np.testing.assert_allclose(images[2, 1, ..., 0], np.clip((celsius[2] - celsius[1]) / 14, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(images[0, 1], images[1, 1])  # the first frame takes the next one's rate


def test_minmax_stretches_each_image_by_itself() -> None:
    frames = sequence()
    config = DitSection(rendering=Rendering(range="minmax"))
    given = encoder_input(config, SHAPE, InputSection(kind="celsius", rendering=Rendering(range="minmax")))
    images = given.of_temperatures(frames, frames[0], INDICES)
    assert images.min(axis=(1, 2, 3, 4)).tolist() == [0, 0, 0]
    assert images.max(axis=(1, 2, 3, 4)).tolist() == [1, 1, 1]


def test_other_sizes_are_averaged() -> None:
    frames = sequence()
    given = encoder_input(DitSection(), (SHAPE[0] // 2, SHAPE[1] // 2), InputSection(kind="celsius"))
    image = given.of_temperatures(frames, frames[0], INDICES)[0, 0, ..., 0]
    mean = frames[0].reshape(SHAPE[0] // 2, 2, SHAPE[1] // 2, 2).mean(axis=(1, 3)) / 100
    np.testing.assert_allclose(image, np.clip((mean - 18) / 20, 0, 1), atol=1e-5)


def test_colour_frames_have_no_degrees() -> None:
    colours = np.zeros((3, *SHAPE, 3), np.uint8) + 51
    assert frame_input(DitSection(size=SHAPE)).of_colours(colours)[0, 0, 0, 0].tolist() == [51, 51, 51]
    with pytest.raises(ConfigError, match="no degrees"):
        frame_input(DitSection(size=SHAPE, channels=("rate",))).of_colours(colours)


def test_an_input_survives_json() -> None:
    given = frame_input(DitSection(channels=("frame", "rate"), rendering=Rendering(range="minmax")))
    assert input_from_json(input_to_json(given)) == given


def test_augmentation_is_one_movement_for_all_frames() -> None:
    frames = np.repeat(sequence()[:1], 3, axis=0)
    moved = augmented(frames, np.random.default_rng(3))
    np.testing.assert_array_equal(moved[0], moved[2])
    assert not np.array_equal(moved[0], frames[0])
    np.testing.assert_array_equal(moved, augmented(frames, np.random.default_rng(3)))


@pytest.mark.parametrize("indices", [(), (3, 1), (0, 0), (0, 20), (-1, 3)], ids=str)
def test_impossible_frames_are_refused(indices: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="frames"):
        check_frames(in_memory(2), indices)


ABOUT = {"backbone": "random", "weights": "aa"}


def test_features_are_computed_once(tmp_path) -> None:
    wanted = np.arange(6, dtype=np.float32).reshape(2, 3)
    first = FeatureCache(tmp_path, ABOUT, (2, 3))
    np.testing.assert_array_equal(first.of("exam", lambda: wanted), wanted)
    second = FeatureCache(tmp_path, ABOUT, (2, 3))
    found = second.of("exam", lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(found, wanted)
    assert (first.computed, second.read_from_disk, second.computed) == (1, 1, 0)


def test_another_backbone_has_another_folder(tmp_path) -> None:
    one, other = FeatureCache(tmp_path, ABOUT, (2, 3)), FeatureCache(tmp_path, ABOUT | {"weights": "bb"}, (2, 3))
    assert one.folder != other.folder


def test_a_folder_of_another_backbone_is_refused(tmp_path) -> None:
    one, other = FeatureCache(tmp_path, ABOUT, (2, 3)), FeatureCache(tmp_path, ABOUT | {"weights": "bb"}, (2, 3))
    for each in (one, other):
        each.of("exam", lambda: np.zeros((2, 3)))
    (one.folder / "about.json").write_bytes((other.folder / "about.json").read_bytes())
    with pytest.raises(DataError, match="another backbone"):
        FeatureCache(tmp_path, ABOUT, (2, 3)).of("exam", lambda: np.zeros((2, 3)))


@pytest.mark.parametrize("content", [None, b"", b"[3]"], ids=["lost", "empty", "foreign"])
def test_a_damaged_description_is_written_again(tmp_path, content: bytes | None) -> None:
    """The folder's name holds the backbone's identity; the description spells it out."""
    first = FeatureCache(tmp_path, ABOUT, (2, 3))
    first.of("exam", lambda: np.ones((2, 3)))
    note = first.folder / "about.json"
    whole = note.read_bytes()
    note.unlink()
    if content is not None:
        note.write_bytes(content)
    again = FeatureCache(tmp_path, ABOUT, (2, 3))
    np.testing.assert_array_equal(again.of("exam", lambda: pytest.fail("computed again")), np.ones((2, 3)))
    assert note.read_bytes() == whole


def test_content_hash_knows_values_and_type() -> None:
    frames = sequence()
    assert content_hash(frames) == content_hash(frames.copy())
    assert len({content_hash(frames), content_hash(frames + 1), content_hash(frames.astype(np.int32))}) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"dit.backbone": "resnet50"},
        {"dit.weights_sha256": "00"},
        {"dit.backbone": "random", "dit.weights": "b0.h5"},
        {"dataset.source": "videos", "dit.channels": ["rate"]},
        {"cnn.weights_sha256": "00"},
        {"cnn.model": "backbone", "cnn.backbone": "autoencoder"},
    ],
    ids=str,
)
def test_settings_that_cannot_go_together_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        load_config(options=options, environment={})


PRISM = {"colormap": "prism", "range": "minmax"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset.source": "images", "dataset.dynamic": True, "dit.rendering": PRISM}, "convert.rendering"),
        ({"dataset.dynamic_source": "videos", "dataset.dynamic": True, "dit.rendering": {"colormap": "jet"}},
         "convert.video_rendering"),
        ({"dataset.source": "images", "autoencoder.input.rendering": PRISM}, "autoencoder.input.rendering"),
    ],
    ids=["images", "videos", "autoencoder"],
)  # fmt: skip
def test_colours_for_pictures_that_have_theirs_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=r"has no effect on pictures") as caught:
        load_config(options=options, environment={})
    assert words in str(caught.value)


def test_colours_as_the_pictures_have_them_are_fine() -> None:
    films = {"dataset.dynamic_source": "videos", "dataset.dynamic": True, "dit.rendering": PRISM}
    assert load_config(options=films, environment={}).dit.rendering.colormap == "prism"


def test_asymmetry_is_the_torso_less_its_mirror_image() -> None:
    columns = np.arange(61) + np.zeros((40, 1))
    body = np.abs(columns - 33) < 20  # a little aside of the frame's middle
    frames = np.where(body, 3300, 2200)[None].repeat(2, axis=0).astype(np.uint16)
    frames[:, 15:20, 40:45] += 50
    config = DitSection(channels=("asymmetry",))
    given = encoder_input(config, (40, 61), InputSection(kind="celsius"))
    degrees = 2 * given.of_temperatures(frames, frames[0], np.array([0, 1]))[0, 0, ..., 0] - 1
    np.testing.assert_allclose(degrees[15:20, 40:45], 0.5, atol=1e-4)
    np.testing.assert_allclose(degrees[15:20, 22:27], -0.5, atol=1e-4)
    degrees[15:20] = 0
    np.testing.assert_allclose(degrees, 0, atol=1e-4)
