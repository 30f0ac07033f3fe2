"""Occlusion maps of a run's most telling exams, and the checks of whether to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermocancer.classifiers.protocol import Fitted
from thermocancer.config import Config
from thermocancer.data.cohort import BoolArray, Cohort, FloatArray, centi_celsius
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.audit.refits import permute_by_patient
from thermocancer.evaluation.audit.scope import Scope, make_scope
from thermocancer.evaluation.explain.occlusion import LOST, Occlusion, draw_heatmap, occlude, stretched
from thermocancer.evaluation.report.judgement import Judgement
from thermocancer.evaluation.statistics.intervals import midranks, wilson
from thermocancer.evaluation.statistics.units import Units
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.progress import Progress
from thermocancer.thermal.regions import torso_mask
from thermocancer.workspace import LABELS, Workspace

SHOWN, POINTED, COMPARED = 4, 12, 3
"""Exams that are drawn, (phantom) sick exams on which pointing is counted, and exams explained at random too."""

Place = tuple[int, str]
"""A row and a view."""


@dataclass
class Explanation:
    """``facts`` go to ``report.json``; ``pictures`` hold PNG bytes; ``note`` is for people."""

    facts: Json = field(default_factory=dict)
    pictures: list[Json] = field(default_factory=list)
    note: str = ""


def explain_run(
    judged: Judgement, workspace: Workspace, progress: Progress, *, first_only: bool = False
) -> Explanation:  # fmt: skip
    """Explain a run of ``fuse`` by occlusion of its views; nothing but a note where that cannot be done.

    ``first_only`` explains the first view alone, in a fifth of the time.
    """
    run, config = judged.run, judged.run.config()
    if config is None or run.reads not in (Reads.CODES, Reads.TABLES):
        return Explanation(note="This kind of run has no occlusion maps.")
    try:
        with StoredCohort(workspace.dataset(config.dataset.name)) as cohort:
            scope = make_scope(run, cohort, {})
            if scope.cohort is None or cohort.kind != "celsius":
                return Explanation(note="The data set behind this run is gone or holds no degrees.")
            views = run.manifest.views[:1] if first_only else run.manifest.views
            return _explained(Case(scope, cohort, config, views), judged.units, progress)
    except ThermocancerError as error:
        return Explanation(note=f"No occlusion maps: {error.what}.")


@dataclass(frozen=True)
class Case:
    """What is explained: the run's exams where they lie, and the views to look at."""

    scope: Scope
    cohort: Cohort
    config: Config
    views: tuple[str, ...]

    def places(self, rows: Sequence[int]) -> list[Place]:
        present = {view: self.cohort.present(view) for view in self.views}
        return [(row, view) for row in rows for view in self.views if present[view][row]]

    def celsius(self, row: int, view: str) -> FloatArray:
        """One matrix (height, width) in degC."""
        return np.asarray(centi_celsius(self.cohort, view, np.array([row]))[0] / 100.0)

    def mask_path(self, row: int, view: str) -> Path:
        """Where the phantom keeps the true place of a tumour."""
        return self.scope.run.workspace.raw / "truth" / self.scope.exams[row].key / f"{view}.png"

    def picture(
        self, place: Place, effect: FloatArray, method: str, unit: str, *, score: str = "", remark: str = ""
    ) -> Json:  # fmt: skip
        """A map (height, width) drawn over its thermogram."""
        row, view = place
        words = f"exam {self.scope.exams[row].key}, {LABELS[self.scope.exams[row].label]}{score}"
        return {
            "picture": draw_heatmap(self.celsius(row, view), effect, view, unit=unit),
            "alternative": f"{method} map of {words}, {view} view",
            "caption": f"{words}; {view}{remark}",
        }


