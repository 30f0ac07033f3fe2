"""Gathers what the report shows of one run: the facts of ``report.json`` and the pictures beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thermocancer.config import Config, dump_yaml
from thermocancer.evaluation.explain.telling_exams import Survey
from thermocancer.evaluation.report.catalog_facts import ExamFacts, ExamKey
from thermocancer.evaluation.report.checklist import checklist
from thermocancer.evaluation.report.cohort_flow import cohort_flow, is_phantom, sources_of
from thermocancer.evaluation.report.environment import environment, exact_command
from thermocancer.evaluation.report.gallery import misclassified, with_pictures
from thermocancer.evaluation.report.judgement import Judgement
from thermocancer.evaluation.report.own_figures import PREFIX
from thermocancer.evaluation.report.page import render_page
from thermocancer.evaluation.report.verdict import verdict_of
from thermocancer.evaluation.statistics.subgroups import subgroup_table
from thermocancer.workspace import Workspace

METRIC_TITLES = (
    ("auc", "AUC"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("precision", "precision"),
    ("accuracy", "accuracy"),
    ("f1", "F1"),
    ("average_precision", "average precision"),
    ("brier", "Brier score ↓"),
    ("ece", "calibration error ↓"),
)


@dataclass
class Dossier:
    """``facts`` is JSON; the pictures of ``gallery`` and ``survey`` only reach the HTML."""

    facts: dict[str, Any]
    gallery: list[dict[str, Any]] = field(default_factory=list)
    survey: Survey | None = None


def gather(
    judged: Judgement,
    workspace: Workspace,
    config: Config,
    facts: dict[ExamKey, ExamFacts],
    *,
    audit: dict[str, Any] | None = None,
    survey: Survey | None = None,
) -> Dossier:
    """Everything the report says, from the judgement, the workspace and (if it was run) the audit."""
    run, document = judged.run, judged.document
    flow = cohort_flow(workspace, run.rows)
    sources = list(run.manifest.get("sources") or sources_of(workspace, run.rows))
    phantom = is_phantom(sources)
    groups = subgroup_table(run.rows, facts, config.evaluate.confidence)
    wrong = misclassified(judged.units, document["threshold"])
    kept = run.config(workspace)
    content = {
        "title": config.report.title,
        "run": run.name,
        "model": run.manifest.get("model"),
        "phantom": phantom,
        "sources": sources,
        "metrics": document,
        "baseline": judged.baseline,
        "verdict": verdict_of(document, baseline_auc=judged.baseline_auc, audit=audit, phantom=phantom),
        "curves": judged.curves,
        "flow": flow,
        "subgroups": groups,
        "misclassified": wrong,
        "audit": audit,
        "explanation": None if survey is None else survey.facts | {"note": survey.note},
        "checklist": checklist(
            document, run.manifest, flow, sources=sources, audit=audit, subgroups=groups
        ),
        "environment": environment(),
        "command": exact_command(run.name, run.manifest),
        "remark": "",
        "config_text": None if kept is None else portable_config(kept),
    }  # fmt: skip
    return Dossier(content, with_pictures(wrong[: config.report.gallery], facts, workspace), survey)


def portable_config(config: Config) -> str:
    """The run's settings as YAML without this machine's folder, so that equal runs give equal pages."""
    return dump_yaml(config.model_copy(update={"workspace": "WORKSPACE"}))


def to_html(dossier: Dossier, judged: Judgement) -> str:
    """The self-contained page."""
    extra = {
        "metric_titles": METRIC_TITLES,
        "gallery": dossier.gallery,
        "survey": dossier.survey,
        "own_pictures": [item for name, item in judged.pictures.items() if name.startswith(PREFIX)],
    }
    return render_page("report.html", dossier.facts | extra, judged.pictures)
