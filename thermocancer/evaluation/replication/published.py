"""The original study's result tables, as printed: ten rows, with the counts that they imply.

Source: the thesis on DMR-IR thermograms (2024) that this toolkit reproduces, tables 3 to 8. Percentages are
as printed; n, TP, FN, FP and TN are reconstructed from them and match every row. Rows T5-3 and T5-5 are one
printed row: three and five views gave the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

THREE_VIEWS = ("Frontal", "Right", "Left")
"""Our reading of the study's three-view form, which it does not spell out."""

FIVE_VIEWS = ("Frontal", "Right45", "Right", "Left45", "Left")


@dataclass(frozen=True)
class PublishedRow:
    """One printed row. ``cohort`` names the exams it was made on; percentages as printed."""

    name: str
    table: int
    title: str
    cohort: Literal["frontal", "five", "dynamic"]
    variant: Literal["v1", "v2"] | None
    views: tuple[str, ...]
    model: Literal["svm", "network", "sequence"]
    precision: float
    sensitivity: float
    accuracy: float
    f1: float
    tp: int
    fn: int
    fp: int
    tn: int

    @property
    def n(self) -> int:
        return self.tp + self.fn + self.fp + self.tn


def _row(
    name: str, title: str, cohort: Literal["frontal", "five", "dynamic"], variant: Literal["v1", "v2"] | None,
    views: tuple[str, ...], model: Literal["svm", "network", "sequence"], printed: tuple[float, float, float, float],
    counts: tuple[int, int, int, int],
) -> PublishedRow:  # fmt: skip
    return PublishedRow(name, int(name[1]), title, cohort, variant, views, model, *printed, *counts)


FRONTAL = ("Frontal",)
ROWS: tuple[PublishedRow, ...] = (
    _row("T3-v1", "AE v1, frontal, SVM", "frontal", "v1", FRONTAL, "svm", (87.5, 84.9, 90.0, 86.2), (28, 5, 4, 53)),
    _row("T3-v2", "AE v2, frontal, SVM", "frontal", "v2", FRONTAL, "svm", (87.9, 87.9, 91.1, 87.9), (29, 4, 4, 53)),
    _row("T4-3", "AE v1, 3 views, SVM", "five", "v1", THREE_VIEWS, "svm", (92.0, 76.7, 89.2, 83.6), (23, 7, 2, 51)),
    _row("T4-5", "AE v1, 5 views, SVM", "five", "v1", FIVE_VIEWS, "svm", (92.3, 80.0, 90.4, 85.7), (24, 6, 2, 51)),
    _row("T5-3", "AE v2, 3 views, SVM", "five", "v2", THREE_VIEWS, "svm", (92.3, 80.0, 90.4, 85.7), (24, 6, 2, 51)),
    _row("T5-5", "AE v2, 5 views, SVM", "five", "v2", FIVE_VIEWS, "svm", (92.3, 80.0, 90.4, 85.7), (24, 6, 2, 51)),
    _row("T6-3", "AE v1, 3 views, network", "five", "v1", THREE_VIEWS, "network",
         (83.3, 83.3, 87.95, 83.3), (25, 5, 5, 48)),
    _row("T6-5", "AE v1, 5 views, network", "five", "v1", FIVE_VIEWS, "network",
         (86.7, 86.7, 90.4, 86.7), (26, 4, 4, 49)),
    _row("T7-3", "AE v2, 3 views, network", "five", "v2", THREE_VIEWS, "network",
         (85.7, 80.0, 87.95, 82.8), (24, 6, 4, 49)),
    _row("T7-5", "AE v2, 5 views, network", "five", "v2", FIVE_VIEWS, "network",
         (96.0, 80.0, 91.6, 87.3), (24, 6, 1, 52)),
    _row("T8", "sequence network, LSTM 24", "dynamic", None, FRONTAL, "sequence",
         (88.9, 85.7, 90.8, 87.3), (24, 4, 3, 45)),
)  # fmt: skip
ROW_NAMES = tuple(row.name for row in ROWS)
SAME_PRINTED_ROW = {"T5-5": "T5-3"}
"""The table prints one row for both."""

TARGETS = {"precision": (93, 2), "sensitivity": (85, 3), "accuracy": (95, 3), "f1": (92, 4)}
"""What the study set out to reach, percent and tolerance. No row meets precision and sensitivity together."""

SOURCE = "original study (2024), tables 3 to 8; counts reconstructed from the printed percentages"
