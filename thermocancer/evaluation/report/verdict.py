"""The verdict in words that stands at the top of a report: what was measured and how far it can be believed.

One function decides its tone, its headline and what the terminal says, from the model and from everything that it is
compared with. The tone is the worst that any line of this table asks for:

============ ===============================================================================================
``bad``      the run leaks, by its protocol or by a check; the model is worse than chance, or clearly below its
             trivial baseline; a shortcut that the model is not clearly above; no fold was trained
``caution``  better than chance is not shown, by the interval or by the rank among permuted labels; better than the
             trivial baseline, or than the untrained twin, is not shown; a shortcut, though the model is clearly above
             it; a fold was not trained, or the folds disagree more than chance lets them; a result of 99 % or more
``open``     nothing speaks against the model, but no trivial baseline stands beside it, or shortcuts were not looked
             for or not shown to be absent
``good``     better than chance and than its trivial baseline, every check holds, shortcuts are shown to be absent
============ ===============================================================================================

The first sentence says how the model stands to chance and to its trivial baseline, whatever else there is to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from thermocancer.evaluation.audit.controls import BASELINE
from thermocancer.evaluation.report.page import PHANTOM_NOTICE, THERMOGRAMS, Words, chance, number, with_interval
from thermocancer.files import Json
from thermocancer.kinds import trivial_kinds

SUSPICIOUS = 0.99
"""An accuracy or AUC this good is a reason to look for a leak before anything else."""

TONES = ("good", "open", "caution", "bad")

RANK_LEVEL = 0.05
"""Of the model's rank among permuted labels; fewer than 19 permutations cannot reach it, and then count as none."""

UNTRAINED = "untrained"


class Finding(NamedTuple):
    """What one comparison asks of the tone, what it puts into the headline, and the sentence that says it whole."""

    tone: str
    clause: str = ""
    sentence: str = ""


def verdict_of(
    document: Json, *, baseline_auc: Json | None, audit: Json | None, phantom: bool, words: Words = THERMOGRAMS
) -> Json:
    """``tone`` (of ``TONES``), one ``headline`` and further ``sentences``, from ``metrics.json`` and ``audit.json``."""
    ranked = _trivial(baseline_auc, audit)
    trivial, standing = ranked[0] if ranked else None, _against_trivial(ranked)
    others = [
        _suspicious(document, audit), _few(document), *_leaks(document, audit), _rank(audit), _twin(audit),
        *_folds(document), _shortcuts(audit, words),
    ]  # fmt: skip
    found = [_chance(document["auc"]), standing, *others]
    sentences = [others[0].sentence, standing.sentence, *(() if audit is None else audit["verdict"]["sentences"])]
    sentences += [each.sentence for each in others[1:]]
    if phantom:
        sentences.append(PHANTOM_NOTICE)
    return {
        "tone": max((each.tone for each in found), key=TONES.index),
        "headline": _headline(document, trivial, standing, [each.clause for each in others if each.clause], words),
        "sentences": [each for each in sentences if each],
    }


def _headline(document: Json, trivial: Json | None, standing: Finding, others: list[str], words: Words) -> str:
    auc = document["auc"]
    if document["unit"] == "exam":
        counted = f"{document['n']} {words.things}"
    elif document["units_by_visit"]:
        units = "series" if document["unit"] == "series" else "units"
        counted = f"{document['n']} {units} of {document['patients']} patients"
    else:
        counted = f"{document['n']} patients"
    whom, figures = f"On {counted} ({document['positives']} {words.positive})", f"AUC {with_interval(auc)}"
    besides = f" Besides, {'; '.join(others)}." if others else ""
    if auc["low"] <= 0.5:
        what = "cannot be told from chance"
        if auc["high"] < 0.5:
            what = f"ranks {words.negative} above {words.positive}: worse than chance"
        beside = f"; {standing.clause}" if standing.clause else ""
        return f"{whom} the model {what}, {figures}{beside}.{besides}"
    if standing.clause:
        return f"{whom} {standing.clause}, against the model's {with_interval(auc)}.{besides}"
    if others:
        return f"{whom} the model reaches {figures}, but {'; '.join(others)}."
    tells = f"{whom} the model tells {words.positive} from {words.negative} better than chance"
    if trivial is None:
        return f"{tells}: {figures}; no trivial baseline was scored beside it."
    return f"{tells} and better than its trivial baseline: {figures} against {with_interval(trivial['auc'])}."


