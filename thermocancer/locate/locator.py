"""The trained network with its calibration: made once a workspace, from phantoms alone, then read."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thermocancer import strategy
from thermocancer.config import Config
from thermocancer.config.base import is_aside
from thermocancer.config.judging import LocateSection
from thermocancer.errors import DataError
from thermocancer.files import Json, fingerprint, folder_written_aside, read_json, write_json
from thermocancer.locate import Cells, FloatArray
from thermocancer.locate.chest import shown
from thermocancer.locate.network import fit, outputs
from thermocancer.locate.posterior import CALIBRATING, Calibration, Posterior, answers, calibrate
from thermocancer.locate.training_set import phantoms
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    import keras

RECIPE = 1
"""Raise it when the same settings lead to another network."""

NETWORK, CALIBRATION = "network.keras", "calibration.json"


@dataclass(frozen=True)
class Locator:
    """A network and its calibrations: for the frontal view alone, and with at least one oblique view beside it."""

    model: keras.Model
    frontal: Calibration
    oblique: Calibration

    def posteriors(self, inputs: Mapping[str, Cells]) -> list[Posterior]:
        """Answers for exams as ``chest.shown`` makes them, n at a time."""
        said = outputs(self.model, dict(inputs))
        both = [answers(said, each) for each in (self.frontal, self.oblique)]
        beside = np.any(inputs["oblique"] != 0, axis=(1, 2, 3, 4))
        return [pair[int(more)] for pair, more in zip(zip(*both, strict=True), beside, strict=True)]

    def locate(self, exams: Sequence[Mapping[str, FloatArray]]) -> list[Posterior]:
        """Answers for exams given as frames in degC by view. Raises DataError where one has no frontal view."""
        if any("Frontal" not in each for each in exams):
            raise DataError(
                "an exam has no frontal view", expected="Frontal, and Right45 and Left45 beside it if there"
            )
        parts = [shown(each) for each in exams]
        return self.posteriors({name: np.concatenate([each[name] for each in parts]) for name in parts[0]})

    def save(self, folder: Path) -> None:
        """Write network and calibration into an existing folder."""
        self.model.save(folder / NETWORK)
        write_json(folder / CALIBRATION, {"frontal": asdict(self.frontal), "oblique": asdict(self.oblique)})

    @classmethod
    def load(cls, folder: Path) -> Locator:
        """Read what ``save`` wrote, after ``strategy.set_up``; raises whatever damaged files lead to."""
        import keras

        said: Json = read_json(folder / CALIBRATION)
        found = [
            Calibration(**{**said[name], "region": tuple(said[name]["region"])}) for name in ("frontal", "oblique")
        ]
        return cls(keras.saving.load_model(folder / NETWORK, compile=False), *found)


def folder_of(config: Config, workspace: Workspace) -> Path:
    """Where the locator of these settings stands, or will."""
    aside = {name for name, each in LocateSection.model_fields.items() if is_aside(each)}
    settings = config.locate.model_dump(exclude=aside)
    key = fingerprint("locator", RECIPE, config.seed, settings, strategy.resolved(config.strategy))
    return workspace.cache / "locate" / f"locator-{key[:24]}"


def stands(config: Config, workspace: Workspace) -> bool:
    """Is it made already?"""
    return (folder_of(config, workspace) / CALIBRATION).is_file()


def how_long(section: LocateSection) -> str:
    """What making one takes, in words: .15 s of processor a body, .06 a source, 9 ms an exam taught (measured)."""
    seconds = 0.15 * (section.bodies + section.calibration) + 0.09 * section.sources
    seconds += section.steps * section.batch * (section.width / 24) * 0.009 + 0.03 * CALIBRATING
    return f"about {max(1, round(seconds / 60 / 2))} minutes on two free cores"


def make_locator(config: Config, workspace: Workspace, progress: Progress) -> Locator:
    """The locator of these settings, read or made: phantoms, training, calibration. No person's exam is looked at."""
    folder, section = folder_of(config, workspace), config.locate
    running = strategy.set_up(config.strategy, config.seed)
    if stands(config, workspace):
        with contextlib.suppress(Exception):  # what cannot be read is made again
            return Locator.load(folder)
    progress.note(f"making the network that locates, once for this workspace: {how_long(section)}")
    taught = phantoms(section, config.seed, workspace.cache, progress, taught=True)
    with progress.task("learning", section.steps, "steps") as task:
        model = fit(section, taught, config.seed, running, task)
    held = phantoms(section, config.seed, workspace.cache, progress, taught=False)
    with progress.task("calibrating", 2 * CALIBRATING, "exams") as task:
        found = [calibrate(model, held, section, config.seed, task, oblique=more) for more in (False, True)]
    locator = Locator(model, *found)
    with folder_written_aside(folder) as side:
        side.mkdir(parents=True)
        locator.save(side)
    return locator
