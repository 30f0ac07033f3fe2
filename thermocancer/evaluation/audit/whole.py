"""Runs the whole audit of one run and gathers it into ``audit.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from thermocancer.config import Config
from thermocancer.config.judging import EvaluateSection
from thermocancer.data.cohort import Cohort
from thermocancer.data.matching import keep_matches_apart
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.audit.controls import BASELINE, CONTROL, INPUT, NUISANCE, Control, Judge
from thermocancer.evaluation.audit.findings import audit_verdict, leak_checks, relabelled
from thermocancer.evaluation.audit.images import image_controls, image_scope, open_images
from thermocancer.evaluation.audit.matched import Matching, largest_stratum, matched_auc
from thermocancer.evaluation.audit.nuisance import association, nuisance_controls
from thermocancer.evaluation.audit.refits import REFITS
from thermocancer.evaluation.audit.scope import Refitting, Scope, make_scope
from thermocancer.evaluation.report.exams import ExamFacts, ExamKey
from thermocancer.evaluation.report.figures import ALARM, AMBER, MODEL, MUTED, new_figure, png_bytes
from thermocancer.evaluation.report.judgement import Judgement, Picture
from thermocancer.evaluation.statistics.intervals import auc_interval
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.kinds import Reads
from thermocancer.progress import Progress
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

GROUP_TITLES = {
    BASELINE: "trivial models and the untrained twin",
    NUISANCE: "no breast: nuisance variables",
    INPUT: "part of the picture",
    CONTROL: "checks",
}


def audit_run(
    judged: Judgement, workspace: Workspace, config: Config, facts: dict[ExamKey, ExamFacts], progress: Progress
) -> dict[str, Any]:
    """Every control that this run, its data set and its model allow; what is not possible is listed with why.

    ``config`` gives the settings of the audit; the run's own config gives its recipe.
    """
    settings = config.evaluate
    rows = tuple(judged.run.rows)
    judge = Judge(judged.units, settings.confidence, settings.bootstrap, config.seed, rows)
    examine = _of_images if judged.run.reads is Reads.IMAGES else _of_exams
    scope, controls, unavailable = examine(judged, workspace, settings, facts, judge, progress)
    matched = _matched(scope, judged, settings, config.seed)
    checks = leak_checks(scope, controls)
    return {
        "controls": [control.as_dict() for control in controls],
        "matched": matched,
        "stratum": _stratum(scope, judged, settings),
        "unavailable": unavailable,
        "leak_checks": checks,
        "repeats": settings.audit_repeats,
        "verdict": audit_verdict(
            controls, matched, checks, judged.document["auc"], lambda one, other: association(scope, one, other)
        ),
    }


Examined = tuple[Scope, list[Control], list[dict[str, str]]]
"""What was audited, the controls, and what was not done with its reason."""


def _of_exams(
    judged: Judgement, workspace: Workspace, settings: EvaluateSection, facts: dict[ExamKey, ExamFacts],
    judge: Judge, progress: Progress,
) -> Examined:  # fmt: skip
    """A run on thermograms, with its data set where that is still there."""
    own = judged.run.config()
    with ExitStack() as stack:
        source, why = _open_source(own, judged.run, workspace, stack)
        scope = make_scope(judged.run, source, facts)
        if source is not None and scope.source is None:
            why = "the data set has changed since the run was made"
        if relabelled(scope):  # the checks name these exams; nothing can be compared on two truths
            reason = "the labels of the predictions are not those of the data set"
            return scope, [], [{"name": "every control", "reason": reason}]
        if scope.source is not None and own is not None and judged.run.reads is not Reads.RUNS:
            # trained as the run was, without the matches of what it tested
            folds = tuple(keep_matches_apart(scope.source, scope.folds, own.cohort))
            scope = dataclasses.replace(scope, folds=folds)
        controls = nuisance_controls(scope, judge) if all(len(fold.train) for fold in scope.folds) else []
        unavailable: list[dict[str, str]] = []
        if scope.source is not None and own is not None:
            bench = Refitting(scope, scope.source, own, workspace, judge, settings.audit_repeats)
            controls += _refits(bench, settings, progress, unavailable)
        else:
            unavailable.append({"name": "controls that train again", "reason": why or "the data set is gone"})
    return scope, controls, unavailable


def _of_images(
    judged: Judgement, workspace: Workspace, settings: EvaluateSection, facts: dict[ExamKey, ExamFacts],
    judge: Judge, progress: Progress,
) -> Examined:  # fmt: skip
    """A run on a folder of images: their numbers follow the folders, so that nuisance variables would mislead."""
    run = judged.run
    bench, why = open_images(run, run.config(), workspace, judge, settings.audit_image_epochs)
    if bench is None:
        scope = dataclasses.replace(make_scope(run, None, {}), patients_known=run.facts().unit != "exam")
        return scope, [], [{"name": "controls that train again", "reason": why}]
    return image_scope(bench), *image_controls(bench, settings.audit_skip, progress)


def _open_source(
    own: Config | None, run: Run, workspace: Workspace, stack: ExitStack
) -> tuple[Cohort | None, str | None]:
    from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort

    if own is None:
        return None, "the run kept no config that this version can read"
    if run.reads is Reads.RUNS:
        return _open_patients(run.manifest.combine, workspace, stack)
    part = DYNAMIC if run.reads is Reads.FRAMES else STATIC
    try:
        return stack.enter_context(StoredCohort(workspace.dataset(own.dataset.name), part)), None
    except DataError as error:
        return None, error.what


def _open_patients(
    names: Sequence[str], workspace: Workspace, stack: ExitStack
) -> tuple[Cohort | None, str | None]:  # fmt: skip
    """The patients of the runs that a late run combines; what is known of their exams, but no thermograms."""
    from thermocancer.classifiers.late.patients import open_patients

    try:
        return open_patients(names, workspace, stack), None
    except (DataError, ConfigError) as error:
        return None, error.what


def _refits(
    bench: Refitting, settings: EvaluateSection, progress: Progress, unavailable: list[dict[str, str]]
) -> list[Control]:
    wanted = [(name, control) for name, control in REFITS if name not in settings.audit_skip]
    controls: list[Control] = []
    with progress.task(f"audit of {bench.scope.run.name}", len(wanted), "controls") as bar:
        for name, control in wanted:
            bar.say(name)
            try:
                made = control(bench)
                controls += made if isinstance(made, list) else [made]
            except (DataError, ConfigError) as error:
                unavailable.append({"name": name, "reason": error.what})
            bar.advance()
    unavailable += [{"name": name, "reason": "skipped by evaluate.audit_skip"} for name in settings.audit_skip]
    return controls


def _matched(scope: Scope, judged: Judgement, settings: EvaluateSection, seed: int) -> list[dict[str, Any]]:
    days, room = float(settings.matched_days), settings.matched_room_celsius
    stratum = largest_stratum(scope)
    wanted: list[tuple[Matching, Any, str | None]] = [
        (Matching(days, None), None, None),
        (Matching(None, room), None, None),
        (Matching(days, room), None, None),
    ]
    if stratum is not None:
        name, keep = stratum
        wanted += [(Matching(days, None), keep, name), (Matching(days, room), keep, name)]
    found = [
        matched_auc(
            scope, judged.run.rows, matching, confidence=settings.confidence, bootstrap=settings.bootstrap,
            seed=seed, keep=keep, within=within,
        )
        for matching, keep, within in wanted
    ]  # fmt: skip
    kept: list[dict[str, Any]] = []
    for each in found:
        if each is not None and (each["matching"], each["pairs"]) not in [
            (one["matching"], one["pairs"]) for one in kept
        ]:
            kept.append(each)  # a stratum that all matched pairs lie in anyway says nothing new
    return kept


def _stratum(scope: Scope, judged: Judgement, settings: EvaluateSection) -> dict[str, Any] | None:
    """The model's own AUC within the largest acquisition stratum."""
    stratum = largest_stratum(scope)
    if stratum is None:
        return None
    name, keep = stratum
    inside = {(scope.exams[row].patient, scope.exams[row].visit) for row in scope.scored if keep[row]}
    units = gather_units([row for row in judged.run.rows if (row.patient, row.visit) in inside])
    auc = auc_interval(units.labels, units.scores, settings.confidence)
    return {"layout": name, "n": len(units), "positives": int(units.labels.sum()), "auc": auc.as_dict()}


