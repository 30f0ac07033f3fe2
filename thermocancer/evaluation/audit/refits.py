"""Controls that train again: permuted labels, the leaky twin, the untrained twin, parts of the picture, time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from thermocancer.cache import mapped_array
from thermocancer.classifiers.late.scores import Relabelled, ScoredRun, combine
from thermocancer.classifiers.protocol import Unavailable
from thermocancer.data.cohort import CentiCelsius, ChangedCohort, Cohort, Frames, IntArray, centi_celsius
from thermocancer.data.split import Fold
from thermocancer.errors import DataError
from thermocancer.evaluation.audit.controls import BASELINE, CONTROL, INPUT, Control, Judge, Permuted, flag_shortcut
from thermocancer.evaluation.audit.scope import Refitting, Scope
from thermocancer.evaluation.statistics.intervals import POOLED, Estimate, folded_auc
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import fingerprint
from thermocancer.kinds import Reads, trivial_kinds
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import read_run
from thermocancer.thermal.regions import background_only, torso_only

LATE_SHARE = 0.35
"""The latest patients, so many of them, are tested in the split by time."""


# --- permuted labels --------------------------------------------------------------------------------------------------

PERMUTATIONS, FEW_PERMUTATIONS = 30, 5
"""How often labels are permuted; how often where that is dear."""

LEAK_LEVEL = 0.005
"""Permuted labels are called predictable where their mean AUC is above .5 at this level."""


def permuted_labels(refitting: Refitting) -> Permuted:
    """The same recipe taught permuted labels many times, and once the true ones: a leak, and the model's rank."""
    count, why = permutations_of(refitting)
    scope, seed = refitting.scope, refitting.config.seed
    labels = [scope.labels, *(permute_by_patient(scope, seed, number) for number in range(count))]
    if refitting.weighs_scores:
        return judge_permuted(*_combined_anew(refitting, labels[1:]), ranked=False)
    own, *permuted = refitting.taught("permuted", refitting.classifier(), labels)
    return judge_permuted(own, permuted, why)


def permutations_of(refitting: Refitting) -> tuple[int, str]:
    """How many permutations, and why so few in words; empty where they are not."""
    wanted = refitting.permutations
    if wanted is not None:
        return wanted, ""
    config, why = refitting.config, ""
    if refitting.kind.trains_network:
        why = "each trains a network in every fold"
    elif config.sweep.trials:
        why = "each searches for its settings in every fold (sweep.trials)"
    elif config.features.residualise and refitting.kind.reads is Reads.CODES:
        why = "each needs inner products of its own (features.residualise)"
    return (FEW_PERMUTATIONS if why else PERMUTATIONS), why


def _combined_anew(
    refitting: Refitting, labels: Sequence[IntArray]
) -> tuple[list[Prediction], list[list[Prediction]]]:  # fmt: skip
    """Rows of a combination of scores as it is, and where its weights were learnt from each of the labels.

    Raises Unavailable when the combined runs are no longer those that it was made from.
    """
    fuse, scope = refitting.config.fuse, refitting.scope
    runs = [read_run(refitting.workspace, name) for name in refitting.combines]

    def combined(parts: Sequence[ScoredRun]) -> list[Prediction]:
        return combine(parts, stacking=fuse.stacking, aim=fuse.aim, sensitivity=fuse.aim_sensitivity).rows

    own = combined(runs)
    made, known = ({(row.patient, row.visit, row.fold): row.score for row in rows} for rows in (own, scope.run.rows))
    if made.keys() != known.keys() or any(abs(made[key] - known[key]) > 1e-9 for key in made):
        raise Unavailable(f"a run among {', '.join(refitting.combines)} has changed since this one combined them")
    given = [{exam.patient: label for exam, label in zip(scope.exams, each.tolist(), strict=True)} for each in labels]
    return own, [combined([Relabelled.of(run, each) for run in runs]) for each in given]


