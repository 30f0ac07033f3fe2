"""The benchmark's registered maps of two sides: what is mirrored is equal, what is warmer on the left is seen."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from frontal_files import compare
from matched_study_features import COLUMNS, INDEX_NAMES, ROWS, SIGNED_NAMES, compare_sides, plant, straighten

HEIGHT, WIDTH = 240, 320


def body(*, tilt: float = 0.0, spot: tuple[int, int] | None = None) -> np.ndarray:
    """A torso at 33 degC, warmer towards its axis, in a room at 21: (240, 320) in degC; ``spot``: (row, column)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    off = columns - (WIDTH / 2 - 0.5) - tilt * (rows - HEIGHT / 2)
    celsius = np.where(np.abs(off) < 100, 33.0 - 0.01 * np.abs(off), 21.0)
    if spot is not None:
        distance = np.hypot(rows - spot[0], columns - spot[1])
        celsius += 2.0 * np.exp(-((distance / 12) ** 2)) * (np.abs(off) < 100)
    return celsius


def features(celsius: np.ndarray) -> dict[str, float]:
    found = compare_sides(straighten(celsius))
    assert found.shape == (len(SIGNED_NAMES) + len(INDEX_NAMES),)
    names = (*SIGNED_NAMES, *(f"index {name}" for name in INDEX_NAMES))
    return dict(zip(names, found.tolist(), strict=True))


@pytest.mark.parametrize("tilt", [0.0, 0.15], ids=["upright", "tilted"])
def test_symmetrical_body_has_no_difference(tilt: float) -> None:
    sides = straighten(body(tilt=tilt))
    assert sides.left.shape == sides.right.shape == (ROWS, COLUMNS)
    assert sides.valid.mean() > 0.95
    found = features(body(tilt=tilt))
    assert abs(found["mean"]) < 0.02
    assert found["hot area"] == 0
    assert found["index local"] < 0.05


def test_warm_spot_is_found_in_its_quadrant_and_its_mirror_image_changes_the_sign() -> None:
    left = features(body(spot=(115, 85)))  # upper outer, on the picture's left
    right = features(body(spot=(115, WIDTH - 1 - 85)))
    quadrants = {name: abs(value) for name, value in left.items() if name.startswith("mean ")}
    assert max(quadrants, key=lambda name: quadrants[name]) == "mean upper outer"
    assert left["p95 upper outer"] > 0.5
    assert left["hot area"] > 0.02
    signed = np.array([left[name] for name in SIGNED_NAMES]), np.array([right[name] for name in SIGNED_NAMES])
    np.testing.assert_allclose(signed[0], -signed[1], atol=0.02)


def test_marker_is_left_out_on_both_sides() -> None:
    marked = body()
    marked[165:185, 150:172] = 22.0  # burned in, a little right of the axis
    sides = straighten(marked)
    assert not sides.valid.all()
    assert abs(features(marked)["mean"]) < 0.02


def test_planted_spot_warms_one_side_only() -> None:
    sides = straighten(body())
    warmer = plant(sides, 1.0, np.random.default_rng(3))
    gained = [float((warmer.left - sides.left).max()), float((warmer.right - sides.right).max())]
    assert sorted(round(each, 1) for each in gained) == [0.0, 1.0]


def test_a_folder_is_held_against_the_list_of_files_by_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Renamed and copied files count as what they hold; one whose last digit differs is missing."""
    texts = [f"20.0{number} 21.00\n" for number in range(4)]
    lines = [
        f"{hashlib.sha256(text.encode()).hexdigest()},{n},1,2013-01-0{n + 1},space2" for n, text in enumerate(texts)
    ]
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(["sha256,patient,visit,date,layout", *lines]) + "\n")
    folder = tmp_path / "mine" / "deep"
    folder.mkdir(parents=True)
    for name, text in zip("abcd", texts, strict=True):
        (folder / name).write_text(text)
    (folder / "copy").write_text(texts[0])
    assert compare(folder.parent, listed) == 0
    (folder / "c").write_text("20.02 21.01\n")
    assert compare(folder.parent, listed) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("4 of 4")
    assert "1 of them more than once, 0 other" in said[0]
    assert said[1].startswith("3 of 4")
    assert "patient 2, visit 1, 2013-01-03, space2" in said[2]
