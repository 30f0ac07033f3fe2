"""Videos: exact with FFV1, close with DIVX, and a clear refusal of anything half or other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thermocancer.errors import DataError, RunError
from thermocancer.thermal.rendering import read_video, write_video


def frames(n: int = 6) -> list[np.ndarray]:
    rows, columns = np.mgrid[:48, :64]
    return [np.stack([4 * rows, 3 * columns, rows + columns + 9 * k], axis=-1).astype(np.uint8) for k in range(n)]


def test_ffv1_gives_every_pixel_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    assert write_video(tmp_path / "a.avi", iter(noise), 5.0, "FFV1") == 20
    back = list(read_video(tmp_path / "a.avi", frames=20, size=(48, 64)))
    assert all(np.array_equal(one, other) for one, other in zip(noise, back, strict=True))


def test_divx_is_close_and_in_rgb_order(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", frames(), codec="DIVX")
    back = list(read_video(tmp_path / "a.avi"))
    assert len(back) == 6
    assert np.abs(np.array(back).astype(int) - np.array(frames())).mean() < 6


@pytest.mark.parametrize("codec", ["DIVX", "FFV1"])
def test_equal_frames_give_equal_bytes(tmp_path: Path, codec: str) -> None:
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.avi", frames(), codec=codec)
    assert (tmp_path / "a.avi").read_bytes() == (tmp_path / "b.avi").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.avi", "b.avi"]


def test_wrong_size_and_wrong_count_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", frames())
    with pytest.raises(DataError, match="wrong number of frames") as caught:
        list(read_video(tmp_path / "a.avi", frames=20))
    assert (caught.value.expected, caught.value.found) == ("20", "6")
    with pytest.raises(DataError, match="wrong size") as caught:
        list(read_video(tmp_path / "a.avi", size=(480, 640)))
    assert caught.value.found == "48x64"


@pytest.mark.parametrize("codec", ["DIVX", "FFV1"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.7])
def test_a_truncated_video_is_refused(tmp_path: Path, codec: str, share: float) -> None:
    write_video(tmp_path / "whole.avi", frames(20), codec=codec)
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError):
        list(read_video(tmp_path / "cut.avi", frames=20))
    with pytest.raises(DataError):
        list(read_video(tmp_path / "cut.avi"))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.avi").write_text("hello" * 100)
    for name, words in (("text.avi", "not a video"), ("none.avi", "no such video")):
        with pytest.raises(DataError, match=words):
            list(read_video(tmp_path / name))


def test_bad_frames_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one frame"):
        write_video(tmp_path / "a.avi", [])
    with pytest.raises(ValueError, match="frame 1"):
        write_video(tmp_path / "a.avi", [frames()[0], frames()[0][:24]])
    with pytest.raises(RunError, match="cannot write"):
        write_video(tmp_path / "a.avi", frames(), codec="ZZZZ")
    assert not list(tmp_path.iterdir())