def judge_permuted(
    own: list[Prediction], permuted: Sequence[list[Prediction]], how: str = "", *, ranked: bool = True
) -> Permuted:
    """The control from rows of the true labels and of each permutation, which hold the labels that were taught.

    It fails where the permutations' mean is above .5 beyond its own standard error (a t test): one draw alone may lie
    anywhere. ``how`` they were trained is added to its note. Where not ``ranked`` the true labels have taught what
    is below, so that the rank would flatter. Raises Unavailable where no fold tested both classes.
    """
    from scipy.stats import t

    model, *aucs = (auc_inside_folds(rows) for rows in (own, *permuted))
    mean, error = float(np.mean(aucs)), float(np.std(aucs, ddof=1)) / np.sqrt(len(aucs))
    chance = float(t.sf((mean - 0.5) / error, len(aucs) - 1)) if error > 0 else float(mean <= 0.5)
    failed = chance < LEAK_LEVEL
    p = (1 + sum(each >= model for each in aucs)) / (1 + len(aucs))
    rank = (
        f"taught the true labels the same recipe reaches {model:.3f}: p = {p:.2g}"
        + (f", the smallest that {len(aucs)} permutations can give" if p * (1 + len(aucs)) == 1 else "")
        if ranked
        else "of the combination alone: the runs below were taught the true labels, and p stands in their own audits"
    )
    note = f"{'above chance: information leaks' if failed else 'their mean is not above .5, as it must be'}; {rank}" + (
        f"; {len(aucs)} permutations because {how}" if how else ""
    )
    units = gather_units(own)
    return Permuted(
        "permuted", f"labels permuted before training, {len(aucs)} times", CONTROL,
        Estimate(mean, min(aucs), max(aucs), "mean and range of permutations, pairs tested in one fold"),
        len(units), int(units.labels.sum()), p=chance, flag="failed" if failed else "none", note=note,
        permutations=tuple(aucs), own=model,
        p_permuted=p if ranked else None,
    )  # fmt: skip


def auc_inside_folds(rows: Sequence[Prediction]) -> float:
    """``folded_auc`` of rows. Raises Unavailable where no fold tested both classes."""
    units = gather_units(rows)
    if units.has_both_classes and (found := folded_auc(units)).method != POOLED:
        return found.value
    raise Unavailable("no fold tests exams of both classes")


def permute_by_patient(scope: Scope, seed: int, number: int = 0) -> IntArray:
    """Labels (n,) shuffled among the patients whom one fold tests, and among those who are only trained on.

    Each patient's exams keep one label, and every fold of the first repeat as many sick as it had. That is what
    exchangeable labels do once the folds are fixed, so that encoders and inner products of the folds stay, the
    rank is exact and the mean is .5: given what the other folds hold, any of a fold's patients may be the sick
    ones. (Shuffled over folds that were stratified by the true labels, one draw is .376 to .445 when pooled.)
    """
    labels = scope.labels.copy()
    stratum: dict[int, str] = {}
    first: dict[int, int] = {}
    for name, part in [(each.name, each.test) for each in scope.folds] + [("", each.train) for each in scope.folds]:
        for row in part.tolist():
            stratum.setdefault(scope.exams[row].patient, name)
            first.setdefault(scope.exams[row].patient, int(labels[row]))
    random = np.random.default_rng([seed, 0xA0D1, number])
    given: dict[int, int] = {}
    for name in sorted(set(stratum.values())):
        given |= shuffled({patient: first[patient] for patient in first if stratum[patient] == name}, random)
    for row, exam in enumerate(scope.exams):
        labels[row] = given.get(exam.patient, labels[row])
    return labels


def shuffled(labels: Mapping[int, int], random: np.random.Generator) -> dict[int, int]:
    """The same labels, as many of each, on the same patients in another order."""
    patients = sorted(labels)
    return dict(zip(patients, random.permutation([labels[each] for each in patients]).tolist(), strict=True))


