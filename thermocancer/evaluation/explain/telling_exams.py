"""Occlusion maps of a run's most telling exams, and the checks of whether to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.protocol import Fitted
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, FloatArray, centi_celsius
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.audit.refits import permute_by_patient
from thermocancer.evaluation.audit.scope import Scope, make_scope
from thermocancer.evaluation.explain.occlusion import Occlusion, draw_heatmap, occlude, stretched
from thermocancer.evaluation.report.judgement import Judgement
from thermocancer.evaluation.statistics.intervals import midranks, wilson
from thermocancer.kinds import Reads
from thermocancer.progress import Progress
from thermocancer.thermal.regions import torso_mask
from thermocancer.workspace import LABELS, Workspace

SHOWN, POINTED, COMPARED = 4, 12, 3
"""Exams that are drawn, (phantom) sick exams on which pointing is counted, and exams explained at random too."""

Place = tuple[int, str]
"""A row and a view."""


@dataclass
class Survey:
    """``facts`` go to ``report.json``; ``pictures`` hold PNG bytes; ``note`` is for people."""

    facts: dict[str, Any] = field(default_factory=dict)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


def survey_run(judged: Judgement, workspace: Workspace, progress: Progress, *, first_only: bool = False) -> Survey:
    """Explain a run of ``fuse`` by occlusion of its views; an empty survey where that cannot be done.

    ``first_only`` explains the first view alone, in a fifth of the time.
    """
    config = judged.run.config()
    if config is None or judged.run.reads not in (Reads.CODES, Reads.TABLES):
        return Survey(note="This kind of run has no occlusion maps.")
    try:
        with StoredCohort(workspace.dataset(config.dataset.name)) as source:
            scope = make_scope(judged.run, source, {})
            if scope.source is None or source.kind != "celsius":
                return Survey(note="The data set behind this run is gone or holds no degrees.")
            views = judged.run.manifest.views
            case = Case(scope, source, config, workspace, views[:1] if first_only else views)
            return _survey(judged, case, progress)
    except ThermocancerError as error:
        return Survey(note=f"No occlusion maps: {error.what}.")


@dataclass(frozen=True)
class Case:
    """What is explained: the run's exams where they lie, and the views to look at."""

    scope: Scope
    source: Cohort
    config: Config
    workspace: Workspace
    views: tuple[str, ...]

    def places(self, rows: list[int]) -> list[Place]:
        """Every view of these exams that is there."""
        present = {view: self.source.present(view) for view in self.views}
        return [(row, view) for row in rows for view in self.views if present[view][row]]

    def celsius(self, row: int, view: str) -> FloatArray:
        """One matrix (height, width) in degC."""
        return np.asarray(centi_celsius(self.source, view, np.array([row]))[0] / 100.0)

    def mask_path(self, row: int, view: str) -> Path:
        """Where the phantom keeps the true place of a tumour."""
        return self.workspace.raw / "truth" / self.scope.exams[row].key / f"{view}.png"

    def words(self, row: int) -> str:
        exam = self.scope.exams[row]
        return f"exam {exam.key}, {LABELS[exam.label]}"


def _survey(judged: Judgement, case: Case, progress: Progress) -> Survey:
    from thermocancer.classifiers.making import load_fitted
    from thermocancer.training.workers import one_thread

    shown = case.places(telling_rows(judged, case.scope))
    pointed = _places_with_truth(case)
    with one_thread():
        fitted = load_fitted(judged.run.model_folder, case.workspace)
        maps: dict[Place, Occlusion] = {}
        places = list(dict.fromkeys([*shown, *pointed]))
        with progress.task(f"occlusion of {judged.run.name}", len(places), "maps") as bar:
            for row, view in places:
                maps[row, view] = occlude(fitted, case.source, row, view)
                bar.advance()
        compared = [place for place in shown if place[0] in list(dict.fromkeys(row for row, _ in shown))[:COMPARED]]
        sanity = _sanity(case, {place: maps[place] for place in compared})
        cams, cam_sanity = _class_activation(fitted, case, shown)
    survey = Survey({"views": list(case.views), "methods": ["occlusion"], "sanity": sanity})
    survey.pictures = [_picture(case, place, maps[place]) for place in shown]
    if cams:
        survey.facts |= {"methods": ["occlusion", "Grad-CAM"], "sanity_grad_cam": cam_sanity}
        survey.pictures += [_cam_picture(case, place, cam) for place, cam in cams.items()]
    if pointed:
        survey.facts["pointing"] = _pointing(case, {place: maps[place] for place in pointed})
    survey.note = _note(survey.facts)
    return survey


