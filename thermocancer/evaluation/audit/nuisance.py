"""Each nuisance variable alone, and all of them together: the model that sees no breast.

A variable with an order is tested for any shape: by its rank (the label rises or falls with it), and by the labels of
its nearest values (sick are the middle third of the dates). Both count in the correction for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.data.folder.dates import mostly_dates, read_dates
from thermocancer.data.folder.words import names_a_label, polarity
from thermocancer.data.nuisance import LAYOUT, MISSING_SHARE, OUTSIDE_THE_BREAST
from thermocancer.errors import ConfigError
from thermocancer.evaluation.audit.controls import (
    NUISANCE,
    Control,
    Judge,
    LeftOut,
    flag_shortcut,
    mann_whitney_p,
)
from thermocancer.evaluation.audit.scope import Scope, Tested, Variable, category, day_number
from thermocancer.evaluation.audit.variable_scores import (
    alike,
    nearest,
    score_alone,
    score_neighbours,
    score_together,
    shuffled_p,
)
from thermocancer.evaluation.report.exams import ExamFacts
from thermocancer.evaluation.statistics.comparison import holm
from thermocancer.evaluation.statistics.intervals import midranks
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.runs.predictions import Prediction
from thermocancer.workspace import VIEWS

FAMILIES = {
    "calendar": "the calendar",
    "camera": "the camera",
    "room": "the room temperature",
    "marker": "the reference marker",
    "framing": "the framing",
    "fill": "which pixels were cut out or filled",
    "visit": "which views and visits there are",
    "age": "age",
    "column": "another column of the labels",
    "names": "the numbers in the names of the files",
    "file": "how the files were written",
    "grey": "brightness, contrast or sharpness of the whole picture",
    "other": "another measurement outside the breast",
}
"""What a variable stands for, in the words of the verdict."""

CATALOG = {
    "date_ordinal": ("exam date", "calendar"),
    "patient": ("patient number", "calendar"),
    "visit": ("number of the visit", "visit"),
    "file_bytes": ("size of the file", "camera"),
    "age": ("age", "age"),
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

OF_SOME = {MISSING_SHARE: ("share of the frames without temperatures (fill, crops)", "fill")}
"""Variables that are there only where some exam has what they measure."""


def variables(scope: Scope) -> list[Variable]:
    """Every variable that differs among the scored exams: those of the catalog, then those of the pictures."""
    if scope.of_files:
        return [each for each in scope.of_files if _differs(each.columns[scope.scored])]
    exams, empty = scope.exams, ExamFacts()
    facts = [scope.facts.get((exam.patient, exam.visit), empty) for exam in exams]
    views = [view for view in VIEWS if any(view in each.files for each in facts)]
    sizes = [[each.sizes.get(view) or np.nan for view in views] for each in facts]
    found = formats(scope, facts)
    for name, columns in (
        ("date_ordinal", scope.dates()[:, None]),
        ("patient", np.array([[float(exam.patient)] for exam in exams])),
        ("visit", np.array([[float(exam.visit)] for exam in exams])),
        ("file_bytes", np.array(sizes if views else [[each.bytes or np.nan] for each in facts], dtype=np.float64)),
        ("age", np.array([[np.nan if each.age is None else float(each.age)] for each in facts])),
    ):
        if name not in _assigned(scope):
            found.append(Variable(name, *CATALOG[name], columns, False))
    if views:
        there = np.array([[float(view in each.files) for view in VIEWS] for each in facts])
        found.append(Variable("views", "which views there are", "visit", there, False, ordered=False))
    for name in _columns(scope)[0]:
        made = column_variable(name, [each.columns.get(name, "") for each in facts])
        found += [made] if isinstance(made, Variable) else []
    measured = {} if scope.cohort is None else scope.cohort.nuisance()
    for name in sorted(measured, key=lambda each: (list(PICTURE).index(each) if each in PICTURE else 99, each)):
        if name not in CATALOG and not name.startswith(LAYOUT):
            title, family = (PICTURE | OF_SOME).get(name, (name.replace("_", " "), "other"))
            found.append(Variable(name, title, family, np.asarray(measured[name], float)[:, None], True))
    return [each for each in found if _differs(each.columns[scope.scored])]


def _differs(columns: FloatArray) -> bool:
    return bool(np.any(np.ptp(np.where(np.isfinite(columns), columns, -1e9), axis=0) > 0))


def formats(scope: Scope, facts: Sequence[ExamFacts]) -> list[Variable]:
    """What kind of file every view came from; views that divide the exams alike are one variable."""
    views = [view for view in VIEWS if any(view in dict(exam.formats) for exam in scope.exams)]
    values = {view: [dict(exam.formats).get(view, "") for exam in scope.exams] for view in views}
    if not views:  # an older data set, or none: the catalog knows
        views = [view for view in VIEWS if any(view in each.formats for each in facts)]
        values = {view: [each.formats.get(view, "") for each in facts] for view in views}
    if not views:
        values = {"": [exam.layout for exam in scope.exams]}
    found: dict[tuple[int, ...], list[str]] = {}
    for view, kinds in values.items():
        found.setdefault(tuple(map(kinds.index, kinds)), []).append(view)
    title = "acquisition format"
    return [
        category(
            f"layout_{own[0]}" if number else "layout",
            title if len(found) == 1 else f"{title} of {', '.join(own)}", "camera", values[own[0]],
        )
        for number, own in enumerate(found.values())
    ]  # fmt: skip


# --- columns of the labels file and fields of the site ----------------------------------------------------------------

ALL = "all"
MOST_KINDS = 0.25
"""A text with more different values than this share of the exams is no category but a remark."""


def column_variable(name: str, cells: Sequence[str]) -> Variable | str:
    """A column as what its cells are: dates, numbers (nine in ten cells), or kinds; or why it is none of these."""
    filled = [cell for cell in cells if cell.strip()]
    title = f"column `{name}`"
    numbers = np.array([_number(cell) for cell in cells])
    if filled and np.isfinite(numbers).sum() >= 0.9 * len(filled):
        return Variable(f"column_{name}", title, "column", numbers[:, None], False)
    if mostly_dates(cells):
        try:
            days = read_dates(cells, None, title).days
        except ConfigError as error:
            return error.what
        return Variable(f"column_{name}", title, "column", np.array([day_number(day) for day in days])[:, None], False)
    kinds = {cell.strip().casefold() for cell in filled}
    if len(kinds) > max(2, MOST_KINDS * len(filled)):
        return f"{len(kinds)} different texts in {len(filled)} exams are no category"
    return category(f"column_{name}", title, "column", [cell.strip().casefold() for cell in cells])


def _number(cell: str) -> float:
    try:
        return float(cell.strip().replace(",", "."))
    except ValueError:
        return float("nan")


def _columns(scope: Scope) -> tuple[list[str], list[str]]:
    """The columns that are asked for, and those that are there besides; ``all`` leaves out what names a diagnosis."""
    every = sorted({name for facts in scope.facts.values() for name in facts.columns})
    wanted = list(scope.wanted)
    if wanted == [ALL]:
        wanted = [name for name in every if not names_a_label(name) and polarity(name) is None]
    return wanted, [name for name in every if name not in wanted]


def not_audited(scope: Scope) -> LeftOut:
    """What could be a nuisance variable and is none, each with the reason."""
    found = [(CATALOG[name][0], reason) for name, reason in _assigned(scope).items()]
    measured = {} if scope.cohort is None else scope.cohort.nuisance()
    if "room_celsius" in measured and "edge_sharpness" not in measured:
        why = "the data set was built by an earlier version, whose figure rose with the skin's warmth: build it again"
        found.append((PICTURE["edge_sharpness"][0], why))
    wanted, others = _columns(scope)
    facts = [scope.facts.get((exam.patient, exam.visit), ExamFacts()) for exam in scope.exams]
    for name in wanted:
        cells = [each.columns.get(name, "") for each in facts]
        made = column_variable(name, cells)
        if not any(cells):
            found.append((f"column `{name}`", "no exam of this run has it"))
        elif isinstance(made, str):
            found.append((f"column `{name}`", made))
    if others:
        found.append((f"columns {', '.join(others)}", "cohort.facts does not name them"))
    return [{"name": name, "reason": reason} for name, reason in found]


def _assigned(scope: Scope) -> dict[str, str]:
    """``patient`` and ``visit`` where ``import`` made numbers up, with the words for it."""
    keys = [(scope.exams[row].patient, scope.exams[row].visit) for row in scope.scored]
    made_up = [scope.facts[key].assigned for key in keys if key in scope.facts]
    counts = {name: sum(name in each for each in made_up) for name in ("patient", "visit")}
    return {
        name: "assigned by import"
        + (f" in {count} of {len(keys)} exams" if count < len(keys) else "")
        + ", not audited"
        for name, count in counts.items()
        if count
    }


# --- tests and scores -------------------------------------------------------------------------------------------------


def nuisance_controls(scope: Scope, judge: Judge) -> list[Control]:
    """Each variable alone (corrected for the number of tests), those in the picture together, and all together."""
    found = variables(scope)
    outside = [each for each in found if each.name in OUTSIDE_THE_BREAST] or [each for each in found if each.measured]
    groups = [
        ("outside_the_breast", "room, marker and framing together", outside),
        ("no_breast", "everything together: the model that sees no breast", found),
    ]
    if scope.of_files:
        groups = [("no_breast", "names, files and grey levels together, without any place in the picture", found)]
    return controls_of(scope, judge, found, groups)


def controls_of(
    scope: Tested, judge: Judge, found: Sequence[Variable], groups: Sequence[tuple[str, str, Sequence[Variable]]]
) -> list[Control]:
    """Each variable alone, in whichever of its two forms is surer, then each group (name, title, members) together."""
    tests: list[tuple[Variable, str, list[Prediction], float]] = []
    for each in found:
        units = gather_units(rows := score_alone(scope, each.columns))
        tests.append((each, "", rows, mann_whitney_p(units.labels, units.scores)))
        if each.ordered:
            p = shuffled_p(scope, each.columns, nearest)
            tests.append((each, BY_NEIGHBOURS, score_neighbours(scope, each.columns), p))
    corrected = holm([p for *_, p in tests])
    controls = []
    for each in found:
        own = [(p, number) for number, (variable, _, _, p) in enumerate(tests) if variable is each]
        _, number = min((p * (SURER if tests[number][1] else 1), number) for p, number in own)
        _, shape, rows, p = tests[number]
        title = each.title + (", by its nearest values" if shape else "")
        control = judge.control(each.name, title, NUISANCE, rows, family=each.family, note=shape)
        controls.append(replace(control, p=p, p_holm=corrected[number]))
    for name, title, members in groups:
        if len(members) > 1:
            rows = score_together(scope, np.hstack([each.columns for each in members]))
            note = f"RBF SVM on {len(members)} variables; p by shuffled labels"
            p = shuffled_p(scope, np.hstack([each.columns for each in members]), alike)
            controls.append(replace(judge.control(name, title, NUISANCE, rows, note=note), p=p))
    return [flag_shortcut(control) for control in controls]


BY_NEIGHBOURS = "by the labels of its nearest values: the label need not rise or fall with it"
SURER = 4
"""A variable is shown by its nearest values where their p is so many times smaller than that of its rank."""


def association(scope: Scope, first: str, second: str) -> float:
    """How closely two variables go together among exams of one label: mean absolute rank correlation.

    Looking inside each class keeps the label itself from tying them. Categories count by their first column.
    """
    columns = {each.name: each.columns[:, 0] for each in variables(scope)}
    return tied(scope.labels[scope.scored], columns[first][scope.scored], columns[second][scope.scored])


def tied(labels: IntArray, first: FloatArray, second: FloatArray) -> float:
    """Mean over the two classes of the absolute rank correlation of two values; all arrays (n,), NaN unknown."""
    values = []
    for label in (0, 1):
        known = (labels == label) & np.isfinite(first) & np.isfinite(second)
        if known.sum() > 3 and np.ptp(first[known]) > 0 and np.ptp(second[known]) > 0:
            values.append(abs(float(np.corrcoef(midranks(first[known]), midranks(second[known]))[0, 1])))
    return float(np.mean(values)) if values else 0.0
