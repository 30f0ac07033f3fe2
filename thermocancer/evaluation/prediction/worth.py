"""What the run that answers is worth itself: it stands above every answer, so that no score is taken for more."""

from __future__ import annotations

from thermocancer.config.judging import EvaluateSection
from thermocancer.evaluation.between_runs import described_run
from thermocancer.evaluation.report.judgement import judge
from thermocancer.evaluation.report.page import Words, with_interval
from thermocancer.evaluation.report.verdict import verdict_of
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import Json
from thermocancer.runs.run import Run


def worth_of(run: Run, settings: EvaluateSection, seed: int) -> Json:
    """The run's own AUC and its trivial baseline's (value, low, high; None where unknown), ``tone`` and ``headline``.

    Tone and headline are those of the last ``evaluate`` where it judged these scores (``evaluated``), else of the
    scores alone. ``caveat`` says in words why no answer should be believed; empty where nothing speaks against it.
    """
    words = Words.of(run)
    if not gather_units(run.rows, by_exam=run.by_exam).has_both_classes:
        headline = "Only one class was scored out of sample: nothing is known of this run's worth."
        return {
            "run": run.name, "auc": None, "baseline": None, "difference": None, "tone": "caution",
            "headline": headline, "evaluated": False, "caveat": "nothing is known of the run's own worth",
        }  # fmt: skip
    judged = judge(run, settings, seed, drawn=False)
    document, baseline = judged.document, judged.baseline_auc
    difference = None if baseline is None else baseline["difference"]
    verdict = verdict_of(document, baseline_auc=baseline, audit=None, phantom=False, words=words)
    tone, headline, known = verdict["tone"], verdict["headline"], described_run(run.folder)
    if known["evaluated"]:
        tone, headline = known["tone"], known["headline"]
    auc, against = document["auc"], []
    if auc["high"] < 0.5:
        against.append(f"it ranks worse than chance (AUC {with_interval(auc)})")
    elif auc["low"] <= 0.5:
        against.append(f"it is not shown to be better than chance (AUC {with_interval(auc)})")
    if baseline is not None and difference is not None and difference["low"] is not None and difference["low"] <= 0:
        against.append(f"it is not shown to be better than its trivial baseline (AUC {with_interval(baseline)})")
    if run.manifest.leaks:
        against.append("its protocol leaks")
    caveat = f"do not rely on run {run.name}: {'; '.join(against)}" if against else ""
    return {
        "run": run.name, "auc": auc, "baseline": baseline, "difference": difference, "tone": tone,
        "headline": headline, "evaluated": known["evaluated"], "caveat": caveat,
    }  # fmt: skip