# --- twins, baselines, parts of the picture, time ---------------------------------------------------------------------


def leaky_twin(refitting: Refitting) -> Control:
    """The same recipe divided by exam instead of by patient."""
    _needs_one_run(refitting)
    exams = refitting.scope.exams
    patients = [exams[row].patient for row in _exams_of(refitting.folds)]
    repeated = len(patients) - len(set(patients))
    if repeated == 0:
        raise Unavailable("no patient has two exams, so that a split by exam leaks nothing")
    folds = leaky_folds(refitting.folds, refitting.config.seed)
    for part in (np.concatenate([fold.test for fold in folds]), *(fold.train for fold in folds)):
        if len(set(refitting.scope.labels[part].tolist())) < 2:
            raise Unavailable("divided by exam, a part would hold one class only")
    rows = refitting.scores("leaky", refitting.classifier(), folds=folds)
    note = f"{repeated} exams have another exam of the same patient to be known by"
    control = refitting.judge.control("leaky", "LEAKY: split by exam, not by patient", CONTROL, rows, note=note)
    return replace(control, flag="leaky")


def leaky_folds(folds: Sequence[Fold], seed: int) -> list[Fold]:
    """As many folds of the same exams, shuffled one by one whatever their patient; a hold-out as large as it was."""
    repeats: dict[str, list[Fold]] = {}
    for fold in folds:
        repeats.setdefault(fold.name.split(".")[0], []).append(fold)
    result = []
    for number, own in enumerate(repeats.values()):
        pool = _exams_of(own)
        order = np.random.default_rng([seed, 0x1EAC, number]).permutation(pool)
        parts = np.array_split(order, len(own)) if len(own) > 1 else [order[: len(own[0].test)]]
        for fold, part in zip(own, parts, strict=True):
            test = np.sort(part)
            result.append(Fold(fold.name, np.setdiff1d(pool, test), test))
    return result


def _exams_of(folds: Sequence[Fold]) -> IntArray:
    """Every exam that some folds train or test on."""
    return np.unique(np.concatenate([part for fold in folds for part in (fold.train, fold.test)]))


def untrained_twin(refitting: Refitting) -> Control:
    """The same model whose network has random weights and was never trained."""
    _needs_one_run(refitting)
    twin, note = refitting.twin()
    return judge_untrained(refitting.judge, refitting.scores("untrained", twin), note)


def judge_untrained(judge: Judge, rows: list[Prediction], note: str) -> Control:
    """The control from the rows of a twin that was never trained."""
    return judge.control("untrained", "untrained twin: random weights, never trained", BASELINE, rows, note=note)


def trivial_baselines(refitting: Refitting) -> list[Control]:
    """Thermal statistics, left-right asymmetry and the plain asymmetry index on the same folds."""
    _needs_static_views(refitting)
    controls = []
    for each in (trivial for trivial in trivial_kinds() if trivial != refitting.kind):
        rows = refitting.scores(each.name, refitting.classifier(each.name))
        controls.append(refitting.judge.control(each.name.replace("-", "_"), each.trivial, BASELINE, rows))
    return controls


def _needs_one_run(refitting: Refitting) -> None:
    if refitting.combines:
        raise Unavailable(f"the run combines {', '.join(refitting.combines)}: their own audits have this control")


def _needs_static_views(refitting: Refitting) -> None:
    _needs_one_run(refitting)
    if refitting.kind.reads is Reads.FRAMES:
        raise Unavailable("the run reads the frames of dynamic exams, not static views")


def torso_alone(refitting: Refitting) -> Control:
    """The same recipe where background and marker are gone."""
    return _masked(refitting, "torso_only", torso_only, "torso only: background and marker removed")


def background_alone(refitting: Refitting) -> Control:
    """The same recipe where the torso is blanked: what it can tell without any breast."""
    return flag_shortcut(_masked(refitting, "background_only", background_only, "background only: torso blanked"))


