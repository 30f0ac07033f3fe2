"""The verdict in words: what the label could have been read from, and what remains when it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thermocancer.data.split import shared_between
from thermocancer.evaluation.audit.controls import NUISANCE, Control
from thermocancer.evaluation.audit.nuisance import FAMILIES
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.evaluation.report.page import number
from thermocancer.evaluation.statistics.comparison import holm
from thermocancer.files import hash_file
from thermocancer.runs.run import BASELINE, PREDICTIONS, Run

NAMED_BELOW = 0.01
"""A shortcut is named in the verdict where its p, corrected for the number of variables, is below this."""

FOLLOWS = 0.5
"""A variable that goes with the strongest shortcut this closely within the classes only follows it."""

TOGETHER = ("outside_the_breast", "no_breast")

WITHOUT_A_BREAST = (*TOGETHER, "background_only")
"""What may predict the label without seeing a breast although no single variable does."""


Association = Callable[[str, str], float]
"""How closely two variables, by name, go together within the classes (0 to 1)."""


def named_shortcuts(controls: Sequence[Control], association: Association) -> list[dict[str, Any]]:
    """Families of nuisance variables that predict the label, strongest first, each with its best variable.

    ``goes_with`` is True for a family that follows the first one (a warmer room makes blurred edges), so
    that it is no shortcut of its own.
    """
    found = [c for c in controls if c.p_holm is not None and c.p_holm < NAMED_BELOW and c.flag in ("amber", "red")]
    families: dict[str, list[Control]] = {}
    for control in sorted(found, key=lambda control: -_value(control)):
        families.setdefault(control.family, []).append(control)
    strongest = next(iter(families.values()), [])
    named = []
    for family, members in families.items():
        best = members[0]
        follows = members is not strongest and any(association(one.name, best.name) >= FOLLOWS for one in strongest)
        named.append(
            {
                "family": family,
                "words": FAMILIES[family],
                "variable": best.title,
                "auc": best.auc.as_dict(),
                "flag": best.flag,
                "goes_with": follows,
            }
        )
    return named


def hidden_shortcuts(controls: Sequence[Control]) -> list[Control]:
    """What predicts the label without a breast, as surely as a named shortcut must (corrected for their number)."""
    tried = [control for control in controls if control.name in WITHOUT_A_BREAST]
    corrected = holm([1.0 if control.p is None else control.p for control in tried])
    return [
        control
        for control, chance in zip(tried, corrected, strict=True)
        if chance < NAMED_BELOW and control.flag in ("amber", "red")
    ]


def _value(control: Control) -> float:
    return control.auc.value or 0.0


def audit_verdict(
    controls: Sequence[Control],
    matched: Sequence[dict[str, Any]],
    checks: Sequence[dict[str, Any]],
    model_auc: dict[str, Any],
    association: Association,
) -> dict[str, Any]:
    """``tone``, ``sentences``, ``shortcuts`` (the families named, strongest first) and ``hidden``.

    ``hidden`` are titles and AUCs of what sees no breast and predicts the label where no variable alone does.
    """
    shortcuts = named_shortcuts(controls, association)
    hidden = [] if shortcuts else hidden_shortcuts(controls)
    by_name = {control.name: control for control in controls}
    sentences = [
        _what_could_be_read(shortcuts, hidden, by_name, model_auc),
        _what_remains(matched) if shortcuts or hidden else "",
        _about_the_picture(by_name),
        _about_training(by_name),
        _about_checks(checks),
    ]
    return {
        "tone": _tone(shortcuts, hidden, by_name, checks),
        "sentences": [sentence for sentence in sentences if sentence],
        "shortcuts": shortcuts,
        "hidden": [{"title": control.title, "auc": control.auc.as_dict()} for control in hidden],
    }


def _tone(
    shortcuts: Sequence[dict[str, Any]],
    hidden: Sequence[Control],
    by_name: dict[str, Control],
    checks: Sequence[dict[str, Any]],
) -> str:
    if failed_checks(checks):
        return "bad"
    together = by_name.get("no_breast")
    flags = [shortcut["flag"] for shortcut in shortcuts] + [control.flag for control in hidden]
    if shortcuts and together is not None:
        flags.append(together.flag)
    if "red" in flags:
        return "bad"
    return "caution" if shortcuts or hidden else "good"


def _interval(auc: dict[str, Any]) -> str:
    return f"{number(auc['value'])} ({number(auc['low'])} to {number(auc['high'])})"


def _what_could_be_read(
    shortcuts: Sequence[dict[str, Any]],
    hidden: Sequence[Control],
    by_name: dict[str, Control],
    model_auc: dict[str, Any],
) -> str:
    if not shortcuts:
        return _nothing_by_itself(hidden, by_name)
    first, *others = shortcuts
    words = (
        f"The label of these exams can be read from {first['words']}, without looking at a breast: "
        f"{first['variable']} alone reaches AUC {_interval(first['auc'])}"
    )
    for link, members in (
        ("also from", [each for each in others if not each["goes_with"]]),
        ("with it goes", [each for each in others if each["goes_with"]]),
    ):
        if members:
            named = [f"{each['words']} ({each['variable']} {number(each['auc']['value'])})" for each in members]
            words += f"; {link} {', '.join(named)}"
    words += "."
    together = by_name.get("no_breast")
    if together is not None:
        clearly = f"the model is {'' if _clearly_below_the_model(together) else 'not '}clearly above that"
        words += (
            f" Everything outside the breast together reaches {_interval(together.auc.as_dict())}; with "
            f"{number(model_auc['value'])} {clearly}."
        )
    return words


def _nothing_by_itself(hidden: Sequence[Control], by_name: dict[str, Control]) -> str:
    """Where no variable is named: that there is none, or what tells the label all the same."""
    tried = sum(control.group == NUISANCE and control.name not in TOGETHER for control in by_name.values())
    words = (
        f"None of {tried} nuisance variables (camera, calendar, room, marker, framing) predicts the label by "
        "itself once their number is allowed for"
    )
    if not tried:
        words = "No nuisance variable is known of these exams, so that shortcuts could not be looked for"
    if hidden:
        found = ", ".join(f"{control.title} {_interval(control.auc.as_dict())}" for control in hidden)
        return f"{words}, yet the label can be read without looking at a breast: AUC of {found}."
    return f"{words}; nothing here points to a shortcut." if tried else f"{words}."


def _clearly_below_the_model(control: Control) -> bool:
    low = None if control.difference is None else control.difference["low"]
    return low is not None and bool(low > 0)


def _what_remains(matched: Sequence[dict[str, Any]]) -> str:
    if not matched:
        return "No sick and healthy exams are alike in date and room, so that nothing can be said of what would remain."
    tightest = max(matched, key=lambda each: (" and " in each["matching"], each["matching"] != "", -each["pairs"]))
    auc = tightest["auc"]
    words = (
        f"What remains: among {tightest['pairs']} pairs of a sick and a healthy exam with {tightest['matching']} "
        f"the model ranks {_interval(auc)} right"
    )
    if auc["low"] is not None and auc["low"] > 0.5:
        words += ", better than chance"
    elif auc["high"] is not None and auc["high"] < 0.5:
        words += ", worse than chance"
    else:
        words += ", which cannot be told from chance"
    if tightest["few"]:
        words += f" (few pairs: {tightest['sick']} sick, {tightest['healthy']} healthy exams)"
    return words + "."


def _about_the_picture(by_name: dict[str, Control]) -> str:
    parts = []
    torso, background = by_name.get("torso_only"), by_name.get("background_only")
    if torso is not None:
        parts.append(f"taught the torso alone the same recipe reaches {_interval(torso.auc.as_dict())}")
    if background is not None:
        parts.append(f"taught the background alone {_interval(background.auc.as_dict())}")
    if not parts:
        return ""
    words = " and ".join(parts)
    return words[0].upper() + words[1:] + "."


def _about_training(by_name: dict[str, Control]) -> str:
    twin = by_name.get("untrained")
    if twin is None or twin.difference is None:
        return ""
    difference = twin.difference
    if difference["low"] > 0:
        words = "training the network adds to that"
    elif difference["high"] < 0:
        words = "training the network made it worse"
    else:
        words = "training the network has added nothing that these data can show"
    return f"The untrained twin (random weights) reaches {_interval(twin.auc.as_dict())}: {words}."


def _about_checks(checks: Sequence[dict[str, Any]]) -> str:
    """What failed, but for leaks that the protocol declares: the verdict names those by itself."""
    failed = [check for check in failed_checks(checks) if not check.get("declared")]
    words = "; ".join(f"{check['problem']} ({check['found']})" for check in failed)
    return f"Leak checks found: {words}." if failed else ""


# --- the leak audit: facts about the run's own folds that must hold before any figure is  ---


SCORES = (PREDICTIONS, BASELINE)
"""The out-of-sample scores of a run and of its baseline."""

UNNAMED, IMAGES_GONE, TRAINING_GONE = (
    "nobody knows whose the images are (cnn.group is not set)",
    "the images behind this run could not be read again",
    "what the run was trained on could not be read again",
)


def leak_checks(scope: Scope, controls: list[Control]) -> list[dict[str, Any]]:
    """``name``, ``passed`` and ``found`` of each check, and ``problem``: what a check that fails has found.

    ``passed`` is None for what these files cannot tell; ``found`` then says why.
    """
    patients: set[int] = set()
    twins: set[tuple[str, str]] = set()
    for fold in scope.folds:
        shared, same = shared_between(scope.exams, fold.train, fold.test)
        patients |= set(shared)
        twins |= set(same)
    checks = [
        _check(
            "no patient on both sides of a fold", "a patient on both sides of a fold", sorted(patients),
            unknown=_why_patients_are_unknown(scope),
        ),
        _check(
            "no identical image on both sides of a fold", "an identical image on both sides of a fold",
            [" and ".join(pair) for pair in sorted(twins)], unknown=_why_images_are_unknown(scope),
        ),
        _check("each exam scored once in each repeat", "an exam scored twice in a repeat", _scored_twice(scope)),
        _check(
            "labels of the predictions are those of the data set", "labels that differ from those of the data set",
            relabelled(scope),
        ),
        *_as_written(scope.run),
        declared_leaks(scope.run.manifest.leaks),
    ]  # fmt: skip
    permuted = next((control for control in controls if control.name == "permuted"), None)
    if permuted is not None:
        checks.append(
            {
                "name": "permuted labels cannot be predicted",
                "problem": "permuted labels can be predicted",
                "passed": permuted.flag != "failed",
                "found": f"AUC {permuted.auc.value:.3f}" if permuted.auc.value is not None else "",
            }
        )
    return checks


def _as_written(run: Run) -> list[dict[str, Any]]:
    """The files of scores against what the run recorded of them; no check where it recorded nothing."""
    recorded = {name: run.manifest.outputs.get(name) for name in SCORES}
    known = {name: digest for name, digest in recorded.items() if digest and (run.folder / name).is_file()}
    changed = [name for name, digest in known.items() if hash_file(run.folder / name) != digest]
    if not known:
        return []
    return [
        _check("the predictions are as the run wrote them", "predictions changed after the run wrote them", changed)
    ]


def declared_leaks(leaks: Sequence[str]) -> dict[str, Any]:
    """The leaks that the run's own protocol names; ``declared`` tells this check from those that found something."""
    problem = "leaks declared by the protocol"
    name = problem if leaks else "no leak declared by the protocol"
    return _check(name, problem, leaks) | {"declared": True}


