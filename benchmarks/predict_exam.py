"""How long ``predict`` takes for one exam of five views at 480x640, with heat maps of no, the first and every view.

Each figure is the median of three processes: seconds inside the stage after the imports (start-up is timed
beside it), on an autoencoder with random weights, which costs what a trained one does.

    python benchmarks/predict_exam.py [--exams 60] [--models svm-v1,svm-v2,network-v2,thermal,pixels]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

SHAPE = (480, 640)
CHOICES = ("none", "first", "all")
REPEATS = 3


def make_cohort(workspace_root: Path, exams: int) -> None:
    """A data set of bodies with a warm spot in the sick, its split, and one new exam as text files."""
    from thermocancer.config import load_config
    from thermocancer.data.cohort import Exam
    from thermocancer.data.split import make_split
    from thermocancer.data.store.writing import DatasetWriter, PackedExam, pack
    from thermocancer.thermal.writing import format_matrix
    from thermocancer.workspace import VIEWS, Workspace

    workspace = Workspace(workspace_root)
    workspace.datasets.mkdir(parents=True)
    listed = [
        Exam(
            number, 1, int(number % 3 == 0), "2014-01-01", "space2", tuple((view, f"{number} {view}") for view in VIEWS)
        )
        for number in range(1, exams + 1)
    ]
    with DatasetWriter(workspace.dataset("cohort"), "cohort", "gzip", static=exams) as writer:
        for exam in listed:
            views = {view: pack(body(exam.patient, place, exam.label), "gzip") for place, view in enumerate(VIEWS)}
            writer.add(PackedExam(exam, views, {}))
        writer.finish("celsius", "")
    config = load_config(workspace=workspace.root, environment={})
    make_split(listed, config.split, 0).write(workspace.split)
    new = workspace.root / "new"
    new.mkdir()
    for place, view in enumerate(VIEWS):
        (new / f"{view}.txt").write_bytes(format_matrix(body(10_000, place, 1), "space2"))


def body(patient: int, view: int, sick: int) -> np.ndarray:
    """A warm body in a cool room, hundredths of a degree."""
    random = np.random.default_rng([patient, view])
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] / np.array(SHAPE)[:, None, None]
    inside = ((columns - 0.5) / 0.33) ** 2 + ((rows - 0.6) / 0.6) ** 2 < 1
    celsius = np.where(inside, 32.5 + 0.5 * np.sin(6 * columns + patient), 21.0)
    celsius += 2.0 * sick * np.exp(-((rows - 0.55) ** 2 + (columns - 0.4) ** 2) / 0.004) * inside
    return np.rint(100 * (celsius + random.normal(0, 0.05, SHAPE))).astype(np.uint16)


def train(root: Path, name: str) -> None:
    """One run: ``svm-v1``, ``svm-v2``, ``network-v2``, ``thermal`` or ``pixels``."""
    from thermocancer.config import load_config
    from thermocancer.progress import Silent
    from thermocancer.stages import fuse
    from thermocancer.workspace import Workspace

    model, _, variant = name.partition("-")
    options = {
        "fuse.name": name, "fuse.model": model, "fuse.untrained": bool(variant), "fuse.autoencoder": variant or None,
        "fuse.epochs": 2, "fuse.baseline": False, "split.folds": 2, "split.repeats": 1, "split.inner_folds": 2,
        "split.protocol": "holdout", "features.pixels": [24, 32],
    }  # fmt: skip
    fuse.run(load_config(options=options, workspace=root, environment={}), Workspace(root), Silent())


def predict(root: Path, name: str, views: str) -> dict[str, float]:
    """Seconds of one answer; called in a process of its own."""
    started = time.perf_counter()
    import keras  # noqa: F401 - the start-up that the goal leaves out
    import matplotlib.backends.backend_agg  # noqa: F401
    import sklearn.svm  # noqa: F401

    from thermocancer.config import load_config
    from thermocancer.progress import Silent
    from thermocancer.stages import predict as stage
    from thermocancer.workspace import Workspace

    options = {"evaluate.exam": str(root / "new"), "evaluate.run": name, "evaluate.explain": views != "none"}
    options |= {
        "evaluate.page": str(root / "page.html"),
        "evaluate.explain_views": "first" if views != "all" else "all",
    }
    config = load_config(options=options, workspace=root, environment={})
    ready = time.perf_counter()
    stage.run(config, Workspace(root), Silent())
    return {"start-up": ready - started, "answer": time.perf_counter() - ready}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exams", type=int, default=60)
    parser.add_argument("--models", default="svm-v1,svm-v2,network-v2,thermal,pixels")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        root, name, views = asked.child
        print(json.dumps(train(Path(root), name) if views == "train" else predict(Path(root), name, views)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "workspace"
        make_cohort(root, asked.exams)
        print(f"one exam of five views at 480x640, {asked.exams} training exams; seconds (goal 3.0)")
        print(f"{'model':<12} {'start-up':>9}" + "".join(f"{views:>9}" for views in CHOICES))
        for name in asked.models.split(","):
            child(root, name, "train")
            child(root, name, "none")  # what the training exams look like is measured once and remembered
            found = [median(child(root, name, views) for _ in range(REPEATS)) for views in CHOICES]
            print(
                f"{name:<12} {found[0]['start-up']:>9.1f}" + "".join(f"{each['answer']:>9.2f}" for each in found),
                flush=True,
            )


def median(found: Iterable[dict[str, float]]) -> dict[str, float]:
    several = list(found)
    return {name: statistics.median(each[name] for each in several) for name in several[0]}


def child(root: Path, name: str, views: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(root), name, views]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, env=quiet)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
