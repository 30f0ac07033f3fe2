"""What a run's scores had to do with its training: named in the manifest, never hidden."""

from __future__ import annotations

from collections.abc import Sequence

from thermocancer.classifiers.protocol import Asked
from thermocancer.data.cohort import Cohort
from thermocancer.data.split import Fold, thesis_leaks
from thermocancer.kinds import Kind, Reads

CHOSEN_ON_TEST = "threshold fixed at 0.5, models chosen on the test part"


def leaks_of(kind: Kind, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> list[str]:
    """What the scored exams of a run, or its choice of model and threshold, had to do with training."""
    found = []
    if asked.config.split.protocol == "thesis":
        found = [*thesis_leaks(cohort.exams, folds), CHOSEN_ON_TEST, *_lost_in_rendering(kind, asked, cohort)]
    found += kind.family().leaks(asked, cohort, folds)
    return list(dict.fromkeys(found))


def _lost_in_rendering(kind: Kind, asked: Asked, cohort: Cohort) -> list[str]:
    """Defects of the original recipe's pictures, as far as this run shares them."""
    if kind.reads is Reads.FRAMES:
        return []
    config, found = asked.config, []
    images = cohort.kind == "rgb"
    rendering = config.convert.rendering if images else config.autoencoder.input.rendering
    if rendering.range == "minmax" and (images or kind.reads is Reads.CODES):
        found.append("each image scaled by its own minimum and maximum: absolute temperature lost, noise stretched")
    if images and config.convert.format == "jpg":
        found.append("JPEG images instead of temperatures")
    return found