def _explained(case: Case, units: Units, progress: Progress) -> Explanation:
    from thermocancer.classifiers.making import load_fitted
    from thermocancer.compute import one_thread

    scope, run, shape = case.scope, case.scope.run, case.cohort.shape
    shown = case.places(telling_rows(units, scope))
    sick = [row for row in scope.scored.tolist() if scope.exams[row].label == 1]
    known = [row for row in sick if any(case.mask_path(row, view).exists() for view in case.views)]
    pointed = [place for place in case.places(known[:POINTED]) if case.mask_path(*place).exists()]
    with one_thread():
        fitted = load_fitted(run.model_folder, run.workspace)
        maps: dict[Place, Occlusion] = {}
        places = list(dict.fromkeys([*shown, *pointed]))
        with progress.task(f"occlusion of {run.name}", len(places), "maps") as bar:
            for row, view in places:
                maps[row, view] = occlude(fitted, case.cohort, row, view)
                bar.advance()
        compared = list(dict.fromkeys(row for row, _ in shown))[:COMPARED]
        sanity = _against_permuted_labels(case, {place: maps[place] for place in shown if place[0] in compared})
        cams, cam_sanity = _class_activation(fitted, case, shown)
    facts: Json = {"views": list(case.views), "methods": ["occlusion"], "sanity": sanity}
    pictures = [
        case.picture(each, maps[each].full_size(shape), "Occlusion", LOST, score=f", score {maps[each].score:.3f}")
        for each in shown
    ]
    if cams:
        facts |= {"methods": ["occlusion", "Grad-CAM"], "sanity_grad_cam": cam_sanity}
        remark = ", Grad-CAM (strongest is 1)"
        pictures += [
            case.picture(place, stretched(cam, shape), "Grad-CAM", "Grad-CAM", remark=remark)
            for place, cam in cams.items()
        ]
    if pointed:
        facts["pointing"] = _pointing(case, {place: maps[place] for place in pointed})
    return Explanation(facts, pictures, _note(facts))


def telling_rows(units: Units, scope: Scope) -> list[int]:
    """The exams of the highest sick, the lowest sick, the highest healthy and the lowest healthy unit."""
    chosen = []
    for label, sign in ((1, -1), (1, 1), (0, -1), (0, 1)):
        rows = np.flatnonzero(units.labels == label)
        place = rows[np.argsort(sign * units.scores[rows], kind="stable")[0]]
        patient, visit = units.patients[place], units.visits[place]
        own = (row for row in scope.scored.tolist() if scope.exams[row].patient == patient)
        chosen.append(next(row for row in own if visit in (0, scope.exams[row].visit)))
    return list(dict.fromkeys(chosen))[:SHOWN]


def _against_permuted_labels(case: Case, maps: Mapping[Place, Occlusion]) -> Json:
    """How like these maps are those of the same recipe taught permuted labels."""
    from thermocancer.classifiers.making import make_classifier

    scope, run, seed = case.scope, case.scope.run, case.config.seed
    classifier = make_classifier(case.config, run.workspace, views=run.manifest.views, calibrate=False)
    fold, labels = scope.folds[0], permute_by_patient(scope, seed)
    stupid = classifier.fit(case.cohort, fold.train, labels[fold.train], seed=seed, fold=fold.name)
    return judge_similarities(
        [map_similarity(each.effect, occlude(stupid, case.cohort, *place).effect) for place, each in maps.items()]
    )


def _class_activation(fitted: Fitted, case: Case, places: Sequence[Place]) -> tuple[dict[Place, FloatArray], Json]:
    """Grad-CAM maps of the codes, -1 to 1, and how like they are those of the network with random weights.

    None where the model is no network. Maps that are flat say nothing of likeness and are left out of it.
    """
    from thermocancer.evaluation.explain.gradcam import explain_at_random, explain_exam, network_inside

    if network_inside(fitted) is None:
        return {}, {}
    cams = {place: explain_exam(fitted, case.cohort, *place) for place in places}
    random = {place: explain_at_random(fitted, case.cohort, *place, case.config.seed) for place in places}
    uneven = [place for place in places if np.ptp(cams[place]) > 0 and np.ptp(random[place]) > 0]
    return cams, judge_similarities([map_similarity(cams[place], random[place]) for place in uneven])