def audit_picture(audit: dict[str, Any], model_auc: dict[str, Any]) -> Picture:
    """The forest plot of an audit."""
    groups: list[tuple[str, list[Row]]] = [("the model", [("as trained", model_auc, "model")])]
    remains = [(f"{row['title']} ({row['pairs']} pairs)", row["auc"], "model") for row in audit["matched"]]
    if audit["stratum"] is not None:
        remains.insert(
            0, (f"within the largest format, {audit['stratum']['layout']}", audit["stratum"]["auc"], "model")
        )
    groups[0][1].extend(remains)
    for group, title in GROUP_TITLES.items():
        rows = [(each["title"], each["auc"], each["flag"]) for each in audit["controls"] if each["group"] == group]
        if group == NUISANCE:
            rows.sort(key=lambda row: -(row[1]["value"] or 0))
        if rows:
            groups.append((title, rows))
    return Picture(
        draw_forest(groups, reference=model_auc["value"], axis="AUC", middle=0.5),
        f"Forest plot of the model's AUC beside {len(audit['controls'])} controls; the table below has the figures",
        "AUC with intervals. The blue line is the model. Orange: predicts the label; red: and the model is not "
        "clearly better.",
    )


# --- the forest plot: the model beside everything that is no model of disease ---


COLOURS = {"none": MUTED, "amber": AMBER, "red": ALARM, "leaky": AMBER, "failed": ALARM, "model": MODEL}
Row = tuple[str, Mapping[str, Any], str]
"""Title, estimate (value, low, high) and flag."""


