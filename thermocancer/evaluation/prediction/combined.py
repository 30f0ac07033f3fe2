"""The answer of a late run for one exam: each combined run reads what it can, the late run decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thermocancer.data.cohort import Exam, FloatArray
from thermocancer.errors import ConfigError, ThermocancerError
from thermocancer.evaluation.prediction.gathering import NewExam, NewFile, read_files
from thermocancer.evaluation.prediction.scoring import Oracle, answer, decision_words, like_scores, readable
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run, read_run
from thermocancer.workspace import VIEWS, Workspace

NO_INTERVAL = {
    "low": None, "high": None,
    "method": "not available: a late run keeps one model, and none of its folds, whose spread an interval would show",
}  # fmt: skip

UNCOMPARED = "the data set of a combined run is not here, so that this exam could not be compared with it"


@dataclass
class LateOracle:
    """A late run ready to answer, with the runs that it combines, in its own order."""

    run: Run
    fitted: Any
    parts: tuple[Oracle, ...]
    units: Units

    @property
    def by_features(self) -> bool:
        from thermocancer.classifiers.late.features import KIND

        return bool(self.fitted.settings["kind"] == KIND)

    @property
    def views(self) -> tuple[str, ...]:
        """Views that the static runs read."""
        wanted = {view for part in self.parts if not part.dynamic for view in part.views}
        return tuple(view for view in VIEWS if view in wanted)


def is_late(run: Run) -> bool:
    """Does this run combine other runs?"""
    return run.reads is Reads.RUNS


def load_late_oracle(run: Run, workspace: Workspace, oracle_of: Callable[[Run], Oracle]) -> LateOracle:
    """Load a late run and what it combines; ``oracle_of`` makes the oracle of one combined run.

    Raises DataError when a combined run is gone or no longer the one that was combined, ConfigError
    when it is a late run itself.
    """
    from thermocancer.classifiers.late.scores import check_components
    from thermocancer.classifiers.making import load_fitted

    fitted: Any = load_fitted(run.model_folder, workspace)
    names = [each["run"] for each in fitted.settings["components"]]
    check_components(workspace, fitted.settings["components"], run.name)
    found = {name: read_run(workspace, name) for name in names}
    nested = [name for name, each in found.items() if is_late(each)]
    if nested:
        raise ConfigError(
            f"run {run.name!r} cannot score a new exam",
            where=run.folder, expected="a late run that combines runs of fuse and train-dit",
            found=f"it combines the late run {nested[0]}", hint="combine all the runs at once",
        )  # fmt: skip
    # sequence networks first: they bring their own strategy, which encoders then share
    order = sorted(names, key=lambda name: found[name].reads is not Reads.FRAMES)
    oracles = {name: oracle_of(found[name]) for name in order}
    return LateOracle(run, fitted, tuple(oracles[name] for name in names), gather_units(run.rows))


def answer_late(exam: NewExam, late: LateOracle) -> dict[str, Any]:
    """Everything to be said of one exam, as ``answers.answer``; ``parts`` tells what each combined run made of it.

    Afterwards the exam's files are read and judged.
    """
    own = [_read_by(exam, part) for part in late.parts]
    said = [answer(each, part) for each, part in zip(own, late.parts, strict=True)]
    exam.files = _judged(exam, own, late.parts)
    parts = [_part(part, each) for part, each in zip(late.parts, said, strict=True)]
    result = {
        "exam": exam.name,
        "files": [file.as_dict() for file in exam.files],
        "views": list(dict.fromkeys(view for each in said for view in each["views"])),
        "views_needed": list(late.views),
        "parts": parts,
    }
    silent = [each for each in parts if each["status"] == "refused"]
    if len(silent) == len(parts):
        return result | {"status": "refused", "reason": _in_words(silent)}
    try:
        one = _presented(exam, own, said, late)
        score = float(late.fitted.scores(one, np.array([0]))[0])
        if late.by_features:
            for part, added in zip(parts, late.fitted.model.contributions(one, np.array([0]))[0], strict=True):
                part["adds_log_odds"] = float(added)
    except ThermocancerError as error:
        return result | {"status": "refused", "reason": str(error)}
    novelty = _novelty(late.parts, said)
    abstains = bool(novelty["flag"])
    return result | {
        "status": "abstained" if abstains else "scored",
        "reason": "; ".join(novelty["reasons"]) if abstains else "",
        "score": score,
        "note": _missing(silent, late),
        "interval": dict(NO_INTERVAL),
        "like_scores": like_scores(late.units, score),
        "threshold": late.fitted.threshold,
        "decision": None if abstains else decision_words(score >= late.fitted.threshold),
        "out_of_distribution": novelty,
    }


def _read_by(exam: NewExam, part: Oracle) -> NewExam:
    """The exam as one of the combined runs finds it: its own protocol's files, by its own rules."""
    files = [replace(file, verdicts=[], notes=list(file.notes)) for file in exam.files]
    own = NewExam(
        exam.name, [file for file in files if (file.frame is not None) == part.dynamic], exam.patient, exam.visit
    )
    expected = part.config.filter.shape or (None if part.config.dataset.size else part.shape)
    read_files(own, part.config.filter, expected, dynamic=part.dynamic)
    return own


