"""The verdict in words that stands at the top of a report: what was measured and how far it can be believed."""

from __future__ import annotations

from thermocancer.evaluation.report.page import PHANTOM_NOTICE, with_interval
from thermocancer.files import Json

SUSPICIOUS = 0.99
"""An accuracy or AUC this good is a reason to look for a leak before anything else."""

TONES = ("good", "caution", "bad")


def verdict_of(document: Json, *, baseline_auc: Json | None, audit: Json | None, phantom: bool) -> Json:
    """``tone`` (good, caution, bad), one ``headline`` and further ``sentences``."""
    sentences: list[str] = []
    names = {"accuracy": "accuracy", "auc": "AUC"}
    suspicious = [title for name, title in names.items() if (document[name]["value"] or 0.0) >= SUSPICIOUS]
    tone = "caution" if suspicious or document["auc"]["low"] <= 0.5 else "good"
    if suspicious:
        sentences.append(
            f"A result of 99 % or more ({' and '.join(suspicious)}): look for a leak first. {_leaks_found(audit)}"
        )
    if audit is not None:
        tone = max(tone, audit["verdict"]["tone"], key=TONES.index)
        sentences.extend(audit["verdict"]["sentences"])
    if document["leaks"]:
        tone = "bad"
        sentences.append(
            f"The protocol leaks: {'; '.join(document['leaks'])}. Its figures are optimistic and only "
            "good for comparison with figures made the same way."
        )
    if baseline_auc is not None:
        sentences.append(_against_baseline(baseline_auc))
    if phantom:
        sentences.append(PHANTOM_NOTICE)
    return {"tone": tone, "headline": _headline(document, audit), "sentences": [each for each in sentences if each]}


def _headline(document: Json, audit: Json | None) -> str:
    auc = document["auc"]
    figures = f"AUC {with_interval(auc)}"
    if document["unit"] == "exam":
        counted = f"{document['n']} exams"
    elif document["units_by_visit"]:
        counted = f"{document['n']} units of {document['patients']} patients"
    else:
        counted = f"{document['n']} patients"
    whom = f"On {counted} ({document['positives']} sick)"
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


def _leaks_found(audit: Json | None) -> str:
    if audit is None:
        return "The audit was not run; run evaluate with evaluate.audit=true."
    checks = audit.get("leak_checks", [])
    failed = [check["problem"] for check in checks if check["passed"] is False]
    unknown = [check["name"] for check in checks if check["passed"] is None]
    words = [f"The leak audit found: {'; '.join(failed)}."] if failed else []
    if unknown:
        words.append(f"It could not tell: {'; '.join(unknown)}.")
    if not words:
        words = [f"The leak audit ({len(checks)} checks) found no patient and no image on both sides."]
    return " ".join(words)


def _against_baseline(baseline: Json) -> str:
    difference = baseline["difference"]
    if difference["low"] > 0:
        word = "the model is clearly above it"
    elif difference["high"] < 0:
        word = "the model is clearly below it"
    else:
        word = "the data do not show a difference"
    return (
        "The trivial baseline (thermal statistics, nothing deep) on the same folds reaches AUC "
        f"{with_interval(baseline)}; {word} (difference {difference['value']:+.3f}, {difference['low']:+.3f} to "
        f"{difference['high']:+.3f})."
    )
