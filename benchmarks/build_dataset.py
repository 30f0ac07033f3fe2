"""Building a data set: the original recipe (load everything, concatenate) beside ``build-dataset``.

    python benchmarks/build_dataset.py [--exams 72 290] [--views 5]

Each side runs in a process of its own on the same files: seconds of the work alone (of the clock and
of all cores together), and peak memory above what the imports took. ``images`` is the original recipe:
each view's JPEGs to one float32 RGB array, concatenated batch by batch (16). ``matrices`` is the same
with text files, one by one. Ours runs after ``filter``, as in the pipeline, measures nuisance besides,
and ends with a file on disk.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.data.names import ThermogramName
from thermocancer.files import hash_file
from thermocancer.progress import Silent
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import VIEWS, Workspace

BATCH = 16
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def settings(workspace: Workspace, source: str, compression: str) -> Config:
    views = sorted((path.name for path in (workspace.raw / "Static").iterdir()), key=VIEWS.index)
    options = {
        "filter.views": views, "convert.dynamic": False, "convert.rendering.range": "minmax",
        "dataset.source": source, "dataset.compression": compression,
    }  # fmt: skip
    return load_config(options=options, workspace=workspace.root)


def make_workspace(folder: Path, exams: int, views: int) -> Workspace:
    """Warm bodies on a cool background with noise, 480x640, one a patient, converted to JPEG and filtered."""
    from thermocancer.stages import convert
    from thermocancer.stages import filter as filter_stage

    workspace = Workspace(folder)
    rows, columns = np.mgrid[0:480, 0:640] / 480.0
    records = []
    for patient in range(1, exams + 1):
        label = "sick" if patient % 3 == 0 else "healthy"
        for code in range(1, views + 1):
            random = np.random.default_rng([patient, code])
            body = 21 + 12 * (((columns - 0.67) / 0.5) ** 2 + ((rows - 0.6) / 0.7) ** 2 < 1)
            celsius = body + np.sin(9 * columns + patient) + random.normal(0, 0.05, rows.shape)
            name = ThermogramName(patient, 1, code, "S", "2014-05-06", 0)
            path = workspace.raw / name.tree_path(label)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(format_matrix(np.rint(celsius * 100).astype(np.uint16)))
            place, view = name.tree_path(label), VIEWS[code - 1]
            records.append(Record(place, patient, 1, view, "S", name.date, 0, label, hash_file(path)))
    write_catalog(workspace, records)
    for stage in (convert, filter_stage):
        stage.run(settings(workspace, "images", "auto"), workspace, Silent())
    return workspace


def original_images(folder: Path) -> int:
    """Every JPEG of one view's class folders into one float32 array (n, 480, 640, 3)."""
    import keras

    batches = keras.utils.image_dataset_from_directory(
        folder, image_size=(480, 640), batch_size=BATCH, seed=1, verbose=False
    )
    everything = np.empty((0, 480, 640, 3), np.float32)
    for images, _ in batches:
        everything = np.concatenate([everything, images.numpy()])
    return len(everything)


def original_matrices(folder: Path) -> int:
    """Every text matrix of one view into one float64 array (n, 480, 640)."""
    everything = np.empty((0, 480, 640))
    for path in sorted(folder.rglob("*.txt")):
        everything = np.concatenate([everything, np.loadtxt(path)[np.newaxis]])
    return len(everything)


def original(workspace: Workspace, source: str) -> int:
    folder = workspace.filtered if source == "images" else workspace.raw
    load = original_images if source == "images" else original_matrices
    return max(load(view) for view in sorted((folder / "Static").iterdir()))


def ours(workspace: Workspace, source: str, compression: str) -> int:
    from thermocancer.stages import build_dataset

    report = build_dataset.run(settings(workspace, source, compression), workspace, Silent())
    return int(report.figures["static_exams"])


def work(side: str, workspace: Workspace) -> None:
    """One side in this process: prints seconds, seconds of all cores, and peak bytes above the imports."""
    kind, _, rest = side.partition(":")
    import cv2  # noqa: F401
    import h5py  # noqa: F401
    import sklearn.model_selection  # noqa: F401

    if kind == "original":
        import keras  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, started_cores = time.perf_counter(), time.process_time()
    count = original(workspace, rest) if kind == "original" else ours(workspace, *rest.split(":"))
    seconds, cores = time.perf_counter() - started, time.process_time() - started_cores
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert count == len(list((workspace.raw / "Static" / "Frontal").rglob("*.txt")))
    print(seconds, cores, 1024 * (peak - before))


def measure(side: str, workspace: Workspace) -> tuple[float, float, float]:
    """Seconds, seconds of all cores and peak MB of one side in a fresh process, without its earlier output."""
    for path in (*workspace.datasets.glob("*"), workspace.split):
        path.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--work", side, "--workspace", str(workspace.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, cores, peak = (float(each) for each in done.stdout.split())
    return seconds, cores, peak / 1e6


def compare(exams: int, views: int, source: str, workspace: Workspace) -> None:
    """Print the original recipe's line and ours, as it is by default and in the other form."""
    row = f"{exams:5} x {views}  {source:8}  {{:15}}  {{:7.2f}}  {{:7.2f}}  {{:8.1f}}  {{:7.0f}}"
    theirs, cores, memory = measure(f"original:{source}", workspace)
    print(row.format("original recipe", theirs, cores, 1000 * theirs / exams / views, memory), flush=True)
    for compression in ("auto", "none" if source == "matrices" else "gzip"):
        seconds, own_cores, memory = measure(f"ours:{source}:{compression}", workspace)
        line = row.format(f"ours, {compression}", seconds, own_cores, 1000 * seconds / exams / views, memory)
        print(f"{line}   {theirs / seconds:5.1f} (cores {cores / own_cores:.1f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, nargs="+", default=[72, 290])
    parser.add_argument("--views", type=int, choices=range(1, 6), default=5)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, Workspace(arguments.workspace))
        return
    print("   images  source    side             seconds    cores  ms/image  peak MB   times faster")
    for exams in arguments.exams:
        with tempfile.TemporaryDirectory() as folder:
            workspace = make_workspace(Path(folder), exams, arguments.views)
            for source in ("images", "matrices"):
                compare(exams, arguments.views, source, workspace)


if __name__ == "__main__":
    main()
