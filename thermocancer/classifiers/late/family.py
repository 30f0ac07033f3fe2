"""Late fusion as a family: the model that a late run keeps, read back."""

from __future__ import annotations

from pathlib import Path

from thermocancer.classifiers.calibrated import CalibratedFitted
from thermocancer.classifiers.late.features import KIND as BY_FEATURES
from thermocancer.classifiers.late.features import JointModel
from thermocancer.classifiers.late.kept import ScoresModel
from thermocancer.classifiers.protocol import Family, Fitted, Settings


class LateFamily(Family):
    """Combines finished runs; how it is made stands in ``late.run``, as it needs the runs themselves."""

    why_not_exported = "it combines other runs and has no network of its own"

    def load(self, folder: Path, settings: Settings) -> Fitted:
        by_features = settings["kind"] == BY_FEATURES
        model = JointModel.load(folder, settings) if by_features else ScoresModel.load(folder, settings)
        return CalibratedFitted.around(model, settings)
