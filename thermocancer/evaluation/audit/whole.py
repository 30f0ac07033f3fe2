"""Runs the whole audit of one run and gathers it into ``audit.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from thermocancer.config import Config
from thermocancer.config.judging import EvaluateSection
from thermocancer.config.learning import ComputeSection
from thermocancer.data.cohort import BoolArray, Cohort
from thermocancer.data.matching import keep_matches_apart
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.audit.controls import (
    GROUP_TITLES,
    NUISANCE,
    Control,
    Judge,
    LeftOut,
    Permuted,
    measure_controls,
)
from thermocancer.evaluation.audit.findings import audit_verdict, leak_checks, relabelled
from thermocancer.evaluation.audit.images import image_controls, image_scope, open_images
from thermocancer.evaluation.audit.matched import Matching, largest_stratum, matched_auc, own_pairs
from thermocancer.evaluation.audit.nuisance import association, not_audited, nuisance_controls
from thermocancer.evaluation.audit.refits import REFITS
from thermocancer.evaluation.audit.scope import Refitting, Scope, make_scope
from thermocancer.evaluation.report.exams import ExamFacts, ExamKey
from thermocancer.evaluation.report.figures import ALARM, AMBER, MODEL, MUTED, new_figure, png_bytes
from thermocancer.evaluation.report.judgement import Judgement, Picture
from thermocancer.evaluation.report.page import Words
from thermocancer.evaluation.statistics.intervals import auc_interval
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.progress import Progress
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

TRAINED_AGAIN = "controls that train again"


def audit_run(
    judged: Judgement, workspace: Workspace, config: Config, facts: dict[ExamKey, ExamFacts], progress: Progress
) -> Json:
    """Every control that this run, its data set and its model allow; what is not possible is listed with why.

    ``config`` gives the settings of the audit; the run's own config gives its recipe.
    """
    run, settings = judged.run, config.evaluate
    judge = Judge(judged.units, settings.confidence, settings.bootstrap, config.seed, tuple(run.rows), run.by_exam)
    if run.reads is Reads.IMAGES:
        scope, controls, unavailable = _of_images(run, settings, judge, progress)
    else:
        scope, controls, unavailable = _of_exams(
            run, settings, facts, config.cohort.facts, judge, progress, config.compute
        )
    largest = largest_stratum(scope)
    words = Words.of(run)
    matched = _matched(scope, judge, settings, largest)
    if run.reads is Reads.IMAGES and scope.patients_known:
        own = own_pairs(scope, judge.rows, words.whose, judge.confidence)
        matched += [own] if own is not None else []
    checks = leak_checks(scope, controls)
    verdict = audit_verdict(controls, matched, checks, judged.document["auc"], partial(association, scope), words)
    permuted = next((control for control in controls if isinstance(control, Permuted)), None)
    return {
        "p_permuted": None if permuted is None else permuted.p_permuted,
        "permutations": [] if permuted is None else list(permuted.permutations),
        "controls": [control.as_dict() for control in controls], "matched": matched,
        "stratum": None if largest is None else _within(scope, judge, *largest), "unavailable": unavailable,
        "leak_checks": checks, "repeats": settings.audit_repeats, "verdict": verdict,
    }  # fmt: skip


Examined = tuple[Scope, list[Control], LeftOut]


def _of_exams(
    run: Run, settings: EvaluateSection, facts: dict[ExamKey, ExamFacts], columns: tuple[str, ...], judge: Judge,
    progress: Progress, compute: ComputeSection,
) -> Examined:  # fmt: skip
    """A run on thermograms, with its data set where that is still there."""
    own = run.config()
    with ExitStack() as stack:
        cohort, why = _open_cohort(own, run, stack)
        scope = replace(make_scope(run, cohort, facts), wanted=columns)
        if cohort is not None and scope.cohort is None:
            why = "the data set has changed since the run was made"
        if relabelled(scope):  # the checks name these exams; nothing can be compared on two truths
            reason = "the labels of the predictions are not those of the data set"
            return scope, [], [{"name": "every control", "reason": reason}]
        if scope.cohort is not None and own is not None and run.reads is not Reads.RUNS:
            # trained as the run was, without the matches of what it tested
            scope = replace(scope, folds=tuple(keep_matches_apart(scope.cohort, scope.folds, own.cohort)))
        controls = nuisance_controls(scope, judge) if all(len(fold.train) for fold in scope.folds) else []
        if scope.cohort is None or own is None:
            return (
                scope,
                controls,
                [*not_audited(scope), {"name": TRAINED_AGAIN, "reason": why or "the data set is gone"}],
            )
        refitting = Refitting(
            scope, scope.cohort, own, run.workspace, judge, settings.audit_repeats, settings.audit_permutations
        )
        wanted = [(name, control) for name, control in REFITS if name not in settings.audit_skip]
        refits, left_out = measure_controls(
            run.name, wanted, refitting, progress, None if run.reads is Reads.RUNS else compute
        )
    left_out += not_audited(scope)
    left_out += [{"name": name, "reason": "skipped by evaluate.audit_skip"} for name in settings.audit_skip]
    return scope, controls + refits, left_out


def _of_images(run: Run, settings: EvaluateSection, judge: Judge, progress: Progress) -> Examined:
    """A run on a folder of images."""
    refitting, why = open_images(
        run, run.config(), run.workspace, judge, settings.audit_image_epochs, settings.audit_permutations
    )
    if refitting is None:
        scope = replace(make_scope(run, None, {}), patients_known=run.facts().unit != "exam")
        return scope, [], [{"name": TRAINED_AGAIN, "reason": why}]
    scope = image_scope(refitting)
    return scope, *image_controls(refitting, scope, settings.audit_skip, progress)


def _open_cohort(own: Config | None, run: Run, stack: ExitStack) -> tuple[Cohort | None, str]:
    """The data set behind a run, or None and why; of a late run its patients, of whom there are no thermograms."""
    from thermocancer.classifiers.late.patients import open_patients
    from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort

    if own is None:
        return None, "the run kept no config that this version can read"
    try:
        if run.reads is Reads.RUNS:
            return open_patients(run.manifest.combine, run.workspace, stack), ""
        part = DYNAMIC if run.reads is Reads.FRAMES else STATIC
        return stack.enter_context(StoredCohort(run.workspace.dataset(own.dataset.name), part)), ""
    except (DataError, ConfigError) as error:
        return None, error.what


def _matched(
    scope: Scope, judge: Judge, settings: EvaluateSection, largest: tuple[str, BoolArray] | None
) -> list[Json]:  # fmt: skip
    """The model on matched pairs: by date, by room, by both; then within the largest acquisition stratum."""
    days, room = float(settings.matched_days), settings.matched_room_celsius
    by_date, by_room, by_both = Matching(days, None), Matching(None, room), Matching(days, room)
    wanted: list[tuple[Matching, str | None, BoolArray | None]] = [
        (matching, None, None) for matching in (by_date, by_room, by_both)
    ]
    if largest is not None:
        wanted += [(matching, *largest) for matching in (by_date, by_both)]
    kept: dict[tuple[str, int], Json] = {}
    for matching, within, keep in wanted:
        found = matched_auc(scope, judge.rows, matching, confidence=judge.confidence, keep=keep, within=within)
        if found is not None:  # a stratum that all matched pairs lie in anyway says nothing new
            kept.setdefault((found["matching"], found["pairs"]), found)
    return list(kept.values())


def _within(scope: Scope, judge: Judge, layout: str, keep: BoolArray) -> Json:
    """The model's own AUC within the largest acquisition stratum."""
    inside = {(scope.exams[row].patient, scope.exams[row].visit) for row in scope.scored if keep[row]}
    own = [row for row in judge.rows if (row.patient, row.visit) in inside]
    units = gather_units(own, by_exam=judge.by_exam)
    auc = auc_interval(units, judge.confidence)
    return {"layout": layout, "n": len(units), "positives": int(units.labels.sum()), "auc": auc.as_dict()}