def _class_activation(
    fitted: Fitted, case: Case, places: list[Place]
) -> tuple[dict[Place, FloatArray], dict[str, Any]]:
    """Grad-CAM maps of the codes, -1 to 1, and how like they are those of the network with random weights.

    None where the model is no network. Maps that are flat say nothing of likeness and are left out of it.
    """
    from thermocancer.evaluation.explain.gradcam import explain_at_random, explain_exam, network_inside

    if network_inside(fitted) is None:
        return {}, {}
    cams = {(row, view): explain_exam(fitted, case.source, row, view) for row, view in places}
    alike = []
    for (row, view), cam in cams.items():
        other = explain_at_random(fitted, case.source, row, view, case.config.seed)
        if np.ptp(cam) > 0 and np.ptp(other) > 0:
            alike.append(map_similarity(cam, other))
    return cams, judge_similarities(alike)


def telling_rows(judged: Judgement, scope: Scope) -> list[int]:
    """The exams of the highest sick, the lowest sick, the highest healthy and the lowest healthy unit."""
    units, chosen = judged.units, []
    for label, sign in ((1, -1), (1, 1), (0, -1), (0, 1)):
        rows = np.flatnonzero(units.labels == label)
        place = rows[np.argsort(sign * units.scores[rows], kind="stable")[0]]
        patient, visit = units.patients[place], units.visits[place]
        chosen.append(
            next(
                row
                for row in scope.scored.tolist()
                if scope.exams[row].patient == patient and visit in (0, scope.exams[row].visit)
            )
        )
    return list(dict.fromkeys(chosen))[:SHOWN]


def _places_with_truth(case: Case) -> list[Place]:
    scope = case.scope
    sick = [row for row in scope.scored.tolist() if scope.exams[row].label == 1]
    known = [row for row in sick if any(case.mask_path(row, view).exists() for view in case.views)]
    return [place for place in case.places(known[:POINTED]) if case.mask_path(*place).exists()]


def _sanity(case: Case, maps: dict[Place, Occlusion]) -> dict[str, Any]:
    """The same exams explained by the same recipe taught permuted labels."""
    from thermocancer.classifiers.making import make_classifier

    scope, config = case.scope, case.config
    classifier = make_classifier(config, case.workspace, views=scope.run.manifest.views, calibrate=False)
    fold = scope.folds[0]
    labels = permute_by_patient(scope, config.seed)
    stupid: Fitted = classifier.fit(case.source, fold.train, labels[fold.train], seed=config.seed, fold=fold.name)
    return judge_similarities(
        [
            map_similarity(one.effect, occlude(stupid, case.source, row, view).effect)
            for (row, view), one in maps.items()
        ]
    )


def _pointing(case: Case, maps: dict[Place, Occlusion]) -> dict[str, Any]:
    import cv2

    hits, chances = [], []
    shape = case.source.shape
    for place, one in maps.items():
        mask = read_mask(case.mask_path(*place))
        if mask is None or not mask.any():
            continue
        if mask.shape != shape:
            mask = cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if not mask.any():
            continue
        hits.append(points_at(one.peak(shape), mask))
        chances.append(chance_to_hit(mask, torso_mask(case.celsius(*place))))
    return judge_pointing(hits, chances)