def failed_checks(checks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The checks that found something. What cannot be told is neither passed nor failed."""
    return [check for check in checks if check["passed"] is False]


def _check(name: str, problem: str, found: Sequence[Any], *, unknown: str = "") -> dict[str, Any]:
    words = ", ".join(str(each) for each in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    passed = False if found else None if unknown else True
    return {"name": name, "problem": problem, "passed": passed, "found": words or unknown}


def _why_patients_are_unknown(scope: Scope) -> str:
    if not scope.patients_known:
        return UNNAMED
    return "" if all(len(fold.train) for fold in scope.folds) else TRAINING_GONE


def _why_images_are_unknown(scope: Scope) -> str:
    if not any(exam.hashes for exam in scope.exams):
        return IMAGES_GONE
    return "" if all(len(fold.train) for fold in scope.folds) else TRAINING_GONE


def _scored_twice(scope: Scope) -> list[str]:
    seen: set[tuple[int, int, str]] = set()
    twice = []
    for row in scope.run.rows:
        key = (row.patient, row.visit, row.fold.split(".")[0])
        if key in seen:
            twice.append(f"{row.patient}_{row.visit} in {row.fold}")
        seen.add(key)
    return twice


def relabelled(scope: Scope) -> list[str]:
    """Exams whose label in the predictions is not that of the data set."""
    labels = {(exam.patient, exam.visit): exam.label for exam in scope.exams}
    return sorted({f"{r.patient}_{r.visit}" for r in scope.run.rows if labels[r.patient, r.visit] != r.label})
