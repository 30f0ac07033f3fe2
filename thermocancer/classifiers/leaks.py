"""What a run's scores had to do with its training: named in the manifest, never hidden."""

from __future__ import annotations

from collections.abc import Sequence

from thermocancer.classifiers.encoders import Encoders
from thermocancer.classifiers.recipes import ENCODED
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, Exam
from thermocancer.data.split import Fold, thesis_leaks
from thermocancer.workspace import Workspace

CHOSEN_ON_TEST = "threshold fixed at 0.5, models chosen on the test part"


def fusion_leaks(
    config: Config, workspace: Workspace, source: Cohort, views: tuple[str, ...], folds: Sequence[Fold]
) -> list[str]:
    """What the scored exams of a run of ``fuse``, or its choice of model and threshold, had to do with training."""
    found = []
    if config.split.protocol == "thesis":
        found = [*thesis_leaks(source.exams, folds), CHOSEN_ON_TEST, *_lost_in_rendering(config, source)]
    if config.fuse.model in ENCODED:
        found += Encoders.of(config, workspace).leaks(source, views, folds)
    return list(dict.fromkeys(found))


def _lost_in_rendering(config: Config, source: Cohort) -> list[str]:
    """Defects of the original recipe's pictures, as far as this run shares them."""
    found = []
    images = source.kind == "rgb"
    rendering = config.convert.rendering if images else config.autoencoder.input.rendering
    if rendering.range == "minmax" and (images or config.fuse.model in ENCODED):
        found.append("each image scaled by its own minimum and maximum: absolute temperature lost, noise stretched")
    if images and config.convert.format == "jpg":
        found.append("JPEG images instead of temperatures")
    return found


def sequence_leaks(config: Config, exams: Sequence[Exam], folds: Sequence[Fold]) -> list[str]:
    """The same for a run of ``train-dit``."""
    if config.split.protocol != "thesis":
        return []
    found = [*thesis_leaks(exams, folds), CHOSEN_ON_TEST]
    if config.dit.backbone == "autoencoder":
        found.append("the autoencoder may have seen test exams")
    return found