def _chance(auc: Json) -> Finding:
    return Finding("bad" if auc["high"] < 0.5 else "caution" if auc["low"] <= 0.5 else "good")


# --- the trivial baseline and the untrained twin ----------------------------------------------------------------------


def _trivial(baseline_auc: Json | None, audit: Json | None) -> list[Json]:
    """Models that take no effort: ``title``, ``auc`` and ``difference`` (the model's minus its own), strongest first.

    One that is clearly above the model comes before all others, and one that the model is clearly above after them.
    """
    found: list[Json] = []
    controls = () if audit is None else audit["controls"]
    own = trivial_kinds()[0]  # beside the run on all its repeats; the audit has it again on some
    if baseline_auc is not None:
        found.append({"title": own.trivial, "auc": baseline_auc, "difference": baseline_auc["difference"]})
        controls = [each for each in controls if each["name"] != own.name.replace("-", "_")]
    found += [each for each in controls if each["group"] == BASELINE and each["name"] != UNTRAINED]
    compared = [each for each in found if each["difference"] is not None and each["difference"]["low"] is not None]

    def strength(trivial: Json) -> tuple[bool, bool, float]:
        difference = trivial["difference"]
        return difference["high"] < 0, difference["low"] <= 0, float(trivial["auc"]["value"] or 0)

    return sorted(compared, key=strength, reverse=True)


def _against_trivial(ranked: list[Json]) -> Finding:
    if not ranked:
        return Finding("open", sentence="No trivial baseline was scored on the same folds to compare the model with.")
    trivial, *weaker = ranked
    difference, own = trivial["difference"], f"AUC {with_interval(trivial['auc'])}"
    called = f"the trivial baseline ({trivial['title']})"
    if difference["low"] > 0:
        tone, clause, word = "good", "", "the model is clearly above it"
    elif difference["high"] < 0:
        tone, clause, word = "bad", f"{called} does better than the model: {own}", "the model is clearly below it"
    else:
        tone, word = "caution", "the data do not show a difference"
        does = "does as well or better" if difference["value"] <= 0 else "is not shown to do worse than the model"
        clause = f"{called} {does}: {own}"
    others = "".join(f"; {each['title']}: {with_interval(each['auc'])}" for each in weaker)
    return Finding(
        tone, clause,
        f"The trivial baseline ({trivial['title']}) on the same folds reaches {own}; {word} (difference "
        f"{_signed(difference)}){others}.",
    )  # fmt: skip


def _signed(difference: Json) -> str:
    return "{value:+.3f}, {low:+.3f} to {high:+.3f}".format(**difference)


def _twin(audit: Json | None) -> Finding:
    """The audit's own sentences say it whole."""
    twin = _control(audit, UNTRAINED)
    if twin is None or twin["difference"] is None or twin["difference"]["low"] is None:
        return Finding("good")
    difference, own = twin["difference"], f"AUC {with_interval(twin['auc'])}"
    if difference["low"] > 0:
        return Finding("good")
    does = "does as well or better" if difference["value"] <= 0 else "is not shown to do worse"
    return Finding("caution", f"its untrained twin {does} ({own})")


def _control(audit: Json | None, name: str) -> Json | None:
    controls: list[Json] = [] if audit is None else audit["controls"]
    return next((each for each in controls if each["name"] == name), None)


# --- what would make every figure meaningless -------------------------------------------------------------------------


