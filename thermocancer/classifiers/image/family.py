"""Classifiers of single images as a family: how one is made from several seeds, loaded, twinned and taken elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from thermocancer.classifiers.calibrated import Calibrated, CalibratedFitted
from thermocancer.classifiers.image.examples import to_unit
from thermocancer.classifiers.image.network import MODEL_FILE, READING, ImageClassifier, ImageModel, weights_content
from thermocancer.classifiers.logistic import ColumnsClassifier
from thermocancer.classifiers.protocol import (
    MOST_SAMPLES,
    Asked,
    Classifier,
    Exportable,
    Family,
    Fitted,
    Settings,
    Unavailable,
)
from thermocancer.classifiers.seeds import Seeds, SeedsFitted
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.class_images import read_image
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.split import Fold
from thermocancer.errors import DataError
from thermocancer.kinds import backbone, backbones
from thermocancer.progress import Progress, Silent
from thermocancer.training.checkpoint import load_model

BY_IMAGE = "validation images chosen by image, not by patient: cnn.group is not set, so nobody knows whose they are"


class ImageFamily(Family):
    """A network on single images, trained from several seeds."""

    exports = ("saved_model", "tf2onnx", "litert")

    def title(self, asked: Asked) -> str:
        cnn = asked.config.cnn
        return cnn.model if cnn.model != "backbone" else f"{cnn.backbone} + dense"

    def aim(self, asked: Asked) -> tuple[str, float]:
        return asked.config.cnn.aim, asked.config.cnn.aim_sensitivity

    def facts(
        self, asked: Asked, cohort: Cohort, rows: IntArray, excluded: Sequence[tuple[str, str]]
    ) -> Settings:  # fmt: skip
        count = self.count(asked)
        return {
            "classes": list(cohort.classes) if isinstance(cohort, ImageCohort) else [],
            "decision": "threshold" if count == 1 else f"majority vote of {count} seeds",
            "left_out": [{"image": path, "reason": reason} for path, reason in excluded],
        }

    def content(self, asked: Asked, folds: Sequence[str]) -> list[object]:
        return [*weights_content(asked.config.cnn)]

    def leaks(self, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> list[str]:
        grouped = cohort.folder.grouped if isinstance(cohort, ImageCohort) else asked.config.cnn.group is not None
        found = [] if grouped else [BY_IMAGE]
        folder = cohort.folder if isinstance(cohort, ImageCohort) else None
        if folder is not None and folder.shared:
            found.append(f"{folder.shared} test pictures are in Train too (cnn.copies: keep)")
        if folder is not None and folder.nearly_shared:
            found.append(f"{folder.nearly_shared} test pictures are nearly the same as one in Train")
        return found

    def count(self, asked: Asked) -> int:
        """How many seeds: weights as they are do not depend on one."""
        return asked.config.cnn.seeds if asked.config.cnn.train else 1

    def make(self, asked: Asked) -> Seeds:
        return self.seeds(self.network(asked), asked)

    def network(self, asked: Asked, progress: Progress | None = None) -> ImageClassifier:
        """The bare network, from one seed."""
        return ImageClassifier(asked, progress or Silent())

    def seeds(self, network: ImageClassifier, asked: Asked) -> Seeds:
        """The network from every seed, each with a threshold chosen on the images that it held back."""
        calibrated = Calibrated(network, FeaturesSection(), 0, *self.aim(asked))
        return Seeds(calibrated, self.count(asked), self, network.progress)

    def save_members(self, members: Mapping[int, Fitted], folder: Path, settings: Settings) -> Settings:
        """The first seed's network is ``model.keras``, the others are named by their seeds; one text tells of all."""
        files = [MODEL_FILE, *(f"seed-{seed}.keras" for seed in list(members)[1:])]
        for file, each in reversed(list(zip(files, members.values(), strict=True))):
            each.save(folder)
            (folder / MODEL_FILE).rename(folder / file)
        known = [each.describe() for each in members.values()]
        shared = {key: known[0][key] for key in ("kind", "classes", *READING)}
        return shared | {"files": files, "thresholds": [each["threshold"] for each in known]}

    def load(self, folder: Path, settings: Settings) -> SeedsFitted:
        members: dict[int, Fitted] = {}
        for number, (file, threshold) in enumerate(zip(settings["files"], settings["thresholds"], strict=True)):
            model = ImageModel.load(folder / file, settings)
            members[number] = CalibratedFitted(model, model.describe(), FeaturesSection(), threshold=float(threshold))
        return SeedsFitted.of(members, self)

    def twin(self, asked: Asked) -> tuple[Classifier, str]:
        cnn, changed = asked.config.cnn, dict[str, object](init=None)
        if cnn.model == "backbone":
            if backbone(cnn.backbone).untrained:
                raise Unavailable("the run's backbone has random weights: it is the untrained twin itself")
            stand_in = next(each.name for each in backbones().values() if each.untrained)
            changed |= {"backbone": stand_in, "weights": None, "weights_sha256": None}
        network, seed = self.network(asked.with_settings("cnn", **changed)), asked.config.seed
        twin = ColumnsClassifier("untrained", lambda cohort: network.trainer(cohort).untrained_features(seed))
        return twin, "one pass through random convolutions, then a logistic regression"

    def exportable(self, folder: Path, settings: Settings, asked: Asked) -> Exportable:
        """The image classifier of the first seed: images (n, H, W, C) in [0, 1]."""
        data = asked.config.cnn.data
        found = sorted(path for path in Path(data).glob("Test/*/*") if path.is_file())[:MOST_SAMPLES] if data else []
        if not found:
            raise DataError(
                "the images that the exported model is compared on are not there", where=data,
                expected="Test/CLASS/IMAGE in the folder the run was trained on",
                hint="name it with --set cnn.data=DIR",
            )  # fmt: skip
        model = load_model(folder / settings["files"][0])
        rows, columns = settings["size"]
        pixels = [
            read_image(
                path,
                colour=settings["color"],
                size=(rows, columns),
                interpolation=settings.get("interpolation", "area"),
            )
            for path in found
        ]
        facts: Settings = {
            "classes": settings["classes"], "threshold": settings["thresholds"][0],
            "input": {"kind": settings["color"], "size": [rows, columns], "range": [0, 1]},
        }  # fmt: skip
        return Exportable(model, {model.inputs[0].name: to_unit(np.stack(pixels))}, facts)