def _judged(exam: NewExam, own: Sequence[NewExam], parts: Sequence[Oracle]) -> list[NewFile]:
    """Every file as the first run that reads its protocol judged it."""
    found = {file.path: file for each in reversed(own) for file in each.files}
    for file in exam.files:
        if file.path not in found:
            kind = "a static thermogram" if file.frame is None else "a frame of a dynamic exam"
            found[file.path] = replace(file, notes=[*file.notes, f"not used: {kind}"])
    return [found[file.path] for file in exam.files]


def _part(part: Oracle, said: dict[str, Any]) -> dict[str, Any]:
    facts = {"run": part.run.name, "model": part.run.manifest.model, "status": said["status"]}
    return facts | {"reason": said["reason"], "score": said.get("score")}


def _in_words(silent: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{each['run']}: {each['reason']}" for each in silent)


def _missing(silent: Sequence[dict[str, Any]], late: LateOracle) -> str:
    """Which runs had nothing to read, and what stands in their place; empty when all took part."""
    if not silent:
        return ""
    place = "the training patients' mean stands for it" if late.by_features else "the others decide"
    why = silent[0]["reason"] if len(silent) == 1 else _in_words(silent)
    return f"without {', '.join(each['run'] for each in silent)} ({place}): {why}"


def _presented(exam: NewExam, own: Sequence[NewExam], said: Sequence[dict[str, Any]], late: LateOracle) -> Any:
    """What the combined runs make of the exam, as the late run's model reads it: logits, or features."""
    from thermocancer.classifiers.late.features import OneExam
    from thermocancer.classifiers.protocol import logit

    features: list[FloatArray | None] = [None] * len(own)
    nuisance: list[dict[str, FloatArray]] = [{} for _ in own]
    for number, (each, part) in enumerate(zip(own, late.parts, strict=True)):
        if said[number]["status"] == "refused":
            continue
        if late.by_features:
            features[number], nuisance[number] = _features(each, part)
        else:
            features[number] = logit(np.array([said[number]["score"]]))
    return OneExam((Exam(exam.patient, exam.visit, 0),), tuple(features), tuple(nuisance))


def _features(exam: NewExam, part: Oracle) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Features (p,) of the exam by the frozen parts that a run keeps, and its nuisance."""
    from thermocancer.features.prepared import prepare

    source, fitted = readable(exam, part), part.fitted
    if not part.dynamic:
        source = prepare(source, fitted.preparation)  # type: ignore[attr-defined]
    row = np.zeros(1, dtype=np.int64)
    return part.run.kind.family().kept_reader(fitted).of(source, row)[0], source.nuisance()


def _novelty(parts: Sequence[Oracle], said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The doubts of every run that took part, under its name."""
    found = [(part.run.name, each["out_of_distribution"]) for part, each in zip(parts, said, strict=True)
             if each["status"] != "refused"]  # fmt: skip
    reasons = [f"{name}: {reason}" for name, each in found for reason in each["reasons"]]
    distances = [(each["distance"], each["limit"]) for _, each in found if each["distance"] is not None]
    distance, limit = max(distances, key=lambda pair: pair[0] / pair[1]) if distances else (None, None)
    note = "" if len(distances) == len(found) else UNCOMPARED
    flag = any(each["flag"] for _, each in found)
    return {"flag": flag, "reasons": reasons, "distance": distance, "limit": limit, "note": note}
