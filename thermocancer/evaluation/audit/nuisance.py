"""Each nuisance variable alone, and all of them together: the model that sees no breast."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thermocancer.classifiers.logistic import ridge_logistic
from thermocancer.data.cohort import FloatArray
from thermocancer.data.nuisance import LAYOUT, OUTSIDE_THE_BREAST
from thermocancer.evaluation.audit.controls import NUISANCE, Control, Judge, flag_shortcut, rows_of
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.evaluation.report.exams import ExamFacts
from thermocancer.evaluation.statistics.comparison import holm
from thermocancer.evaluation.statistics.intervals import midranks
from thermocancer.runs.predictions import Prediction
from thermocancer.workspace import VIEWS

FAMILIES = {
    "calendar": "the calendar",
    "camera": "the camera",
    "room": "the room temperature",
    "marker": "the reference marker",
    "framing": "the framing",
    "visit": "which views and visits there are",
    "other": "another measurement outside the breast",
}
"""What a variable stands for, in the words of the verdict."""

CATALOG = {
    "date_ordinal": ("exam date", "calendar"),
    "patient": ("patient number", "calendar"),
    "visit": ("number of the visit", "visit"),
    "file_bytes": ("size of the file", "camera"),
}
"""Variables that the catalog knows without opening a picture: title and family."""

PICTURE = {
    "room_celsius": ("background temperature", "room"),
    "room_spread": ("spread of the background temperature", "room"),
    "frame_minimum": ("lowest temperature of the frame", "room"),
    "marker_area": ("size of the reference marker", "marker"),
    "marker_celsius": ("temperature of the reference marker", "marker"),
    "torso_area": ("share of the frame that the body fills", "framing"),
    "centroid_x": ("place of the body, sideways", "framing"),
    "centroid_y": ("place of the body, in height", "framing"),
    "top_width": ("width of the body at the top", "framing"),
    "bottom_width": ("width of the body at the bottom", "framing"),
    "top_row": ("first row that shows the body", "framing"),
    "bottom_row": ("last row that shows the body", "framing"),
    "edge_sharpness": ("sharpness of the outline", "camera"),
}
"""Variables that ``data/nuisance.py`` measures in the picture; others keep their own name."""


@dataclass(frozen=True)
class Variable:
    """One nuisance variable: ``columns`` (n, k), a category spread over indicator columns."""

    name: str
    title: str
    family: str
    columns: FloatArray
    measured: bool
    """True when it was measured in the picture, False when the catalog knows it."""


def variables(scope: Scope) -> list[Variable]:
    """Every variable that differs among the scored exams: those of the catalog, then those of the pictures."""
    exams, empty = scope.exams, ExamFacts()
    facts = [scope.facts.get((exam.patient, exam.visit), empty) for exam in exams]
    layouts = sorted({exam.layout for exam in exams})
    formats = np.array([[float(exam.layout == layout) for layout in layouts] for exam in exams])
    found = [Variable("layout", "acquisition format", "camera", formats, False)]
    for name, values in (
        ("date_ordinal", scope.dates()),
        ("patient", np.array([float(exam.patient) for exam in exams])),
        ("visit", np.array([float(exam.visit) for exam in exams])),
        ("file_bytes", np.array([float(each.bytes or np.nan) for each in facts])),
    ):
        found.append(Variable(name, *CATALOG[name], values[:, None], False))
    if any(each.files for each in facts):
        views = np.array([[float(view in each.files) for view in VIEWS] for each in facts])
        found.append(Variable("views", "which views there are", "visit", views, False))
    measured = {} if scope.cohort is None else scope.cohort.nuisance()
    for name in sorted(measured, key=lambda each: (list(PICTURE).index(each) if each in PICTURE else 99, each)):
        if name not in CATALOG and not name.startswith(LAYOUT):
            title, family = PICTURE.get(name, (name.replace("_", " "), "other"))
            found.append(Variable(name, title, family, np.asarray(measured[name], float)[:, None], True))
    known = [np.where(np.isfinite(each.columns), each.columns, -1e9)[scope.scored] for each in found]
    return [each for each, columns in zip(found, known, strict=True) if np.any(np.ptp(columns, axis=0) > 0)]


def nuisance_controls(scope: Scope, judge: Judge) -> list[Control]:
    """Each variable alone (corrected for their number), those in the picture together, and all together."""
    found = variables(scope)
    alone = [
        judge.control(each.name, each.title, NUISANCE, score_alone(scope, each.columns), family=each.family)
        for each in found
    ]
    corrected = holm([1.0 if control.p is None else control.p for control in alone])
    controls = [replace(control, p_holm=chance) for control, chance in zip(alone, corrected, strict=True)]
    outside = [each for each in found if each.name in OUTSIDE_THE_BREAST] or [each for each in found if each.measured]
    for name, title, members in (
        ("outside_the_breast", "room, marker and framing together", outside),
        ("no_breast", "everything together: the model that sees no breast", found),
    ):
        if len(members) > 1:
            rows = score_together(scope, np.hstack([each.columns for each in members]))
            controls.append(judge.control(name, title, NUISANCE, rows, note=f"RBF SVM on {len(members)} variables"))
    return [flag_shortcut(control) for control in controls]


def association(scope: Scope, first: str, second: str) -> float:
    """How closely two variables go together among exams of one label: mean absolute rank correlation.

    Looking inside each class keeps the label itself from tying them. Categories count by their first column.
    """
    columns = {each.name: each.columns[:, 0] for each in variables(scope)}
    values = []
    for label in (0, 1):
        rows = scope.scored[scope.labels[scope.scored] == label]
        one, other = columns[first][rows], columns[second][rows]
        known = np.isfinite(one) & np.isfinite(other)
        if known.sum() > 3 and np.ptp(one[known]) > 0 and np.ptp(other[known]) > 0:
            values.append(abs(float(np.corrcoef(midranks(one[known]), midranks(other[known]))[0, 1])))
    return float(np.mean(values)) if values else 0.0


def score_alone(scope: Scope, columns: FloatArray) -> list[Prediction]:
    """Out-of-fold scores of one variable: its rank among the training exams, direction learnt there."""
    rows: list[Prediction] = []
    for fold in scope.folds:
        known = columns[fold.train]
        weights = ridge_logistic(ranked(known, known), scope.labels[fold.train])
        odds = np.column_stack([np.ones(len(fold.test)), ranked(known, columns[fold.test])]) @ weights
        rows += rows_of(scope.exams, fold, 1 / (1 + np.exp(-odds)))
    return rows


def ranked(reference: FloatArray, values: FloatArray) -> FloatArray:
    """Each column's share of known reference values below (-0.5 to 0.5), and an indicator of being unknown."""
    parts = []
    for column, known in zip(values.T, reference.T, strict=True):
        sound = np.sort(known[np.isfinite(known)])
        share = (np.searchsorted(sound, column, "left") + np.searchsorted(sound, column, "right")) / 2
        rank = share / max(len(sound), 1) - 0.5
        missing = ~np.isfinite(column)
        parts += [np.where(missing, 0.0, rank), missing.astype(float)]
    return np.column_stack(parts)


def score_together(scope: Scope, columns: FloatArray) -> list[Prediction]:
    """Out-of-fold scores of an RBF support vector machine on all variables, standardised in training."""
    from sklearn.svm import SVC

    rows: list[Prediction] = []
    for fold in scope.folds:
        known = columns[fold.train]
        middle = np.array([np.median(each[np.isfinite(each)]) if np.isfinite(each).any() else 0.0 for each in known.T])
        train, test = (_filled(columns[part], middle) for part in (fold.train, fold.test))
        mean, spread = train.mean(axis=0), train.std(axis=0)
        spread[spread == 0] = 1.0
        machine = SVC(kernel="rbf", class_weight="balanced").fit((train - mean) / spread, scope.labels[fold.train])
        decisions = machine.decision_function((test - mean) / spread)
        rows += rows_of(scope.exams, fold, 1 / (1 + np.exp(-decisions)))
    return rows


def _filled(values: FloatArray, middle: FloatArray) -> FloatArray:
    """Unknown values become the training median, with an indicator beside them."""
    missing = ~np.isfinite(values)
    return np.hstack([np.where(missing, middle, values), missing.astype(float)])
