"""``predictions.csv``: out-of-sample scores, one row an exam and repeat, and scores a unit."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thermocancer.errors import DataError
from thermocancer.files import reading, write_text

COLUMNS = ("patient", "visit", "fold", "label", "score", "predicted")
FILE_COLUMN = "file"
"""The seventh column where single images are scored."""


@dataclass(frozen=True)
class Prediction:
    """One out-of-sample score. ``fold`` is ``REPEAT.FOLD`` in cross-validation, ``test`` in a hold-out."""

    patient: int
    visit: int
    fold: str
    label: int
    score: float
    predicted: int


@dataclass(frozen=True)
class Unit:
    """What is counted once: the exams of one patient, or one visit where the patient's labels differ.

    ``score`` is the mean over the unit's rows; ``predicted`` the majority of its rows' decisions.
    """

    patient: int
    visit: int | None
    label: int
    score: float
    predicted: int
    rows: tuple[Prediction, ...]


def write_predictions(path: Path, rows: Sequence[Prediction], files: Sequence[str] | None = None) -> None:
    """Write the rows, sorted by patient, visit and fold, whole or not at all."""
    write_text(path, predictions_text(rows, files))


def predictions_text(rows: Sequence[Prediction], files: Sequence[str] | None = None) -> str:
    """The content of ``predictions.csv``; ``files``, where given, the image behind each row, as a seventh column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS if files is None else (*COLUMNS, FILE_COLUMN))
    named = zip(rows, [()] * len(rows) if files is None else [(file,) for file in files], strict=True)
    for row, name in sorted(named, key=lambda each: (each[0].patient, each[0].visit, each[0].fold)):
        writer.writerow([row.patient, row.visit, row.fold, row.label, repr(float(row.score)), row.predicted, *name])
    return text.getvalue()


def read_predictions(path: Path) -> list[Prediction]:
    """Read ``predictions.csv``.

    Raises DataError with the line of the first row that is wrong, or gives an exam another label than a row before.
    """
    rows = [_parse(row, f"{path}:{number}") for number, row in enumerate(_table(path), start=2)]
    if not rows:
        raise DataError("this run has no predictions", where=path, expected="one row an exam", found="none")
    labels: dict[tuple[int, int], int] = {}
    for number, row in enumerate(rows, start=2):
        if labels.setdefault((row.patient, row.visit), row.label) != row.label:
            raise DataError(
                "an exam has two labels", where=f"{path}:{number}", found=f"exam {row.patient}_{row.visit}",
                hint="train the run again",
            )  # fmt: skip
    return rows


def read_files(path: Path) -> list[str]:
    """The image behind each row of a ``predictions.csv`` of single images. Raises DataError where none is named."""
    rows = _table(path)
    if rows and FILE_COLUMN not in rows[0]:
        raise DataError("these predictions name no images", where=f"{path}:1", expected=f"a column {FILE_COLUMN}")
    return [row[FILE_COLUMN] for row in rows]


def _table(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise DataError("this run has no predictions", where=path, hint="train the run again")
    with (
        reading(path, "these predictions cannot be read", hint="train the run again"),
        open(path, encoding="utf-8", newline="") as handle,
    ):
        reader = csv.DictReader(handle)
        if tuple(reader.fieldnames or ())[: len(COLUMNS)] != COLUMNS:
            raise DataError(
                "these are not predictions", where=f"{path}:1", expected=",".join(COLUMNS), found=reader.fieldnames
            )
        return list(reader)


def _parse(row: dict[str, str], where: str) -> Prediction:
    try:
        prediction = Prediction(
            patient=int(row["patient"]),
            visit=int(row["visit"]),
            fold=row["fold"],
            label=int(row["label"]),
            score=float(row["score"]),
            predicted=int(row["predicted"]),
        )
    except (TypeError, ValueError) as error:
        raise DataError("a prediction cannot be read", where=where, found=error) from error
    binary = prediction.label in (0, 1) and prediction.predicted in (0, 1)
    if not binary or not 0.0 <= prediction.score <= 1.0:
        expected = "label and predicted 0 or 1, score 0 to 1"
        raise DataError("a prediction is out of range", where=where, expected=expected, found=row)
    return prediction


def to_units(rows: Sequence[Prediction], *, by_exam: bool = False) -> list[Unit]:
    """Gather rows into units: a patient, or each visit of a patient whose labels differ; or each exam by itself."""
    labels: dict[int, set[int]] = {}
    for row in rows:
        labels.setdefault(row.patient, set()).add(row.label)
    groups: dict[tuple[int, int | None], list[Prediction]] = {}
    for row in rows:
        visit = row.visit if by_exam or len(labels[row.patient]) > 1 else None
        groups.setdefault((row.patient, visit), []).append(row)
    units = []
    for (patient, visit), members in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
        score = sum(each.score for each in members) / len(members)
        votes = sum(each.predicted for each in members)
        units.append(Unit(patient, visit, members[0].label, score, int(2 * votes >= len(members)), tuple(members)))
    return units