def _masked(refitting: Refitting, name: str, change: Change, title: str) -> Control:
    _needs_static_views(refitting)
    folder = refitting.workspace.cache / "masked"
    cohort = MaskedCohort(refitting.cohort, change, name.replace("_", "-"), folder)
    rows = refitting.scores(name, refitting.classifier(), cohort=cohort)
    return refitting.judge.control(name, title, INPUT, rows)


def early_to_late(refitting: Refitting) -> Control:
    """Trained on the early patients, tested on the late ones; says how many of those the encoders had seen."""
    _needs_one_run(refitting)
    fold = time_fold(refitting.scope)
    rows = refitting.scores("late", refitting.classifier(), folds=[fold])
    note = f"{len(fold.train)} early exams, {len(fold.test)} late ones"
    if refitting.kind.reads is Reads.CODES:
        seen = refitting.kind.family().shown(refitting.asked, refitting.cohort, fold)
        note += f"; the encoders had seen {len(seen)} of the late patients, without labels" if seen else ""
    return refitting.judge.control("late", "trained on early exams, tested on late ones", CONTROL, rows, note=note)


def time_fold(scope: Scope) -> Fold:
    """The fold by time over dated exams, of a hold-out's training part too.

    It borrows the name of the split's own fold for its encoders. Raises Unavailable where dates are unknown or
    one side would hold one class only.
    """
    dates = scope.dates()
    dated = [row for row in _exams_of(scope.folds).tolist() if np.isfinite(dates[row])]
    last = {scope.exams[row].patient: dates[row] for row in sorted(dated, key=lambda row: dates[row])}
    patients = sorted(last, key=lambda patient: (last[patient], patient))
    late = set(patients[len(patients) - round(LATE_SHARE * len(patients)) :])
    test = np.array([row for row in dated if scope.exams[row].patient in late], dtype=np.int64)
    train = np.array([row for row in dated if scope.exams[row].patient not in late], dtype=np.int64)
    for name, part in (("early", train), ("late", test)):
        if len(set(scope.labels[part].tolist())) < 2:
            raise Unavailable(
                f"the {name} exams hold one class only" if len(part) else "the dates of the exams are unknown"
            )
    return Fold("test", train, test)


REFITS: tuple[tuple[str, Callable[[Refitting], Control | list[Control]]], ...] = (
    ("permuted labels", permuted_labels),
    ("leaky twin", leaky_twin),
    ("untrained twin", untrained_twin),
    ("trivial baselines", trivial_baselines),
    ("torso only", torso_alone),
    ("background only", background_alone),
    ("early to late", early_to_late),
)
"""Every control that trains again, by the name shown while it runs."""


# --- a data set seen otherwise: only the torso, or only what is around it ---------------------------------------------

Change = Callable[[CentiCelsius], CentiCelsius]


class MaskedCohort(ChangedCohort):
    """``cohort`` with every matrix changed by ``change``; each is computed once and kept in ``folder``."""

    def __init__(self, cohort: Cohort, change: Change, name: str, folder: Path) -> None:
        if cohort.kind != "celsius":
            raise DataError("colour images hold no degrees to find the body by", expected="a data set of matrices")
        super().__init__(cohort)
        self._change, self.name = change, name
        self.fingerprint = fingerprint(cohort.fingerprint, name)
        self._folder = folder / self.fingerprint[:32]
        self._views: dict[str, CentiCelsius] = {}

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        def fill(matrices: CentiCelsius) -> None:
            for row in np.flatnonzero(self.present(view)):
                matrices[row] = self._change(centi_celsius(self.original, view, np.array([row]))[0])

        if view not in self._views:
            path, shape = self._folder / f"{view}.npy", (len(self.exams), *self.shape)
            self._views[view] = mapped_array(path, shape, np.uint16, fill)
        return np.asarray(self._views[view][rows])[:, np.newaxis]
