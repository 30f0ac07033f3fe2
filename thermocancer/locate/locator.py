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
from thermocancer.files import Json, fingerprint, folder_written_aside, read_json, write_json
from thermocancer.locate import Cells
from thermocancer.locate.network import fit, outputs
from thermocancer.locate.posterior import CALIBRATING, SEEN, Calibration, Posterior, answer, calibrate
from thermocancer.locate.training_set import phantoms
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    import keras

RECIPE = 2
"""Raise it when the same settings lead to another network: whenever that of ``training_set`` is raised, too."""

NETWORK, CALIBRATION = "network.keras", "calibration.json"


@dataclass(frozen=True)
class Locator:
    """A network and its calibration for each of ``posterior.SEEN``."""

    model: keras.Model
    calibrations: Mapping[str, Calibration]

    def posteriors(self, inputs: Mapping[str, Cells]) -> list[Posterior]:
        """Answers for exams as ``chest.shown`` makes them, n at a time."""
        said = outputs(self.model, dict(inputs))
        oblique, dynamic = (inputs[name].reshape(len(said.present), -1).any(axis=1) for name in ("oblique", "dynamic"))
        seen = np.where(dynamic, "dynamic", np.where(oblique, "oblique", "frontal")).tolist()
        return [answer(said, number, self.calibrations[each]) for number, each in enumerate(seen)]

    def locate(self, exams: Sequence[Mapping[str, Cells]]) -> list[Posterior]:
        """Answers for several exams, each as ``chest.shown`` makes it."""
        return self.posteriors({name: np.concatenate([each[name] for each in exams]) for name in exams[0]})

    def save(self, folder: Path) -> None:
        """Write network and calibrations into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder / NETWORK)
        write_json(folder / CALIBRATION, {name: asdict(each) for name, each in self.calibrations.items()})

    @classmethod
    def load(cls, folder: Path) -> Locator:
        """Read what ``save`` wrote, after ``strategy.set_up``; raises whatever damaged files lead to."""
        import keras

        said: Json = read_json(folder / CALIBRATION)
        found = {name: Calibration(**{**said[name], "region": tuple(said[name]["region"])}) for name in SEEN}
        return cls(keras.saving.load_model(folder / NETWORK, compile=False), found)


def folder_of(config: Config, workspace: Workspace) -> Path:
    """Where the locator of these settings stands, or will."""
    aside = {name for name, each in LocateSection.model_fields.items() if is_aside(each)}
    settings = config.locate.model_dump(exclude=aside)
    key = fingerprint("locator", RECIPE, settings, strategy.resolved(config.strategy))
    return workspace.cache / "locate" / f"locator-{key[:24]}"


def stands(config: Config, workspace: Workspace) -> bool:
    """Is it made already?"""
    return (folder_of(config, workspace) / CALIBRATION).is_file()


def how_long(section: LocateSection) -> str:
    """What making one takes, in words: .15 s of processor a body, .2 a source, 9 ms an exam taught (measured)."""
    seconds = 0.15 * (section.bodies + section.calibration) + 0.2 * (section.sources + section.sources // 2)
    seconds += section.steps * section.batch * (section.width / 24) * 0.009 + 0.05 * CALIBRATING
    return f"about {max(1, round(seconds / 60 / 2))} minutes on two free cores"


def make_locator(config: Config, workspace: Workspace, progress: Progress) -> Locator:
    """The locator of these settings, read or made: phantoms, training, calibration. No person's exam is looked at."""
    folder, section = folder_of(config, workspace), config.locate
    running = strategy.set_up(config.strategy, section.seed)
    if stands(config, workspace):
        with contextlib.suppress(Exception):  # what cannot be read is made again
            return Locator.load(folder)
    progress.note(f"making the network that locates, once for this workspace: {how_long(section)}")
    taught = phantoms(section, section.seed, workspace.cache, progress, taught=True)
    with progress.task("learning", section.steps, "steps") as task:
        model = fit(section, taught, section.seed, running, task)
    held = phantoms(section, section.seed, workspace.cache, progress, taught=False)
    with progress.task("calibrating", len(SEEN) * CALIBRATING, "exams") as task:
        found = {seen: calibrate(model, held, section, section.seed, task, seen) for seen in SEEN}
    locator = Locator(model, found)
    with folder_written_aside(folder) as side:
        locator.save(side)
    return locator