def _picture(case: Case, place: Place, one: Occlusion) -> dict[str, Any]:
    celsius, words = case.celsius(*place), f"{case.words(place[0])}, score {one.score:.3f}"
    return {
        "picture": draw_heatmap(celsius, one.full_size(celsius.shape), one.view, unit="score lost when hidden"),
        "alternative": f"Occlusion map of {words}, {one.view} view",
        "caption": f"{words}; {one.view}",
    }


def _cam_picture(case: Case, place: Place, cam: FloatArray) -> dict[str, Any]:
    celsius, words, view = case.celsius(*place), case.words(place[0]), place[1]
    full = stretched(cam, (celsius.shape[0], celsius.shape[1]))
    return {
        "picture": draw_heatmap(celsius, full, view, unit="Grad-CAM"),
        "alternative": f"Grad-CAM map of {words}, {view} view",
        "caption": f"{words}; {view}, Grad-CAM (strongest is 1)",
    }


def _note(facts: dict[str, Any]) -> str:
    sanity, pointing = facts["sanity"], facts.get("pointing")
    words = "The model shown was fitted on every exam, so that these scores are not out of sample."
    if sanity["mean_rank_correlation"] is not None:
        verdict = "the maps depend on what was learnt" if sanity["passed"] else "the maps say little about the training"
        words += (
            f" Randomisation check: rank correlation with the maps of the same recipe taught permuted labels "
            f"{sanity['mean_rank_correlation']:.2f}; {verdict}."
        )
    cams = facts.get("sanity_grad_cam", {})
    if cams.get("mean_rank_correlation") is not None:
        words += (
            f" Grad-CAM against the same network with random weights: rank correlation "
            f"{cams['mean_rank_correlation']:.2f}; "
            + ("its maps depend on the weights." if cams["passed"] else "its maps say little about the training.")
        )
    if pointing and pointing["exams"]:
        words += (
            f" Pointing score: {pointing['hits']} of {pointing['exams']} maps of sick phantoms peak on the tumour "
            f"({100 * pointing['by_chance']:.0f} % by chance)."
        )
    return words


# --- can a heat map be trusted? It must change when the model is made stupid, and on the  ---


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


def judge_similarities(similarities: Sequence[float]) -> dict[str, Any]:
    """The mean over exams, and whether the check is passed."""
    mean = float(np.mean(similarities)) if len(similarities) else None
    return {"exams": len(similarities), "mean_rank_correlation": mean, "passed": mean is not None and mean < ALIKE}


def read_mask(path: Path) -> npt.NDArray[np.bool_] | None:
    """The true footprint of a simulated tumour, bool (height, width); None where there is none."""
    if not path.exists():
        return None
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return None if image is None else image > 0


def points_at(peak: tuple[int, int], mask: npt.NDArray[np.bool_], tolerance: float = 0.05) -> bool:
    """True when the peak lies on the mask, or within ``tolerance`` (share of the height) of it.

    The pointing game of Zhang et al. 2016, with its tolerance in place of 15 pixels.
    """
    rows, columns = np.nonzero(mask)
    distance = np.hypot(rows - peak[0], columns - peak[1]).min()
    return bool(distance <= tolerance * mask.shape[0])


def judge_pointing(hits: Sequence[bool], chances: Sequence[float]) -> dict[str, Any]:
    """Share of maps that point at the tumour, beside what a random point on the body would score."""
    return {
        "exams": len(hits),
        "hits": int(sum(hits)),
        "share": wilson(int(sum(hits)), len(hits)).as_dict(),
        "by_chance": float(np.mean(chances)) if len(chances) else None,
    }


def chance_to_hit(mask: npt.NDArray[np.bool_], torso: npt.NDArray[np.bool_], tolerance: float = 0.05) -> float:
    """Share of the body on which a random peak would count as pointing at the mask."""
    import cv2

    reach = max(1, round(tolerance * mask.shape[0]))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(mask.astype(np.uint8), disc) > 0
    return float((near & torso).sum() / max(int(torso.sum()), 1))
