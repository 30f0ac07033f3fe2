"""The probability that there is any heat source, from phantoms alone: it has seen no label of any patient.

So it cannot have learnt the calendar, the room or the camera of a cohort; what it ranks right, it ranks by warmth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.protocol import CLASSIFIER_FILE, Asked, Classifier, Family, Fitted, Settings, logit
from thermocancer.config import Config
from thermocancer.config.learning import StrategySection
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray, check_present, degrees
from thermocancer.errors import RunError
from thermocancer.features.prepared import OncePerCohort, prepare
from thermocancer.files import write_json
from thermocancer.locate.chest import OBLIQUE, shown
from thermocancer.locate.locator import Locator, folder_of, make_locator
from thermocancer.progress import Progress, Silent
from thermocancer.workspace import Workspace

FRONTAL = "Frontal"


@dataclass(frozen=True)
class HeatSource(Classifier, Fitted):
    """Classifier and fitted in one, as no exam of the cohort teaches it anything.

    It reads ``views``: the frontal one, and the oblique ones if they are among them. The locator is ``given``, or
    found (or made) as the config says.
    """

    kind: str
    views: tuple[str, ...]
    preparation: FeaturesSection
    made_by: tuple[Config, Workspace] | None = None
    given: Locator | None = None
    _known: OncePerCohort[dict[int, float]] = field(default_factory=OncePerCohort, repr=False, compare=False)
    _held: dict[str, Locator] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_held": {}}

    @property
    def name(self) -> str:
        return self.kind

    def locator(self, progress: Progress | None = None) -> Locator:
        """The network, read once."""
        if self.given is not None:
            return self.given
        if "one" not in self._held:
            assert self.made_by is not None
            self._held["one"] = make_locator(*self.made_by, progress or Silent())
        return self._held["one"]

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> HeatSource:
        """Learns nothing."""
        return self

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Log-odds of a source, where half of the exams have one. Raises DataError for colours or a missing view."""
        check_present(cohort, FRONTAL, rows)
        known = self._known.of(cohort, lambda _: {})
        seen, locator = prepare(cohort, self.preparation), self.locator()
        beside = [view for view in OBLIQUE if view in self.views and view in cohort.views]
        for row in {int(each) for each in rows} - known.keys():
            at: IntArray = np.array([row])
            read = [FRONTAL, *(view for view in beside if cohort.present(view)[row])]
            (found,) = locator.locate([shown({view: degrees(seen, view, at)[0] for view in read})])
            known[row] = found.probability
        return logit(np.array([known[int(row)] for row in rows], dtype=np.float64))

    def describe(self) -> Settings:
        preparation = {"relative": self.preparation.relative, "torso_only": self.preparation.torso_only}
        return {"kind": self.kind, "views": list(self.views), "preparation": preparation, "threshold": self.threshold}

    def save(self, folder: Path) -> None:
        self.locator().save(folder)
        write_json(folder / CLASSIFIER_FILE, self.describe())


class PhysicsFamily(Family):
    """The kind that knows the bioheat equation and no patient."""

    def make(self, asked: Asked) -> HeatSource:
        return HeatSource(self.kind.name, asked.views, asked.config.features, (asked.config, asked.workspace))

    def load(self, folder: Path, settings: Settings) -> Fitted:
        try:
            strategy.current()
        except RunError:  # nothing else of this call runs a network
            strategy.set_up(StrategySection(), 0)
        preparation = FeaturesSection(**settings["preparation"])
        return HeatSource(settings["kind"], tuple(settings["views"]), preparation, given=Locator.load(folder))

    def content(self, asked: Asked, folds: Sequence[str]) -> list[object]:
        return [folder_of(asked.config, asked.workspace).name]

    def ready(self, asked: Asked, progress: Progress) -> None:
        self.make(asked).locator(progress)