def _pointing(case: Case, maps: Mapping[Place, Occlusion]) -> Json:
    import cv2

    hits, chances = [], []
    shape = case.cohort.shape
    for place, each in maps.items():
        image = cv2.imread(str(case.mask_path(*place)), cv2.IMREAD_GRAYSCALE)
        if image is None or not image.any():
            continue
        mask = np.asarray(image > 0)
        if mask.shape != shape:
            mask = cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if mask.any():
            hits.append(points_at(each.peak(shape), mask))
            chances.append(chance_to_hit(mask, torso_mask(case.celsius(*place))))
    return judge_pointing(hits, chances)


def _note(facts: Json) -> str:
    sanity, pointing = facts["sanity"], facts.get("pointing")
    words = "The model shown was fitted on every exam, so that these scores are not out of sample."
    if sanity["mean_rank_correlation"] is not None:
        words += (
            f" Randomisation check: rank correlation with the maps of the same recipe taught permuted labels "
            f"{sanity['mean_rank_correlation']:.2f}; the maps "
            + ("depend on what was learnt." if sanity["passed"] else "say little about the training.")
        )
    cams = facts.get("sanity_grad_cam", {})
    if cams.get("mean_rank_correlation") is not None:
        words += (
            f" Grad-CAM against the same network with random weights: rank correlation "
            f"{cams['mean_rank_correlation']:.2f}; its maps "
            + ("depend on the weights." if cams["passed"] else "say little about the training.")
        )
    if pointing and pointing["exams"]:
        words += (
            f" Pointing score: {pointing['hits']} of {pointing['exams']} maps of sick phantoms peak on the tumour "
            f"({100 * pointing['by_chance']:.0f} % by chance)."
        )
    return words


# --- can a heat map be trusted? It must change with what was learnt, and on the phantom point at the tumour -----------

ALIKE = 0.5
"""Maps of the trained and of a randomised model that agree more than this say little about the training."""


def map_similarity(first: FloatArray, second: FloatArray) -> float:
    """Spearman's rank correlation of two maps of one shape; 0 where one of them is flat.

    The randomisation check of Adebayo et al. 2018 (NeurIPS): a map that stays the same when the
    model has learnt nothing explains the picture, not the model.
    """
    one, other = midranks(first.ravel()), midranks(second.ravel())
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def judge_similarities(similarities: Sequence[float]) -> Json:
    """The mean over exams, and whether the check is passed."""
    mean = float(np.mean(similarities)) if len(similarities) else None
    return {"exams": len(similarities), "mean_rank_correlation": mean, "passed": mean is not None and mean < ALIKE}


def points_at(peak: tuple[int, int], mask: BoolArray, tolerance: float = 0.05) -> bool:
    """True when the peak lies on the mask, or within ``tolerance`` (share of the height) of it.

    The pointing game of Zhang et al. 2016, with its tolerance in place of 15 pixels.
    """
    rows, columns = np.nonzero(mask)
    distance = np.hypot(rows - peak[0], columns - peak[1]).min()
    return bool(distance <= tolerance * mask.shape[0])


def judge_pointing(hits: Sequence[bool], chances: Sequence[float]) -> Json:
    """Share of maps that point at the tumour, beside what a random point on the body would score."""
    count, chance = int(sum(hits)), float(np.mean(chances)) if len(chances) else None
    return {"exams": len(hits), "hits": count, "share": wilson(count, len(hits)).as_dict(), "by_chance": chance}


def chance_to_hit(mask: BoolArray, torso: BoolArray, tolerance: float = 0.05) -> float:
    """Share of the body on which a random peak would count as pointing at the mask."""
    import cv2

    reach = max(1, round(tolerance * mask.shape[0]))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(mask.astype(np.uint8), disc) > 0
    return float((near & torso).sum() / max(int(torso.sum()), 1))