def audit_picture(audit: Json, model_auc: Json) -> Picture:
    """The forest plot of an audit."""
    model: list[Row] = [("as trained", model_auc, "model")]
    if audit["stratum"] is not None:
        model.append((f"within the largest format, {audit['stratum']['layout']}", audit["stratum"]["auc"], "model"))
    model += [(f"{row['title']} ({row['pairs']} pairs)", row["auc"], "model") for row in audit["matched"]]
    groups = [("the model", model)]
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


# --- the forest plot: the model beside everything that is no model of disease -----------------------------------------

COLOURS = {"none": MUTED, "amber": AMBER, "red": ALARM, "leaky": AMBER, "failed": ALARM, "model": MODEL}
Row = tuple[str, Mapping[str, float | None], str]
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
    ticks: list[tuple[float, str, str]] = []
    height = 0.0
    for heading, rows in groups:
        ticks.append((height, heading, "bold"))
        for title, estimate, flag in rows:
            height -= 1
            ticks.append((height, title, "normal"))
            value, low, high = (estimate[key] for key in ("value", "low", "high"))
            colour = COLOURS.get(flag, MUTED)
            if low is not None and high is not None:
                axes.plot([low, high], [height, height], color=colour, linewidth=2, solid_capstyle="butt")
            if value is not None:
                axes.plot([value], [height], marker="o", color=colour, markersize=6)
                axes.annotate(
                    f"{value:.3f}", (1.0, height), xycoords=("axes fraction", "data"), xytext=(6, 0),
                    textcoords="offset points", va="center", fontsize=8, color="#1f2933", annotation_clip=False,
                )  # fmt: skip
        height -= 1
    axes.set_yticks([place for place, _, _ in ticks], [title for _, title, _ in ticks])
    for label, (_, _, weight) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight(weight)
        label.set_fontsize(9)
    axes.set_ylim(height + 0.4, 0.7)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(axis)
    return png_bytes(figure)
