"""The items of STARD-AI, TRIPOD+AI and CLAIM that a program can fill; the others stay visibly open.

Item titles are our own short wording; the guidelines number them differently, so they are named, not numbered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ALL = "STARD-AI, TRIPOD+AI, CLAIM"


def checklist(
    document: Mapping[str, Any],
    manifest: Mapping[str, Any],
    flow: Sequence[Mapping[str, Any]],
    *,
    sources: Sequence[str],
    audit: Mapping[str, Any] | None,
    subgroups: Sequence[Mapping[str, Any]],
) -> list[dict[str, str | None]]:
    """One entry an item: ``item``, ``guidelines``, ``answer`` (None: not reported)."""
    return [
        *_about_data(manifest, flow, sources),
        *_about_method(document, manifest),
        *_about_results(document, audit, subgroups),
        *_open_items(),
    ]


def _entry(item: str, answer: str | None, guidelines: str = ALL) -> dict[str, str | None]:
    return {"item": item, "guidelines": guidelines, "answer": answer}


def _about_data(
    manifest: Mapping[str, Any], flow: Sequence[Mapping[str, Any]], sources: Sequence[str]
) -> list[dict[str, str | None]]:
    names = {"fetch": "the DMR-IR web site", "import": "an imported folder", "simulate": "a simulation (phantom)"}
    used = flow[-1]
    lost = [f"{loss['count']} {loss['reason']}" for step in flow for loss in step["losses"]]
    data_set = manifest.get("dataset")
    return [
        _entry("Source of the data", ", ".join(names.get(each, each) for each in sources) or None),
        _entry("Data set and its version", None if data_set is None else str(data_set)),
        _entry("Flow of exams, with reasons for exclusion", _flow_words(flow, lost)),
        _entry("Number of patients, exams and of each class", f"{used['patients']} patients, {used['exams']} exams "
               f"({used['healthy']} healthy, {used['sick']} sick)"),
        _entry("Input: views or frames", ", ".join(map(str, manifest["views"])) if manifest.get("views") else None),
    ]  # fmt: skip


def _flow_words(flow: Sequence[Mapping[str, Any]], lost: Sequence[str]) -> str:
    words = " → ".join(f"{step['step']} {step['exams']}" for step in flow)
    return words + (f"; left out: {', '.join(lost)}" if lost else "; nothing left out")


def _about_method(document: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[dict[str, str | None]]:
    leaks = "; ".join(document["leaks"]) or "none known"
    return [
        _entry("Model", str(manifest["model"]) if manifest.get("model") else None),
        _entry("Unit of analysis", f"{document['unit']}: {document['decision_rule']}"),
        _entry("How data were divided; level of separation",
               f"{document['protocol']}, {_separation(document, manifest)}; leaks: {leaks}"),
        _entry("How the decision threshold was chosen", document["threshold_source"]),
        _entry("How uncertainty was estimated", f"{document['accuracy']['method']}; {document['auc']['method']}; "
               f"{document['brier']['method']}"),
        _entry("Software, versions, settings and exact command", "at the end of this report", "TRIPOD+AI, CLAIM"),
        _entry("Random seed", str(manifest["seed"]) if "seed" in manifest else None, "CLAIM"),
    ]  # fmt: skip


def _separation(document: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What the parts of the data were kept apart by."""
    if document["protocol"] == "thesis":
        return "by file"
    if manifest.get("stage") != "train-cnn":
        return "by patient"
    return "in the folders given, by image" if document["unit"] == "exam" else "in the folders given, by patient"


def _about_results(
    document: Mapping[str, Any], audit: Mapping[str, Any] | None, subgroups: Sequence[Mapping[str, Any]]
) -> list[dict[str, str | None]]:
    groupings = sorted({row["grouping"] for row in subgroups})
    audited = None if audit is None else f"{len(audit['controls'])} controls, see the audit"
    return [
        _entry("Confusion matrix", "TN {tn}, FP {fp}, FN {fn}, TP {tp}".format(**document["confusion"])),
        _entry("Accuracy with intervals", "in the table of figures"),
        _entry("Calibration", "slope, intercept, Brier score, reliability diagram", "TRIPOD+AI"),
        _entry("Clinical usefulness", "decision curve and predictive values by prevalence", "TRIPOD+AI"),
        _entry("Analysis of shortcuts and confounding", audited),
        _entry("Failure analysis", "gallery of misclassified exams", "CLAIM"),
        _entry("Performance in subgroups", f"by {', '.join(groupings)}" if groupings else None),
        _entry("Limitations", "the verdict, and the notice on top"),
    ]


def _open_items() -> list[dict[str, str | None]]:
    """What only people can answer."""
    items = (
        "Eligibility criteria and setting in which exams were made",
        "Reference standard: how healthy and sick were established",
        "Time between thermography and the reference standard",
        "Demographic characteristics (age, breast density, symptoms)",
        "Rationale for the sample size",
        "External test on another site's data",
        "Ethics approval, consent, registration and protocol",
        "Funding and conflicts of interest",
        "Intended use and place in the clinical pathway",
    )
    return [_entry(item, None) for item in items]
