"""convert makes one image a matrix and one video a dynamic exam, lists what it cannot make, and reruns do nothing."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from thermal_fixtures import SHAPE, make_centi, make_workspace, put_matrix, tree_of

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import read_catalog, write_catalog
from thermocancer.errors import ConfigError, DataError
from thermocancer.progress import Silent
from thermocancer.stages import convert
from thermocancer.thermal.reading import read_matrix
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import VIEWS, Workspace


def config_for(workspace: Workspace, **options: object) -> Config:
    keyed = {f"convert.{name.replace('__', '.')}": value for name, value in options.items()}
    return load_config(options=keyed, workspace=workspace.root)


def read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image)[:, :, ::-1]


@pytest.mark.parametrize("colormap", ["viridis", "prism", "jet", "gray"])
def test_png_has_the_pixels_of_matplotlib(colormap: str, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    workspace = make_workspace(tmp_path, patients=1, views=("Frontal",))
    config = config_for(workspace, format="png", rendering__colormap=colormap, rendering__range="minmax")
    convert.run(config, workspace, Silent())
    record = read_catalog(workspace)[0]
    reference = io.BytesIO()
    plt.imsave(reference, read_matrix(workspace.raw / record.path).celsius, cmap=colormap, format="png")
    expected = np.asarray(cv2.imdecode(np.frombuffer(reference.getvalue(), np.uint8), cv2.IMREAD_COLOR))[:, :, ::-1]
    image = read_image(workspace.images / record.path.replace(".txt", ".png"))
    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= (1 if colormap == "gray" else 0)


def test_jpeg_is_close_to_the_colours(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2)
    report = convert.run(config_for(workspace), workspace, Silent())
    assert report.made == 2 * len(VIEWS)
    names = {name for name in tree_of(workspace.images) if name != "manifest.json"}
    assert names == {each.path.replace(".txt", ".jpg") for each in read_catalog(workspace)}
    exact = config_for(workspace, format="png")
    jpeg = {name: read_image(workspace.images / name) for name in names}
    convert.run(exact, workspace, Silent())
    for name, image in jpeg.items():
        png = read_image(workspace.images / name.replace(".jpg", ".png"))
        assert png.shape == (*SHAPE, 3)
        assert np.abs(image.astype(int) - png).mean() < 6
    assert not list(workspace.images.rglob("*.jpg"))


def test_failed_files_are_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=3, views=("Frontal",))
    records = read_catalog(workspace)
    bad = [
        put_matrix(workspace, 11, content=b"<html>login</html>"),
        put_matrix(workspace, 12, content=format_matrix(np.full(SHAPE, 2787, np.uint16))),
        put_matrix(workspace, 13, content=b"nan" + format_matrix(np.full(SHAPE, 2787, np.uint16))[5:]),
        replace(records[0], path=records[0].path.replace("T0001", "T0014"), patient=14),
    ]
    write_catalog(workspace, [*records, *bad])
    config = config_for(workspace, rendering__range="minmax")
    report = convert.run(config, workspace, Silent())
    assert report.exit_code == 5
    assert report.made == 3
    reasons = {Path(each.item).name[:5]: each.reason for each in report.failed}
    assert set(reasons) == {"T0011", "T0012", "T0013", "T0014"}
    assert "web page" in reasons["T0011"]
    assert "flat" in reasons["T0012"]
    assert "flat" in reasons["T0013"], "one pixel without a temperature has the colour of the others"
    assert "cannot be read" in reasons["T0014"]
    again = convert.run(config, workspace, Silent())
    assert (again.made, again.current, len(again.failed)) == (0, 3, 4)


def test_nothing_usable_is_bad_data(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_catalog(workspace, [put_matrix(workspace, 1, content=b"")])
    with pytest.raises(DataError, match="none of the matrices") as caught:
        convert.run(config_for(workspace), workspace, Silent())
    assert "empty" in str(caught.value.found)


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=3, views=("Frontal",))
    config = config_for(workspace)
    convert.run(config, workspace, Silent())
    whole = tree_of(workspace.images)
    again = convert.run(config, workspace, Silent())
    assert again.nothing_to_do
    assert again.current == 3
    first, second, third = sorted(workspace.images.rglob("*.jpg"))
    first.unlink()
    second.write_bytes(b"damaged")
    (third.parent / f".{third.stem}.123.partial.jpg").write_bytes(b"left by a killed run")
    assert len(convert.plan(config, workspace).todo) == 3
    assert convert.run(config, workspace, Silent()).made == 2
    assert tree_of(workspace.images) == whole
    assert convert.run(config_for(workspace, jpeg_quality=80), workspace, Silent()).made == 3


def test_images_of_files_that_left_the_catalog_are_removed(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=3, views=("Frontal",))
    config = config_for(workspace)
    convert.run(config, workspace, Silent())
    write_catalog(workspace, read_catalog(workspace)[:2])
    report = convert.run(config, workspace, Silent())
    assert report.figures["removed"] == 1
    assert len(list(workspace.images.rglob("*.jpg"))) == 2
    assert convert.run(config, workspace, Silent()).nothing_to_do


def test_a_lost_manifest_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2, views=("Frontal",))
    for threads in (1, 3):
        config = config_for(workspace, processes=threads)
        convert.run(config, workspace, Silent())
        if threads == 1:
            whole = tree_of(workspace.images)
            (workspace.images / "manifest.json").write_text("{half")
    assert tree_of(workspace.images) == whole


def test_dynamic_exams_become_videos(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2, views=("Frontal",), frames=20)
    gap = [put_matrix(workspace, 9, protocol="D", index=index) for index in range(19)]
    write_catalog(workspace, [*read_catalog(workspace), *gap])
    config = config_for(workspace, videos=True, video_codec="FFV1", dynamic=False)
    report = convert.run(config, workspace, Silent())
    assert report.made == 2 + 2
    assert report.notes == ["1 dynamic exams have no video: not exactly 20 frontal frames"]
    videos = sorted(str(path.relative_to(workspace.videos)) for path in workspace.videos.rglob("*.avi"))
    assert videos == ["healthy/1_1.avi", "sick/2_1.avi"]
    capture = cv2.VideoCapture(str(workspace.videos / videos[0]))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert capture.get(cv2.CAP_PROP_FPS) == 5
    capture.release()
    assert convert.run(config, workspace, Silent()).nothing_to_do
    convert.run(config_for(workspace, dynamic=False), workspace, Silent())
    assert len(list(workspace.videos.rglob("*.avi"))) == 2, "convert without videos leaves them alone"


def test_dynamic_frames_are_images_too_unless_told_otherwise(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=1, views=("Frontal",), frames=3)
    assert convert.run(config_for(workspace), workspace, Silent()).made == 4
    assert convert.run(config_for(workspace, dynamic=False), workspace, Silent()).figures["removed"] == 3


def test_unknown_colour_map_fails_before_any_work(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=1, views=("Frontal",))
    with pytest.raises(ConfigError, match="colour map"):
        convert.run(config_for(workspace, rendering__colormap="virids"), workspace, Silent())
    assert not workspace.images.exists()


def test_plan_touches_nothing(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2, views=("Frontal",))
    before = tree_of(tmp_path)
    assert len(convert.plan(config_for(workspace), workspace).todo) == 2
    assert tree_of(tmp_path) == before


@pytest.mark.parametrize("images_before_the_kill", [1, 25])
def test_killed_and_run_again_gives_the_same_bytes(images_before_the_kill: int, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "killed", patients=60, views=("Frontal",))
    command = [sys.executable, "-m", "thermocancer", "convert", "-w", str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(workspace.images.rglob("*.jpg"))) < images_before_the_kill:
            time.sleep(0.001)
        process.kill()
    convert.run(config_for(workspace), workspace, Silent())
    whole = make_workspace(tmp_path / "whole", patients=60, views=("Frontal",))
    convert.run(config_for(whole), whole, Silent())
    assert tree_of(workspace.images) == tree_of(whole.images)


@pytest.mark.parametrize("fill", ["0.00", "nan"])
def test_pixels_without_a_temperature_have_the_colour_of_the_background(fill: str, tmp_path: Path) -> None:
    lines = [line.split() for line in format_matrix(make_centi(4)).decode().splitlines()]
    content = "".join(" ".join([fill] * 16 + line[16:]) + "\n" for line in lines).encode()
    workspace = Workspace(tmp_path)
    contents = {1: content, 2: format_matrix(make_centi(4))}
    write_catalog(workspace, [put_matrix(workspace, each, content=text) for each, text in contents.items()])
    config = config_for(workspace, rendering__range="minmax", rendering__colormap="gray", format="png")
    convert.run(config, workspace, Silent())
    images = sorted(workspace.images.rglob("*.png"))
    cut, whole = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(int) for path in images)
    assert np.ptp(cut[:, :16]) == 0
    assert np.abs(cut - whole)[:, 16:].max() <= 3, "fill takes no part in the range of the colours"
    assert abs(cut[0, 0] - np.median(whole[:, :16])) < 40
