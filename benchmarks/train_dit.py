"""Sequence training: a frozen backbone read once into the cache, against recomputed in every epoch.

    python benchmarks/train_dit.py                                        # small and quick
    python benchmarks/train_dit.py --backbone efficientnetb5 --size 456 --exams 30 --epochs 20 --measure 1

Both sides train the same network on the same synthetic exams from the same seed. Wall time and core
seconds are printed; on a machine with other work only the latter tell. With ``--measure M``
the uncached side is trained for 1 and for 1 + M epochs; the difference gives the seconds an epoch
without building and tracing, from which the time for ``--epochs`` is reckoned, and said to be so.
EfficientNet needs weights: the script makes a file of random ones,
which cost what ImageNet's cost.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.sequence.network import SequenceClassifier
from thermocancer.classifiers.sequence.readers import FrameReaders
from thermocancer.config import Config, load_config
from thermocancer.data.cohort import Exam
from thermocancer.kinds import backbones
from thermocancer.workspace import Workspace

FRAMES, HEIGHT, WIDTH = 20, 480, 640


@dataclass(frozen=True)
class Synthetic:
    """Exams made when they are read: a warm ellipse that rewarms, faster where the label is 1."""

    exams: tuple[Exam, ...]
    kind: str = "celsius"
    views: tuple[str, ...] = ("Frontal",)

    def length(self, view: str) -> int:
        return FRAMES

    def frames(self, view: str, rows: np.ndarray, indices: Any = None) -> np.ndarray:
        chosen = np.arange(FRAMES) if indices is None else np.asarray(indices)
        return np.stack([self._exam(self.exams[row], chosen) for row in rows])

    def _exam(self, exam: Exam, chosen: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(exam.patient)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        body = ((rows - HEIGHT / 2) / 220) ** 2 + ((columns - WIDTH / 2) / 260) ** 2 < 1
        rise = (1.5 + exam.label) * (1 - np.exp(-chosen / 6))
        celsius = np.where(body, 30.0, 22.0) + rise[:, None, None] * body
        return np.rint(100 * (celsius + rng.normal(0, 0.05, celsius.shape))).astype(np.uint16)


def config_for(options: argparse.Namespace, root: Path, cache: bool, epochs: int) -> Config:
    given: dict[str, Any] = {
        "dit.backbone": options.backbone, "dit.size": [options.size, options.size], "dit.cache": cache,
        "dit.epochs": epochs, "dit.loss": "mse", "dit.norm_momentum": 0.99, "strategy.backend": "tensorflow",
    }  # fmt: skip
    if backbones()[options.backbone].downloads:
        given["dit.weights"] = str(root / f"{options.backbone}.weights.h5")
    return load_config(options=given, workspace=root)


def make_weights(options: argparse.Namespace, root: Path) -> None:
    """Random weights in the file format that ``dit.weights`` reads."""
    if not backbones()[options.backbone].downloads:
        return
    import keras

    names = {name.lower(): name for name in dir(keras.applications)}
    build = getattr(keras.applications, names[options.backbone])
    model = build(weights=None, include_top=False, input_shape=(options.size, options.size, 3), pooling="avg")
    model.save_weights(root / f"{options.backbone}.weights.h5")


Seconds = np.ndarray
"""Wall time and core seconds."""


def now() -> Seconds:
    return np.array([time.perf_counter(), time.process_time()])


def said_of(seconds: Seconds) -> str:
    return f"{seconds[0]:.1f} s, {seconds[1]:.1f} core s"


def seconds_to_train(config: Config, source: Synthetic, workspace: Workspace, rows: np.ndarray) -> tuple[Seconds, Any]:
    """Time from nothing to a trained network and the scores of ``rows``; building and tracing included."""
    started = now()
    method = SequenceClassifier("sequence", config, workspace, FrameReaders(config, workspace))
    labels = np.array([source.exams[row].label for row in rows])
    method.announce(source, "test", [(rows, labels)])
    model = method.fit(source, rows, labels, seed=0, fold="test")
    return now() - started, model


def uncached(
    options: argparse.Namespace, root: Path, source: Synthetic, workspace: Workspace, rows: np.ndarray
) -> tuple[Seconds, str, Any]:
    """Time for all epochs with the backbone in each, how that is known, and the network."""

    def trained(epochs: int) -> tuple[Seconds, Any]:
        return seconds_to_train(config_for(options, root, False, epochs), source, workspace, rows)

    if not options.measure:
        seconds, model = trained(options.epochs)
        return seconds, "measured", model
    first, _ = trained(1)
    more, model = trained(1 + options.measure)
    epoch = (more - first) / options.measure
    said = (
        f"reckoned: the first epoch took {said_of(first)} with building and tracing, each further one {said_of(epoch)}"
    )
    return first + epoch * (options.epochs - 1), said, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=96, help="rows and columns of the backbone's input")
    parser.add_argument("--exams", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--measure", type=int, default=0, help="further uncached epochs to time; 0: run all of them")
    options = parser.parse_args()
    exams = tuple(Exam(number, 1, number % 2) for number in range(1, options.exams + 1))
    source, rows = Synthetic(exams), np.arange(options.exams)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspace = Workspace(root)
        running = strategy.set_up(load_config(options={"strategy.backend": "tensorflow"}).strategy, 0)
        print(f"{options.backbone} at {options.size} px, {options.exams} exams x 10 frames, {running.why}")
        make_weights(options, root)
        cached, model = seconds_to_train(config_for(options, root, True, options.epochs), source, workspace, rows)
        print(f"cached: {options.epochs} epochs in {said_of(cached)}, features included", flush=True)
        again, _ = seconds_to_train(config_for(options, root, True, options.epochs), source, workspace, rows)
        print(f"cached, second run (features on disk): {said_of(again)}")
        slow, said, other = uncached(options, root, source, workspace, rows)
        print(f"backbone in every epoch: {options.epochs} epochs in {said_of(slow)} ({said})", flush=True)
        ratio = slow / cached
        print(f"ratio: {ratio[0]:.1f} x, {ratio[1]:.1f} x in core seconds (goal 15 x)")
        if said == "measured":
            apart = np.abs(model.decisions(source, rows) - other.decisions(source, rows)).max()
            print(f"largest difference of the log-odds: {apart:.1e}")


if __name__ == "__main__":
    main()
