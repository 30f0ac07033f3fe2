"""Answers of a run of ``train-cnn`` for new images, and for series of slices (NIfTI, DICOM)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.seeds import SeedsFitted
from thermocancer.config import Config
from thermocancer.config.learning import CnnSection
from thermocancer.data.class_images import Pixels, is_image, pixel_hash, read_image, shaped
from thermocancer.data.cohort import IMAGE, ArrayCohort, Exam, FloatArray
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_entries import Entry, files_below, open_volume, series_in
from thermocancer.data.names import is_junk, safe_name
from thermocancer.data.series import Drawing, is_nifti, patient_in_name
from thermocancer.errors import DataError, ThermocancerError
from thermocancer.evaluation.prediction.novelty import Met
from thermocancer.evaluation.prediction.page import budget_of, encoded
from thermocancer.evaluation.prediction.scoring import UNCOMPARED, decision_words
from thermocancer.files import HashIndex, Json
from thermocancer.runs.predictions import read_files
from thermocancer.runs.run import PREDICTIONS, Run

THUMBNAIL = 240


def image_files(paths: Sequence[Path]) -> dict[str, Entry]:
    """The images and series (NIfTI, DICOM) at ``paths``, or below them, by the name that they go by.

    Raises DataError when there is none.
    """
    found: dict[str, Entry] = {}
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file or folder", where=path, hint="predict FILE or FOLDER --run NAME")
        below = [path] if path.is_file() else sorted(files_below(path))
        inside = [each for each in below if is_nifti(each) or is_image(each)]
        inside = [each for each in inside if each == path or not any(map(is_junk, each.relative_to(path).parts))]
        places: dict[Path, list[Path]] = {}
        for each in inside:
            places.setdefault(each.parent, []).append(each)
        for place, own in places.items():
            volumes = [] if path.is_file() else series_in(place, own)
            taken = {each for _, members in volumes for each, _ in members}
            entries = [Entry(where, "", "", members=members) for where, members in volumes]
            for entry in [*entries, *(Entry(each, "", "") for each in own if each not in taken)]:
                is_whole = entry.path == path  # what was named itself
                name = entry.path.name if is_whole else entry.path.relative_to(path).as_posix()
                found[name if name not in found else str(entry.path)] = entry
    if not found:
        raise DataError("there is no image here", where=paths[0], expected="PNG, JPEG, TIFF, BMP, DICOM or NIfTI files")
    return found


def image_answers(
    run: Run, config: Config, paths: Sequence[Path], *, pictured: bool
) -> tuple[list[Json], dict[str, list[Json]]]:
    """One answer an image, as ``predict`` shows them, and the pictures of its page; ``config`` is the run's own.

    Raises DataError when the run kept no classifier of single images.
    """
    found = image_files(paths)
    strategy.set_up(config.strategy, config.seed)
    fitted = load_fitted(run.model_folder, run.workspace)
    if not isinstance(fitted, SeedsFitted):
        raise DataError("this run classifies no single images", where=run.model_folder, hint="train the run again")
    trained = _trained_on(run, config.cnn)
    answers: list[Json] = []
    pictures: dict[str, list[Json]] = {}
    for name, entry in found.items():
        try:
            shown = _read(entry, config.cnn)
        except DataError as error:
            verdicts = [{"code": "unreadable", "reason": error.what}]
            refused = {"exam": name, "files": [_file(entry, verdicts)], "status": "refused", "reason": error.what}
            answers.append(refused)
            continue
        answers.append(
            _answer(fitted, run, shown, name) | {"files": [_file(entry, [])], "in_training": shown.met(trained)}
        )
        if pictured:
            pictures[name] = [_picture(entry, shown, budget_of(len(found)))]
    return answers, pictures


# --- what was asked about, and what the run was trained on ------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """An image, or the slices that are drawn of a series: what the network sees (n, rows, columns, channels), and
    what stands for each picture. ``patient`` is empty where nothing says it."""

    pixels: Pixels
    digests: tuple[str, ...]
    is_series: bool = False
    patient: str = ""
    notes: tuple[str, ...] = ()

    def met(self, trained: dict[str, str] | None) -> Met:
        if trained is None:
            return {"status": "unknown", "words": "the run's images are not here: what was in training is not known"}
        same = next((trained[each] for each in self.digests if each in trained), None)
        if same is not None:
            what = (
                f"slices of this very series ({same.partition('#')[0]})"
                if self.is_series
                else f"this very picture ({same})"
            )
            return {"status": "exam", "words": f"the run was trained on {what}"}
        if self.patient and _PATIENT + self.patient in trained:
            words = f"the run was trained on another series of patient {trained[_PATIENT + self.patient]}"
            return {"status": "patient", "words": words}
        return {"status": "no", "words": ""}


_PATIENT = "patient "


def _read(entry: Entry, cnn: CnnSection) -> Shown:
    """Raises DataError where it cannot be read."""
    if not entry.members and not is_nifti(entry.path):
        pixels = read_image(entry.path, colour=cnn.color, size=cnn.size, interpolation=cnn.interpolation)
        return Shown(pixels[np.newaxis], (pixel_hash(entry.path),))
    volume = open_volume(entry, lambda path, make: make(path))
    drawing = Drawing.of(cnn)
    places = drawing.places(volume.depth)
    slices = [
        shaped(each, colour=cnn.color, size=cnn.size, interpolation=cnn.interpolation)
        for each in volume.slices(places, drawing)
    ]
    note = f"{len(places)} of {volume.depth} slices, over the central {drawing.share:.0%}"
    digests = tuple(volume.digest(place) for place in places)
    return Shown(np.stack(slices), digests, True, volume.patient or patient_in_name(entry.path.as_posix()), (note,))


def _trained_on(run: Run, cnn: CnnSection) -> dict[str, str] | None:
    """The pictures that the run was trained on or chosen by, by what stands for each; None where they are gone.

    Of a run with several folds that is every one: its kept model is fitted on all.
    """
    if not cnn.data or not Path(cnn.data).exists():
        return None
    index = HashIndex(run.workspace.cache / "image_hashes.json")
    try:
        images = ImageCohort.of(cnn, run.workspace.cache, index).folder.images
    except ThermocancerError:  # another folder than the one that the run has seen
        return None
    index.save()
    tested = set(read_files(run.folder / PREDICTIONS)) if cnn.folds == "parts" else set()
    own = [image for image in images if image.path not in tested]
    return {image.sha256: image.path for image in own} | {_PATIENT + image.group: image.group for image in own}


# --- answers ----------------------------------------------------------------------------------------------------------


def _answer(fitted: SeedsFitted, run: Run, shown: Shown, name: str) -> Json:
    """One answer: the score (of a series the mean of its slices'), what is decided, and its interval."""
    count, threshold = len(shown.pixels), run.manifest.threshold
    exams = tuple(Exam(1, 1, 0) for _ in range(count))
    apart = fitted.apart(ArrayCohort(exams, {IMAGE: shown.pixels[:, np.newaxis]}), np.arange(count))
    scores, calls = fitted.together(apart)
    score, share, reason = float(scores.mean()), float(np.mean(calls)), ""
    call: int | None = int(share > 0.5)
    if shown.is_series and count > 1:
        interval = slices_interval(scores)
        if interval["low"] <= threshold <= interval["high"] or call != int(score >= threshold) or share == 0.5:
            call, reason = (
                None,
                f"its slices do not agree: {round(share * count)} of {count} are above the operating point",
            )
    elif len(apart) > 1:
        seeds = [float(each.mean()) for each, _ in apart]
        interval = {"low": min(seeds), "high": max(seeds), "method": f"range of {len(seeds)} seeds"}
    else:
        interval = {"low": None, "high": None, "method": "not available: the run has one seed (cnn.seeds)"}
    said = {
        "exam": name, "status": "scored" if call is not None else "abstained", "reason": reason, "score": score,
        "interval": interval, "threshold": threshold, "like_scores": None,
        "decision": None if call is None else f"{decision_words(bool(call))}: {run.manifest.classes[call]}",
        "out_of_distribution": UNCOMPARED, "note": "; ".join(shown.notes),
    }  # fmt: skip
    if shown.is_series and speaks_of_contrast(run.manifest.classes[1]):
        said["bids_ce"] = "n/a" if call is None else "ce-gadolinium" if call else ""
    return said


def slices_interval(scores: FloatArray, draws: int = 2000) -> Json:
    """95 % interval of the mean of one series' slices, by drawing slices with replacement.

    It tells how far the slices agree, and nothing of how far the run errs on new patients: slices of one head are
    alike. That is what ``evaluate`` tells.
    """
    chosen = np.random.default_rng(len(scores)).integers(0, len(scores), (draws, len(scores)))
    low, high = np.percentile(scores[chosen].mean(axis=1), [2.5, 97.5])
    method = f"how far the {len(scores)} slices of this series agree (drawn with replacement), not how far the run errs"
    return {"low": float(low), "high": float(high), "method": method}


def speaks_of_contrast(positive: str) -> bool:
    """Is the positive class one of images after a contrast agent, by its name?

    >>> [speaks_of_contrast(name) for name in ("Post", "T1-gad", "with_contrast", "sick", "no contrast")]
    [True, True, True, False, False]
    """
    words = set(re.split(r"[^a-z]+", positive.lower()))
    return bool(words & {"post", "gad", "gd", "gadolinium", "contrast", "ce", "enhanced", "postcontrast"}) and not (
        words & {"no", "non", "without", "pre"}
    )


def _file(entry: Entry, verdicts: Sequence[dict[str, str]]) -> Json:
    kind = "DICOM series" if entry.members else entry.path.suffix.lower().lstrip(".")
    name = safe_name(entry.path.name)
    return {"file": name, "view": None, "layout": kind, "range_celsius": None, "verdicts": verdicts, "notes": []}


def _picture(entry: Entry, shown: Shown, most_bytes: int) -> Json:
    """The image, or the middle slice of a series."""
    if shown.is_series:
        pixels = np.ascontiguousarray(
            shaped(shown.pixels[len(shown.pixels) // 2].squeeze(), size=(THUMBNAIL, THUMBNAIL))
        )
    else:
        pixels = read_image(entry.path, size=(THUMBNAIL, THUMBNAIL))
    name = safe_name(entry.path.name)
    return {"picture": encoded(pixels, most_bytes), "alternative": f"The image {name}", "caption": name}