def draw_forest(
    groups: Sequence[tuple[str, Sequence[Row]]], *, reference: float | None, axis: str, middle: float
) -> bytes:
    """Points with intervals, grouped under headings; a solid line at ``reference``, a dotted one at ``middle``."""
    lines = sum(len(rows) + 1 for _, rows in groups)
    figure, axes = new_figure(8.6, 0.6 + 0.27 * lines)
    axes.grid(axis="y", visible=False)
    axes.axvline(middle, color=MUTED, linestyle=":", linewidth=1)
    if reference is not None:
        axes.axvline(reference, color=MODEL, linewidth=1, alpha=0.6)
    ticks: list[tuple[float, str, bool]] = []
    height = 0.0
    for heading, rows in groups:
        ticks.append((height, heading, True))
        for title, estimate, flag in rows:
            height -= 1
            ticks.append((height, title, False))
            _draw_row(axes, height, estimate, COLOURS.get(flag, MUTED))
        height -= 1
    axes.set_yticks([place for place, _, _ in ticks], [title for _, title, _ in ticks])
    for label, (_, _, is_heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if is_heading else "normal")
        label.set_fontsize(9)
    axes.set_ylim(height + 0.4, 0.7)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(axis)
    return png_bytes(figure)


def _draw_row(axes: Any, height: float, estimate: Mapping[str, Any], colour: str) -> None:
    if estimate["low"] is not None:
        axes.plot(
            [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=2, solid_capstyle="butt"
        )
    if estimate["value"] is not None:
        axes.plot([estimate["value"]], [height], marker="o", color=colour, markersize=6)
        axes.annotate(
            f"{estimate['value']:.3f}", (1.0, height), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8, color="#1f2933", annotation_clip=False,
        )  # fmt: skip
