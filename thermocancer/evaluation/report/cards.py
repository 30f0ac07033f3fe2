"""Model card, data-set card and reporting check-list: the facts of the report as documents ask for them."""

from __future__ import annotations

from collections.abc import Sequence

from thermocancer.evaluation.report.page import (
    PHANTOM_NOTICE,
    THERMOGRAMS,
    Words,
    fill_template,
    number,
    with_interval,
)
from thermocancer.evaluation.statistics.metrics import METRICS
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run

# --- cards, as Markdown to keep beside the model ----------------------------------------------------------------------

SOURCES = {
    "fetch": "the DMR-IR web site (terms forbid passing its material on)",
    "import": "a folder that was imported",
    "simulate": "a simulation of heat in tissue (phantom)",
}


def model_card(facts: Json, words: Words = THERMOGRAMS) -> str:
    """Markdown from the content of ``report.json``."""
    return fill_template(
        "model-card.md", facts | {"metric_names": list(METRICS), "phantom_notice": PHANTOM_NOTICE, **_said(words)}
    )


def dataset_card(facts: Json, words: Words = THERMOGRAMS) -> str:
    """Markdown from the content of ``report.json``."""
    sources = [SOURCES.get(each, each) for each in facts["sources"]]
    beside = {"sources_in_words": sources, "no_shortcut": why_no_shortcut(facts["audit"], words)}
    return fill_template("data-set-card.md", facts | beside | _said(words))


def _said(words: Words) -> Json:
    return {"words": words, "notice": words.notice}


def why_no_shortcut(audit: Json | None, words: Words = THERMOGRAMS) -> str:
    """What stands in the card where no variable by itself tells the label."""
    if not audit:
        return "- not audited"
    hidden = audit["verdict"].get("hidden", ())
    if hidden:
        found = ", ".join(f"{each['title']} reaches AUC {with_interval(each['auc'])}" for each in hidden)
        return f"- no variable by itself, yet {words.blind} {found}"
    absence = audit["verdict"].get("absence")
    if absence is None or absence["detectable_auc"] is None:
        return f"- could not be looked for: no nuisance variable is known of these {words.things}"
    size = f"below AUC {number(absence['detectable_auc'], 2)} none can be counted on to be named in such a study"
    return f"- {absence['shortcuts']}: no variable by itself; {size}"


# --- the check-list of STARD-AI, TRIPOD+AI and CLAIM ------------------------------------------------------------------

ALL = "STARD-AI, TRIPOD+AI, CLAIM"
"""Item titles are our own short wording; the guidelines number them differently, so they are named, not numbered."""

SHORT_SOURCES = {"fetch": "the DMR-IR web site", "import": "an imported folder", "simulate": "a simulation (phantom)"}
LEFT_TO_PEOPLE = (
    "Eligibility criteria, and where the data were collected",
    "Reference standard: how {negative} and {positive} were established",
    "Time between imaging and the reference standard",
    "Demographic characteristics (age, symptoms, and what else bears on the picture)",
    "Rationale for the sample size",
    "External test on another site's data",
    "Ethics approval, consent, registration and protocol",
    "Funding and conflicts of interest",
    "Intended use and place in the clinical pathway",
)
"""What no program can answer stays visibly open."""


def _confusion_words(counts: Json, words: Words) -> str:
    right = f"{counts['tp']} {words.positive} and {counts['tn']} {words.negative} called right"
    return f"{right}, {counts['fn']} {words.positive} and {counts['fp']} {words.negative} called wrong"


def checklist(
    document: Json,
    run: Run,
    flow: Sequence[Json],
    words: Words = THERMOGRAMS,
    *,
    sources: Sequence[str],
    audit: Json | None,
    subgroups: Sequence[Json],
) -> list[dict[str, str | None]]:
    """One entry an item: ``item``, ``guidelines``, ``answer`` (None: not reported)."""
    used = flow[-1]
    steps = " → ".join(f"{step['step']} {step['exams']}" for step in flow)
    lost = ", ".join(f"{loss['count']} {loss['reason']}" for step in flow for loss in step["losses"])
    manifest = run.manifest
    if document["protocol"] == "thesis":
        apart = "by file"
    elif run.reads is not Reads.IMAGES or document["protocol"] != "holdout":
        apart = "by patient"
    else:
        apart = "in the folders given, by image" if document["unit"] == "exam" else "in the folders given, by patient"
    groupings = sorted({row["grouping"] for row in subgroups})
    answers: list[tuple[str, str | None, str]] = [
        ("Source of the data", ", ".join(SHORT_SOURCES.get(each, each) for each in sources) or None, ALL),
        ("Data set and its version",
         f"{manifest.dataset.name}, content {manifest.dataset.fingerprint[:12]} (SHA-256, shortened)", ALL),
        (f"Flow of {words.things}, with reasons for exclusion",
         steps + (f"; left out: {lost}" if lost else "; nothing left out"), ALL),
        (f"Number of {words.whose}s, {words.things} and of each class", f"{used['patients']} {words.whose}s, "
         f"{used['exams']} {words.things} ({used['healthy']} {words.negative}, {used['sick']} {words.positive})", ALL),
        ("Input: views or frames", ", ".join(manifest.views) or None, ALL),
        ("Model", manifest.model, ALL),
        ("Unit of analysis", f"{document['unit']}: {document['decision_rule']}", ALL),
        ("How data were divided; level of separation",
         f"{document['protocol']}, {apart}; leaks: {'; '.join(document['leaks']) or 'none known'}", ALL),
        ("How the decision threshold was chosen", document["threshold_source"], ALL),
        ("How uncertainty was estimated",
         "; ".join(document[name]["method"] for name in ("accuracy", "auc", "brier")), ALL),
        ("Software, versions, settings and exact command", "at the end of this report", "TRIPOD+AI, CLAIM"),
        ("Random seed", str(manifest.seed), "CLAIM"),
        ("Confusion matrix", _confusion_words(document["confusion"], words), ALL),
        ("Accuracy with intervals", "in the table of figures", ALL),
        ("Calibration", "slope, intercept, Brier score, reliability diagram", "TRIPOD+AI"),
        ("Clinical usefulness", "decision curve and predictive values by prevalence", "TRIPOD+AI"),
        ("Analysis of shortcuts and confounding",
         None if audit is None else f"{len(audit['controls'])} controls, see the audit", ALL),
        ("Failure analysis", f"gallery of misclassified {words.things}", "CLAIM"),
        ("Performance in subgroups", f"by {', '.join(groupings)}" if groupings else None, ALL),
        ("Limitations", "the verdict, and the notice on top", ALL),
        *((item.format(negative=words.negative, positive=words.positive), None, ALL) for item in LEFT_TO_PEOPLE),
    ]  # fmt: skip
    return [{"item": item, "guidelines": guidelines, "answer": answer} for item, answer, guidelines in answers]
