"""The verdict in words that stands at the top of a report: what was measured and how far it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thermocancer.evaluation.audit.checks import failed_checks
from thermocancer.evaluation.report.notices import PHANTOM_NOTICE, number

SUSPICIOUS = 0.99
"""A result this good triggers the leak audit (science notes, section 2, point 10)."""


def too_good(document: dict[str, Any]) -> list[str]:
    """Which of accuracy and AUC are 99 % or more."""
    names = {"accuracy": "accuracy", "auc": "AUC"}
    return [title for name, title in names.items() if (document[name]["value"] or 0.0) >= SUSPICIOUS]


def verdict_of(
    document: dict[str, Any],
    *,
    baseline_auc: dict[str, Any] | None,
    audit: dict[str, Any] | None,
    phantom: bool,
) -> dict[str, Any]:
    """``tone`` (good, caution, bad), one ``headline`` and further ``sentences``."""
    sentences: list[str] = []
    suspicious = too_good(document)
    tone = "caution" if suspicious or document["auc"]["low"] <= 0.5 else "good"
    if suspicious:
        sentences.append(
            f"A result of 99 % or more ({' and '.join(suspicious)}): look for a leak first. {_leak_audit(audit)}"
        )
    if audit is not None:
        tone = _worse(tone, audit["verdict"]["tone"])
        sentences.extend(audit["verdict"]["sentences"])
    if document["leaks"]:
        tone = "bad"
        sentences.append(
            f"The protocol leaks: {'; '.join(document['leaks'])}. Its figures are optimistic and only "
            "good for comparison with figures made the same way."
        )
    sentences.append(_against_baseline(document, baseline_auc))
    if phantom:
        sentences.append(PHANTOM_NOTICE)
    return {"tone": tone, "headline": _headline(document, audit), "sentences": [each for each in sentences if each]}


def _headline(document: dict[str, Any], audit: dict[str, Any] | None) -> str:
    auc = document["auc"]
    figures = f"AUC {number(auc['value'])} ({number(auc['low'])} to {number(auc['high'])})"
    whom = f"On {_counted(document)} ({document['positives']} sick)"
    shortcuts = audit["verdict"]["shortcuts"] if audit is not None else []
    if auc["low"] > 0.5 and shortcuts and audit is not None and audit["verdict"]["tone"] == "bad":
        return (
            f"{whom} the model reaches {figures}, but the label of these exams can be read from "
            f"{shortcuts[0]['words']} alone: this does not show that it sees disease."
        )
    if auc["low"] > 0.5:
        what = "tells sick from healthy better than chance"
    elif auc["high"] < 0.5:
        what = "ranks healthy above sick: worse than chance"
    else:
        what = "cannot be told from chance"
    return f"{whom} the model {what}: {figures}."


def _counted(document: dict[str, Any]) -> str:
    if document["unit"] == "exam":
        return f"{document['n']} exams"
    if document["units_by_visit"]:
        return f"{document['n']} units of {document['patients']} patients"
    return f"{document['n']} patients"


def _leak_audit(audit: dict[str, Any] | None) -> str:
    if audit is None:
        return "The audit was not run; run evaluate with evaluate.audit=true."
    checks = audit.get("leak_checks", [])
    failed = [check["problem"] for check in failed_checks(checks)]
    unknown = [check["name"] for check in checks if check["passed"] is None]
    words = [f"The leak audit found: {'; '.join(failed)}."] if failed else []
    if unknown:
        words.append(f"It could not tell: {'; '.join(unknown)}.")
    if not words:
        words = [f"The leak audit ({len(checks)} checks) found no patient and no image on both sides."]
    return " ".join(words)


def _against_baseline(document: dict[str, Any], baseline: dict[str, Any] | None) -> str:
    if baseline is None:
        return ""
    name = "The trivial baseline (thermal statistics, nothing deep) on the same folds reaches AUC"
    figures = f"{number(baseline['value'])} ({number(baseline['low'])} to {number(baseline['high'])})"
    difference = baseline.get("difference")
    if difference is None:
        return f"{name} {figures}."
    if difference["low"] > 0:
        word = "the model is clearly above it"
    elif difference["high"] < 0:
        word = "the model is clearly below it"
    else:
        word = "the data do not show a difference"
    return (
        f"{name} {figures}; {word} (difference {difference['value']:+.3f}, "
        f"{difference['low']:+.3f} to {difference['high']:+.3f})."
    )


def _worse(first: str, second: str) -> str:
    order: Sequence[str] = ("good", "caution", "bad")
    return max(first, second, key=order.index)