def _suspicious(document: Json, audit: Json | None) -> Finding:
    names = {"accuracy": "accuracy", "auc": "AUC"}
    found = [title for name, title in names.items() if (document[name]["value"] or 0.0) >= SUSPICIOUS]
    if not found:
        return Finding("good")
    sentence = f"A result of 99 % or more ({' and '.join(found)}): look for a leak first. {_leaks_found(audit)}"
    searched = audit is not None and all(check["passed"] is not None for check in audit.get("leak_checks", []))
    clause = "" if searched else "a result of 99 % or more asks for a leak to be looked for first"
    return Finding("caution", clause, sentence)


def _few(document: Json) -> Finding:
    """Where simulated coverage was not kept the bounds above are no proof of anything."""
    note = document["auc"].get("note", "")
    return (
        Finding("caution", note, f"The interval of the AUC cannot be trusted: {note.split(':')[0]}.")
        if note
        else Finding("good")
    )


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


def _leaks(document: Json, audit: Json | None) -> Iterator[Finding]:
    if document["leaks"]:
        yield Finding(
            "bad", "its protocol leaks",
            f"The protocol leaks: {'; '.join(document['leaks'])}. Its figures are optimistic and only "
            "good for comparison with figures made the same way.",
        )  # fmt: skip
    checks = [] if audit is None else audit.get("leak_checks", [])
    failed = [check["problem"] for check in checks if check["passed"] is False and not check.get("declared")]
    if failed:
        yield Finding("bad", f"leak checks failed ({'; '.join(failed)})")


def _rank(audit: Json | None) -> Finding:
    """How many permutations of the labels, taught to the same recipe, reached what the true ones did."""
    permuted = _control(audit, "permuted") or {}
    p, reached = permuted.get("p_permuted"), permuted.get("permutations") or ()
    if p is None or not reached:
        return Finding("good")
    higher = sum(each >= permuted["own"] for each in reached)
    words = f"{higher} of {len(reached)} permutations of the labels rank as well (p {chance(p)})"
    sentence = f"Taught to the same recipe, {words}."
    if p <= RANK_LEVEL or higher == 0:
        return Finding("good", sentence=sentence)
    return Finding("caution", words, sentence)


def _folds(document: Mapping[str, Json]) -> Iterator[Finding]:
    """Folds that were not trained, and folds that disagree: what ``judgement.fold_facts`` found."""
    folds = document.get("folds")
    if not folds:
        return
    flat = [each for each in folds["folds"] if each.get("flat")]
    if flat:
        named = ", ".join(f"{each['fold']}: all scores within {each['spread']:.1g}" for each in flat[:5])
        more = f" and {len(flat) - 5} more" if len(flat) > 5 else ""
        tone = "bad" if len(flat) == len(folds["folds"]) else "caution"
        clause = f"{len(flat)} of {len(folds['folds'])} folds did not train"
        yield Finding(tone, clause, f"Folds that did not train: {named}{more}. Their order says nothing.")
    if folds["disagree"]:
        aucs = [each["auc"] for each in folds["folds"] if each["auc"] is not None]
        words = f"folds disagree more than chance lets them (AUC {number(min(aucs))} to {number(max(aucs))})"
        yield Finding("caution", f"its {words}", f"The {words}, p {chance(folds['p'])}: some were trained badly.")


# --- shortcuts --------------------------------------------------------------------------------------------------------


def _shortcuts(audit: Json | None, words: Words) -> Finding:
    if audit is None:
        return Finding("open", sentence="The audit was not run, so that shortcuts were not looked for.")
    verdict = audit["verdict"]
    named = [each["words"] for each in verdict["shortcuts"]][:1]
    if named:
        clause = f"the label of these {words.things} can be read from {named[0]} alone"
    elif verdict.get("hidden"):
        clause = f"the label can be read {words.blind}"
    else:
        return Finding(verdict["tone"])
    if verdict["tone"] == "bad":
        clause += f": this does not show that it sees {words.seen}"
    return Finding(verdict["tone"], clause)
