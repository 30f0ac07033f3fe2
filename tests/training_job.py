"""A small training as a process of its own: run under any strategy, killed, resumed.

    python training_job.py FOLDER JSON

JSON: ``sections`` (one training each, in turn), ``epochs``, ``count``, ``pause_s`` between batches,
``late_s`` before it ends.
Writes ``FOLDER/INDEX.json`` (history, a digest of the weights) and ``FOLDER/INDEX.keras``.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer import strategy
from thermocancer.config.learning import StrategySection
from thermocancer.errors import ThermocancerError
from thermocancer.models.autoencoder import build_autoencoder
from thermocancer.training.checkpoint import Snapshot, save_model
from thermocancer.training.fit import Compilation, FitSettings, Schedule, compile_model, fit_resumable

SHAPE = (16, 16)


class Images:
    """Toy images, read slowly if asked, so that a kill meets a training at work."""

    weights = None

    def __init__(self, count: int, seed: int, pause_s: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
        waves = rng.uniform(1, 9, (count, 2, 1, 1))
        grey = 0.5 + 0.4 * np.sin(waves[:, 0] * rows + waves[:, 1] * columns)
        self.images = grey[..., None].astype(np.float32)
        self.pause_s = pause_s

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray, epoch: int) -> tuple[Any, Any]:
        time.sleep(self.pause_s)
        return self.images[rows], self.images[rows]


def train(section: dict[str, Any], folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    running = strategy.set_up(StrategySection(**section), seed=3)
    epochs = job.get("epochs", 3)
    with running.scope():
        model = build_autoencoder("v2", SHAPE, 1, seed=5)
        compile_model(model, Compilation("mse", ema_momentum=job.get("ema")), running)
    schedule = Schedule("cosine", 5e-3, epochs, 1)
    settings = FitSettings(epochs, 4, seed=7, identity="job", schedule=schedule, checkpoint_every=1)
    result = fit_resumable(
        model, Images(job.get("count", 6), 1, job.get("pause_s", 0.0)), validation=Images(6, 2),
        folder=folder / "checkpoint", settings=settings, running=running,
    )  # fmt: skip
    weights = Snapshot.of(model).weights
    return {
        "why": running.why,
        "history": result.history,
        "resumed_at": result.resumed_at,
        "digest": hashlib.sha256(b"".join(each.tobytes() for each in weights)).hexdigest(),
        "writer": running.is_writer,
        "model": model,
    }


def main(folder: Path, job: dict[str, Any]) -> int:
    for index, section in enumerate(job["sections"]):
        try:
            found = train(section, folder / str(index), job)
        except ThermocancerError as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return error.exit_code
        model = found.pop("model")
        if found["writer"]:
            save_model(model, folder / f"{index}.keras")
        process = section.get("process_index", 0)
        (folder / f"{index}.{process}.json").write_text(json.dumps(found))
    time.sleep(job.get("late_s", 0.0))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
