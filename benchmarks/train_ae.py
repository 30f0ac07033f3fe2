"""Training an autoencoder: the original recipe beside ``train-ae``, to the same validation loss.

    python benchmarks/train_ae.py [--variants v1 v2] [--shape 480x640] [--images 96] [--dataset FILE.h5 --view Frontal]

The original: all images in memory, ``model.fit`` with Adam's defaults, batch 32, 20 epochs (v1) or 40
(v2). Ours: the same layers, images read from the data set as they are needed, one a step, a
cosine from 5e-3, as many epochs as ``train-ae`` takes by default; checkpoints are written. Both see the
same images (min-max, viridis, as in the original), the same validation part and the same machine, each
in a process of its own. Times are of the training alone, compilation included. Prints both sides,
the ratio of times to the original's final loss, and how long ours waited for its input.
Without ``--dataset`` the images are a synthetic cohort, made first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HELD_OUT = 0.3
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def images_of(path: Path, view: str) -> tuple[Any, Any, Any, Any]:
    """The source, its input config, and the rows that train and validate (30 %, as in the original)."""
    from thermocancer.config.base import Rendering
    from thermocancer.config.learning import InputSection
    from thermocancer.data.store.reading import StoredCohort

    source = StoredCohort(path)
    rows = np.random.default_rng(1).permutation(np.flatnonzero(source.present(view)))
    held = int(HELD_OUT * len(rows))
    section = InputSection(kind="rgb", rendering=Rendering(colormap="viridis", range="minmax"))
    return source, section, rows[held:], rows[:held]


def original(path: Path, view: str, variant: str, seed: int) -> dict[str, Any]:
    """The recipe of the original study, written with Keras alone."""
    import keras

    from thermocancer.data.inputs import network_input
    from thermocancer.training.autoencoder import ORIGINAL_BATCH, ORIGINAL_EPOCHS

    source, section, train, held = images_of(path, view)
    x, v = (network_input(source, view, rows, section) for rows in (train, held))
    keras.utils.set_random_seed(seed)
    layers, same = keras.layers, {"padding": "same", "activation": "relu"}
    if variant == "v1":
        body = [
            layers.Conv2D(8, 3, **same), layers.MaxPooling2D(2), layers.Conv2D(16, 3, **same), layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, **same), layers.Conv2D(32, 3, **same), layers.UpSampling2D(2),
            layers.Conv2D(16, 3, **same), layers.UpSampling2D(2), layers.Conv2D(3, 3, **same),
        ]  # fmt: skip
    else:
        body = [layers.Conv2D(filters, 3, strides=2, **same) for filters in (8, 16, 32)]
        body += [layers.Conv2DTranspose(filters, 3, strides=2, **same) for filters in (32, 16, 3)]
    model = keras.Sequential([keras.Input(x.shape[1:]), *body])
    model.compile(optimizer="adam", loss="mse", jit_compile=False)
    started, spent = time.perf_counter(), time.process_time()
    history = model.fit(
        x, x, batch_size=ORIGINAL_BATCH, epochs=ORIGINAL_EPOCHS[variant], validation_data=(v, v), verbose=0
    ).history
    return report(time.perf_counter() - started, time.process_time() - spent, history["val_loss"], len(train))


def ours(path: Path, view: str, variant: str, seed: int) -> dict[str, Any]:
    """What ``train-ae`` does by default for one view."""
    from thermocancer import strategy
    from thermocancer.config.learning import AutoencoderSection, StrategySection
    from thermocancer.models.autoencoder import build_autoencoder
    from thermocancer.training.autoencoder import ViewExamples, course_of
    from thermocancer.training.fit import Compilation, FitSettings, compile_model, fit_resumable

    running = strategy.set_up(StrategySection(backend="tensorflow", kind="cpu"), seed)
    source, section, train, held = images_of(path, view)
    course = course_of(AutoencoderSection(variant=variant, input=section), len(train))
    model = build_autoencoder(variant, source.shape, 3, seed=seed)
    compile_model(model, Compilation("mse"), running)
    started, spent = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = fit_resumable(
            model, ViewExamples(source, view, train, section), validation=ViewExamples(source, view, held, section),
            folder=Path(folder), settings=FitSettings(course.epochs, course.batch, seed, schedule=course.schedule),
            running=running,
        )  # fmt: skip
    losses = [row["val_loss"] for row in result.history]
    done = report(time.perf_counter() - started, time.process_time() - spent, losses, len(train))
    return done | {"waited": result.waited_seconds, "batch": course.batch}


def report(seconds: float, core_seconds: float, losses: list[float], images: int) -> dict[str, Any]:
    return {
        "seconds": seconds, "core_seconds": core_seconds, "losses": losses, "images": images,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def in_a_process(side: str, path: Path, view: str, variant: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--dataset", str(path), "--view", view]
    done = subprocess.run(
        [*command, "--variants", variant, "--seed", str(seed)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def synthetic(folder: Path, images: int, shape: str) -> Path:
    """A phantom cohort with one frontal view a patient, built like any data set."""
    from thermocancer.config import load_config
    from thermocancer.progress import Silent
    from thermocancer.stages import build_dataset, simulate
    from thermocancer.workspace import Workspace

    options = {
        "simulate.patients": images, "simulate.shape": shape, "simulate.dynamic": False, "filter.views": ["Frontal"],
        "seed": 1,
    }  # fmt: skip
    config, workspace = load_config(options=options, workspace=folder), Workspace(folder)
    for stage in (simulate, build_dataset):
        stage.run(config, workspace, Silent())
    return workspace.dataset(config.dataset.name)


def compare(path: Path, view: str, variant: str, seed: int) -> None:
    """Both sides of one variant, and the ratio."""
    theirs, own = (in_a_process(side, path, view, variant, seed) for side in ("original", "ours"))
    target = theirs["losses"][-1]
    reached = next((number for number, loss in enumerate(own["losses"], 1) if loss <= target), None)
    for name, side in (("original", theirs), ("train-ae", own)):
        print(
            f"{variant} {name:9} {len(side['losses']):3} epochs of {side['images']} images  "
            f"{side['seconds']:7.1f} s  {side['core_seconds']:7.1f} core s  "
            f"validation MSE {side['losses'][-1]:.5f}  peak {side['peak_mb']:.0f} MB"
        )
    print(f"{variant} waiting for input: {100 * own['waited'] / own['seconds']:.1f} % of the time")
    if reached is None:
        print(f"{variant} ours did not reach {target:.5f}")
        return
    share = reached / len(own["losses"])
    print(
        f"{variant} whole training: {theirs['seconds'] / own['seconds']:.1f} times faster "
        f"({theirs['core_seconds'] / own['core_seconds']:.1f} in core seconds); the original's final loss after "
        f"epoch {reached} of {len(own['losses'])}: {theirs['seconds'] / (share * own['seconds']):.1f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["v1", "v2"])
    parser.add_argument("--shape", default="480x640")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--view", default="Frontal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", choices=["original", "ours"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        work = original if given.side == "original" else ours
        print(json.dumps(work(given.dataset, given.view, given.variants[0], given.seed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given.dataset or synthetic(Path(folder), given.images, given.shape)
        for variant in given.variants:
            compare(path, given.view, variant, given.seed)


if __name__ == "__main__":
    main()
