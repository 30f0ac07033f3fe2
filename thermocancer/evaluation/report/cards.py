"""Model card and data-set card: the same facts as the report, as Markdown to keep beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thermocancer.evaluation.audit.controls import NUISANCE
from thermocancer.evaluation.report.notices import ADJUNCT_NOTICE, PHANTOM_NOTICE, number, with_interval

SOURCES = {
    "fetch": "the DMR-IR web site (terms forbid passing its material on)",
    "import": "a folder that was imported",
    "simulate": "a simulation of heat in tissue (phantom)",
}


def model_card(facts: Mapping[str, Any]) -> str:
    """Markdown from the content of ``report.json``."""
    lines = [*_what_it_is(facts), *_what_it_is_worth(facts), *_shortcuts(facts.get("audit")), *_how_made(facts)]
    return "\n".join(lines) + "\n"


def _what_it_is(facts: Mapping[str, Any]) -> list[str]:
    metrics = facts["metrics"]
    return [
        f"# Model card: {facts['run']}",
        "",
        f"> {ADJUNCT_NOTICE}",
        *([">", f"> {PHANTOM_NOTICE}"] if facts["phantom"] else []),
        "",
        "## What it is",
        "",
        f"- model: {facts['model'] or 'not reported'}",
        f"- protocol: {metrics['protocol']}; leaks: {'; '.join(metrics['leaks']) or 'none known'}",
        f"- operating point: {number(metrics['threshold'])} ({metrics['threshold_source']})",
        "- intended use: research on thermograms and on how such models fail",
        "- out of scope: screening, diagnosis, any decision about a person",
        "",
    ]


def _what_it_is_worth(facts: Mapping[str, Any]) -> list[str]:
    metrics, verdict = facts["metrics"], facts["verdict"]
    return [
        "## What it is worth",
        "",
        verdict["headline"],
        "",
        *(f"- {sentence}" for sentence in verdict["sentences"]),
        *_subgroups(facts["subgroups"]),
        f"- {len(facts['misclassified'])} units are called wrong at the operating point; the report shows them",
        "",
        f"| metric | value (interval) on {metrics['n']} {metrics['unit']}s, {metrics['positives']} sick |",
        "|---|---|",
        *(f"| {name} | {with_interval(metrics[name])} |" for name in _METRICS),
        "",
    ]


def _how_made(facts: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts["environment"].items())
    return ["## How it was made", "", "```", facts["command"], "```", "", versions]


_METRICS = ("auc", "sensitivity", "specificity", "precision", "accuracy", "f1", "average_precision", "brier", "ece")


def _shortcuts(audit: Mapping[str, Any] | None) -> list[str]:
    if audit is None:
        return ["Shortcuts: not audited.", ""]
    rows = [f"| {row['title']} | {with_interval(row['auc'])} | {row['flag']} |" for row in audit["controls"]]
    matched = [
        f"| {row['title']} ({row['pairs']} pairs) | {with_interval(row['auc'])} |  |" for row in audit["matched"]
    ]
    return ["| audit | AUC (interval) | flag |", "|---|---|---|", *rows, *matched, ""]


def _subgroups(groups: list[dict[str, Any]]) -> list[str]:
    known = [row for row in groups if row["auc"] is not None]
    if not known:
        return ["- no subgroup has both classes"]
    worst = min(known, key=lambda row: row["auc"]["value"])
    return [
        f"- worst subgroup by AUC: {worst['grouping']} {worst['group']}, {with_interval(worst['auc'])} "
        f"on {worst['n']} units"
    ]


def dataset_card(facts: Mapping[str, Any]) -> str:
    """Markdown from the content of ``report.json``."""
    audit = facts.get("audit")
    shortcuts = audit["verdict"]["shortcuts"] if audit else []
    lines = [
        f"# Data-set card: the exams behind {facts['run']}",
        "",
        f"> {ADJUNCT_NOTICE}",
        "",
        f"- source: {', '.join(SOURCES.get(each, each) for each in facts['sources']) or 'not reported'}",
        *(f"- {_step(step)}" for step in facts["flow"]),
        "- labels: healthy and sick as the source gives them; how they were established: not reported",
        "- consent, ethics approval, demographics: not reported by this program",
        "",
        "## Known ties between label and circumstance",
        "",
        *(
            [
                f"- {each['words']}: {each['variable']} alone reaches AUC {with_interval(each['auc'])}"
                for each in shortcuts
            ]
            or [_no_shortcut(audit)]
        ),
        "",
        "## Composition",
        "",
        "| by | group | units | sick |",
        "|---|---|---|---|",
        *(f"| {row['grouping']} | {row['group']} | {row['n']} | {row['sick']} |" for row in facts["subgroups"]),
    ]
    return "\n".join(lines) + "\n"


def _no_shortcut(audit: Mapping[str, Any] | None) -> str:
    if not audit:
        return "- not audited"
    hidden = audit["verdict"].get("hidden", ())
    if hidden:
        found = ", ".join(f"{each['title']} reaches AUC {with_interval(each['auc'])}" for each in hidden)
        return f"- no variable by itself, yet without a breast {found}"
    looked = any(control["group"] == NUISANCE for control in audit["controls"])
    return "- none found" if looked else "- could not be looked for: no nuisance variable is known of these exams"


def _step(step: Mapping[str, Any]) -> str:
    lost = ", ".join(f"{loss['count']} {loss['reason']}" for loss in step["losses"])
    words = f"{step['step']}: {step['exams']} exams of {step['patients']} patients "
    words += f"({step['healthy']} healthy, {step['sick']} sick)"
    return words + (f"; left out: {lost}" if lost else "")
