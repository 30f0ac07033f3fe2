"""The verdict in words: what the label could have been read from, and what remains when it cannot.

Silence is not absence. Where no shortcut is found, it is either *shown absent* (what sees no breast stays below
``ABSENT_BELOW`` with its whole interval), or *not shown*, with the size that these data would have shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NotRequired, TypedDict

from thermocancer.data.split import shared_between
from thermocancer.evaluation.audit.controls import NUISANCE, Control
from thermocancer.evaluation.audit.nuisance import FAMILIES
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.evaluation.report.page import THERMOGRAMS, Words, number, with_interval
from thermocancer.evaluation.statistics.comparison import holm
from thermocancer.evaluation.statistics.intervals import smallest_detectable_auc
from thermocancer.files import Json, hash_file
from thermocancer.runs.run import BASELINE, PREDICTIONS

NAMED_BELOW = 0.05
"""A shortcut is named in the verdict where its p, corrected for the number of tests, is below this.

Together with ``HIDDEN_BELOW`` at most one in twenty studies without a shortcut is told of one: it is fewer, as scores
out of fold rank a little below chance where there is nothing (``benchmarks/shortcut_rates.py``).
"""

HIDDEN_BELOW = 0.02
"""The same for what sees no breast where no variable is named."""

ABSENT_BELOW = 0.6
"""Shortcuts are shown absent where everything that sees no breast, together, has its whole interval below this AUC."""

TESTS = 2
"""At most so many tests a variable are corrected for: by its rank, and by its nearest values."""

POWER = 0.8

FOLLOWS = 0.5
"""A variable that goes with the strongest shortcut this closely within the classes only follows it."""

TOGETHER = ("outside_the_breast", "no_breast")

WITHOUT_A_BREAST = (*TOGETHER, "background_only")
"""What may predict the label without seeing a breast although no single variable does."""

ABSENCE_TONES = {"shown absent": "good", "not shown": "open", "not looked for": "open"}

Association = Callable[[str, str], float]
"""How closely two variables, by name, go together within the classes (0 to 1)."""


class Check(TypedDict):
    """One check of the leak audit; ``problem`` is what one that fails has found.

    ``passed`` is None for what these files cannot tell, and ``found`` says why. ``declared``: by the run's protocol.
    """

    name: str
    problem: str
    passed: bool | None
    found: str
    declared: NotRequired[bool]


class Shortcut(TypedDict):
    """A family of nuisance variables that predicts the label, with its best variable.

    ``goes_with``: it only follows the strongest one, as a warmer room makes blurred edges.
    """

    family: str
    words: str
    variable: str
    auc: Json
    flag: str
    goes_with: bool


class Absence(TypedDict):
    """What silence means. ``shortcuts``: ``shown absent``, ``not shown`` or ``not looked for``.

    ``detectable_auc`` is what one given score had to reach to be named in four of five such studies; one learnt in
    folds is named less often (``benchmarks/shortcut_rates.py``). ``limit``: the upper bound of all without a breast.
    """

    shortcuts: str
    detectable_auc: float | None
    limit: float | None


def audit_verdict(
    controls: Sequence[Control], matched: Sequence[Json], checks: Sequence[Check], model_auc: Json,
    association: Association, words: Words = THERMOGRAMS,
) -> Json:  # fmt: skip
    """``tone``, ``sentences``, ``shortcuts`` (the families named, strongest first), ``hidden`` and ``absence``.

    ``hidden`` are titles and AUCs of what sees no breast and predicts the label where no variable alone does.
    ``absence`` says what may be concluded where nothing is named; None where something is.
    """
    shortcuts = named_shortcuts(controls, association)
    hidden = [] if shortcuts else hidden_shortcuts(controls)
    absence = None if shortcuts or hidden else absence_of(controls)
    by_name = {control.name: control for control in controls}
    failed = [check for check in checks if check["passed"] is False]
    flags = [each["flag"] for each in shortcuts] + [control.flag for control in hidden]
    if shortcuts and "no_breast" in by_name:
        flags.append(by_name["no_breast"].flag)
    # the verdict names leaks that the protocol declares by itself
    leaks = [f"{check['problem']} ({check['found']})" for check in failed if not check.get("declared")]
    sentences = [
        _what_could_be_read(shortcuts, by_name, model_auc, words) if shortcuts else "",
        "" if shortcuts else _nothing_by_itself(hidden, controls, absence, words),
        _what_remains(matched, words) if shortcuts or hidden else "",
        *_about_the_network(by_name),
        f"Leak checks found: {'; '.join(leaks)}." if leaks else "",
    ]
    return {
        "tone": "bad" if failed or "red" in flags else ABSENCE_TONES[absence["shortcuts"]] if absence else "caution",
        "sentences": [sentence for sentence in sentences if sentence],
        "shortcuts": shortcuts,
        "hidden": [{"title": control.title, "auc": control.auc.as_dict()} for control in hidden],
        "absence": absence,
    }


def named_shortcuts(controls: Sequence[Control], association: Association) -> list[Shortcut]:
    """Families of nuisance variables that predict the label, strongest first, each with its best variable."""
    found = [c for c in controls if c.p_holm is not None and c.p_holm < NAMED_BELOW and c.is_shortcut]
    families: dict[str, list[Control]] = {}
    for control in sorted(found, key=lambda control: -(control.auc.value or 0.0)):
        families.setdefault(control.family, []).append(control)
    strongest = next(iter(families.values()), [])
    return [
        Shortcut(
            family=family, words=FAMILIES.get(family, family), variable=best.title, auc=best.auc.as_dict(),
            flag=best.flag,
            goes_with=best is not strongest[0] and any(association(c.name, best.name) >= FOLLOWS for c in strongest),
        )
        for family, (best, *_) in families.items()
    ]  # fmt: skip


def absence_of(controls: Sequence[Control]) -> Absence:
    """What may be concluded from naming no shortcut: at the level and correction by which one is named."""
    alone = [control for control in controls if control.group == NUISANCE and control.name not in TOGETHER]
    together = next((each for each in controls if each.name == "no_breast"), alone[0] if len(alone) == 1 else None)
    if not alone:
        return {"shortcuts": "not looked for", "detectable_auc": None, "limit": None}
    limit = None if together is None else together.auc.high
    detectable = smallest_detectable_auc(
        alone[0].positives, alone[0].n - alone[0].positives, power=POWER, alpha=NAMED_BELOW / (TESTS * len(alone))
    )
    absent = limit is not None and limit < ABSENT_BELOW
    return {
        "shortcuts": "shown absent" if absent else "not shown", "detectable_auc": detectable, "limit": limit
    }  # fmt: skip


def hidden_shortcuts(controls: Sequence[Control]) -> list[Control]:
    """What predicts the label without a breast, as surely as a named shortcut must (corrected for their number)."""
    tried = [control for control in controls if control.name in WITHOUT_A_BREAST]
    corrected = holm([1.0 if control.p is None else control.p for control in tried])
    return [
        control
        for control, chance in zip(tried, corrected, strict=True)
        if chance < HIDDEN_BELOW and control.is_shortcut
    ]


def _reached(control: Control) -> str:
    return f"reaches {with_interval(control.auc.as_dict())}"


def _what_could_be_read(
    shortcuts: Sequence[Shortcut], by_name: dict[str, Control], model_auc: Json, words: Words
) -> str:  # fmt: skip
    first, *others = shortcuts
    said = (
        f"The label of these {words.things} can be read from {first['words']}, {words.blind}: "
        f"{first['variable']} alone reaches AUC {with_interval(first['auc'])}"
    )
    for link, follows in (("also from", False), ("with it goes", True)):
        named = [
            f"{each['words']} ({each['variable']} {with_interval(each['auc'])})"
            for each in others
            if each["goes_with"] is follows
        ]
        said += f"; {link} {', '.join(named)}" if named else ""
    said += "."
    together = by_name.get("no_breast")
    if together is not None:
        clearly = f"the model is {'' if together.is_clearly_below_the_model else 'not '}clearly above that"
        said += f" Everything of this kind together {_reached(together)}; with {number(model_auc['value'])} {clearly}."
    return said


def _nothing_by_itself(
    hidden: Sequence[Control], controls: Sequence[Control], absence: Absence | None, words: Words
) -> str:
    """Where no variable is named: what tells the label all the same, or what may be concluded from there being none."""
    alone = [control for control in controls if control.group == NUISANCE and control.name not in TOGETHER]
    families = list(dict.fromkeys(FAMILIES.get(control.family, control.family) for control in alone))
    said = (
        f"None of {len(alone)} nuisance variables ({', '.join(families)}) predicts the label by itself once their "
        "number is allowed for"
    )
    if not alone:
        said = f"No nuisance variable is known of these {words.things}, so that shortcuts could not be looked for"
    if hidden:
        found = ", ".join(f"{control.title} {with_interval(control.auc.as_dict())}" for control in hidden)
        return f"{said}, yet the label can be read {words.blind}: AUC of {found}."
    if absence is None or not alone:
        return f"{said}."
    said = said[0].lower() + said[1:]
    size = f"AUC {number(absence['detectable_auc'], 2)}"
    if absence["shortcuts"] == "shown absent":
        return (
            f"Shortcuts are shown absent, of the kinds looked for: {said}, and all of them together reach at most AUC "
            f"{number(absence['limit'])}, below {ABSENT_BELOW:.2f}. Below {size} no single variable can be counted on "
            "to be named in such a study."
        )
    return (
        f"No shortcut is shown, which does not show that there is none: {said}, but below {size} none can be counted "
        f"on to be named in a study of this size ({alone[0].positives} {words.positive}, "
        f"{alone[0].n - alone[0].positives} {words.negative}), and a category or one that neither rises nor falls with "
        "the label is often missed even there."
    )


def _what_remains(matched: Sequence[Json], words: Words) -> str:
    """Of the tightest matching: by date, and by background as well where that is known."""
    if not matched:
        return (
            f"No {words.positive} and {words.negative} {words.things} are alike in {words.alike}, so that nothing can "
            "be said of what would remain."
        )
    tightest = max(matched, key=lambda each: (each["by_date"], each["by_room"], each["matching"] != "", -each["pairs"]))
    auc = tightest["auc"]
    alike = f"{'of' if tightest['matching'].startswith('one') else 'with'} {tightest['matching']}"
    ranks = (
        f"among {tightest['pairs']} pairs of a {words.positive} and a {words.negative} {words.thing} {alike} the model "
        f"ranks {with_interval(auc)} right"
    )
    few = f" (few pairs: {tightest['sick']} {words.positive}, {tightest['healthy']} {words.negative} {words.things})"
    few = few if tightest["few"] else ""
    if not tightest["by_date"]:
        return (
            f"What remains cannot be said, because dates are unknown or no pair is alike in them: {ranks}{few}, but "
            "whatever goes with the date may have told them apart."
        )
    said = "which cannot be told from chance"
    if auc["low"] is not None and auc["low"] > 0.5:
        said = "better than chance"
        if not tightest["by_room"]:
            room_known = any(each["by_room"] for each in matched)
            said += f" (but no pair is alike in {'both' if room_known else 'background too, as far as known'})"
    elif auc["high"] is not None and auc["high"] < 0.5:
        said = "worse than chance"
    return f"What remains: {ranks}, {said}{few}."


def _about_the_network(by_name: dict[str, Control]) -> list[str]:
    """What parts of the picture alone are good for, and what training adds to random weights."""
    torso, background, twin = (by_name.get(name) for name in ("torso_only", "background_only", "untrained"))
    parts = [] if torso is None else [f"taught the torso alone the same recipe {_reached(torso)}"]
    if background is not None:
        parts.append(f"taught the background alone {with_interval(background.auc.as_dict())}")
    words = " and ".join(parts)
    sentences = [f"{words[0].upper()}{words[1:]}."] if words else []
    if twin is not None and twin.difference is not None:
        words = "training the network has added nothing that these data can show"
        if twin.difference["low"] > 0:
            words = "training the network adds to that"
        elif twin.difference["high"] < 0:
            words = "training the network made it worse"
        sentences.append(f"The untrained twin (random weights) {_reached(twin)}: {words}.")
    return sentences


# --- the leak audit: facts about the run's own folds that must hold before any figure is believed ---------------------

UNNAMED, IMAGES_GONE, TRAINING_GONE = (
    "nobody knows whose the images are (cnn.group is not set)",
    "the images behind this run could not be read again",
    "what the run was trained on could not be read again",
)


def leak_checks(scope: Scope, controls: Sequence[Control]) -> list[Check]:
    """What was looked for on both sides of the run's folds and in its files, and whether it was found."""
    run, patients, twins = scope.run, set[int](), set[tuple[str, str]]()
    thing = run.reads.item
    for fold in scope.folds:
        shared, same = shared_between(scope.exams, fold.train, fold.test)
        patients |= set(shared)
        twins |= set(same)
    seen: set[tuple[str, str]] = set()
    twice = []
    for row, name in zip(run.rows, run.scored, strict=True):
        key = (name, row.fold.split(".")[0])
        if key in seen:
            twice.append(f"{name} in {row.fold}")
        seen.add(key)
    untold = "" if all(len(fold.train) for fold in scope.folds) else TRAINING_GONE
    checks = [
        _check(
            "no patient on both sides of a fold", "a patient on both sides of a fold", sorted(patients),
            unknown=untold if scope.patients_known else UNNAMED,
        ),
        _check(
            "no identical image on both sides of a fold", "an identical image on both sides of a fold",
            [" and ".join(pair) for pair in sorted(twins)],
            unknown=untold if any(exam.hashes for exam in scope.exams) else IMAGES_GONE,
        ),
        _check(f"each {thing} scored once in each repeat", f"an {thing} scored twice in a repeat", twice),
        _check(
            "labels of the predictions are those of the data set", "labels that differ from those of the data set",
            relabelled(scope),
        ),
    ]  # fmt: skip
    recorded = {run.folder / name: run.manifest.outputs.get(name) for name in (PREDICTIONS, BASELINE)}
    known = {path: digest for path, digest in recorded.items() if digest and path.is_file()}
    if known:
        changed = [path.name for path, digest in known.items() if hash_file(path) != digest]
        name = "the predictions are as the run wrote them"
        checks.append(_check(name, "predictions changed after the run wrote them", changed))
    leaks, problem = run.manifest.leaks, "leaks declared by the protocol"
    declared = _check(problem if leaks else "no leak declared by the protocol", problem, leaks)
    checks.append(Check(**declared, declared=True))
    for control in controls:
        if control.name == "permuted":
            found = "" if control.auc.value is None else f"AUC {control.auc.value:.3f}"
            name, problem = "permuted labels cannot be predicted", "permuted labels can be predicted"
            checks.append(Check(name=name, problem=problem, passed=control.flag != "failed", found=found))
    return checks


def _check(name: str, problem: str, found: Sequence[object], *, unknown: str = "") -> Check:
    words = ", ".join(str(each) for each in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    passed = False if found else None if unknown else True
    return {"name": name, "problem": problem, "passed": passed, "found": words or unknown}


def relabelled(scope: Scope) -> list[str]:
    """Exams whose label in the predictions is not that of the data set."""
    labels = {(exam.patient, exam.visit): exam.label for exam in scope.exams}
    return sorted({f"{r.patient}_{r.visit}" for r in scope.run.rows if labels[r.patient, r.visit] != r.label})
