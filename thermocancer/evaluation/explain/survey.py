"""Occlusion maps of a run's most telling exams, and the checks of whether to trust them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thermocancer.config import Config
from thermocancer.data.exams import ExamSource, FloatArray
from thermocancer.data.regions import torso_mask
from thermocancer.data.store import open_dataset
from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.audit.refits import permute_by_patient
from thermocancer.evaluation.audit.scope import Scope, make_scope
from thermocancer.evaluation.explain.heatmap import draw_heatmap
from thermocancer.evaluation.explain.occlusion import Occlusion, occlude
from thermocancer.evaluation.explain.trust import (
    chance_to_hit,
    judge_pointing,
    judge_similarities,
    map_similarity,
    points_at,
    read_mask,
)
from thermocancer.evaluation.judgement import Judgement
from thermocancer.progress import Progress
from thermocancer.training.recipe import Fitted
from thermocancer.workspace import LABELS, Workspace

SHOWN, POINTED = 4, 12
"""Exams that are drawn, and (phantom) sick exams on which pointing is counted."""


@dataclass
class Survey:
    """``facts`` go to ``report.json``; ``pictures`` hold PNG bytes; ``note`` is for people."""

    facts: dict[str, Any] = field(default_factory=dict)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


def survey_run(judged: Judgement, workspace: Workspace, progress: Progress) -> Survey:
    """Explain a run of ``fuse`` by occlusion of its first view; an empty survey where that cannot be done."""
    config = judged.run.config(workspace)
    if config is None or judged.run.manifest.get("stage") != "fuse" or judged.run.manifest.get("model") == "late":
        return Survey(note="This kind of run has no occlusion maps.")
    try:
        with open_dataset(workspace.dataset(config.dataset.name)) as source:
            scope = make_scope(judged.run, source, {})
            if scope.source is None or source.kind != "celsius":
                return Survey(note="The data set behind this run is gone or holds no degrees.")
            return _survey(judged, scope, source, config, workspace, progress)
    except ThermocancerError as error:
        return Survey(note=f"No occlusion maps: {error.what}.")


def _survey(
    judged: Judgement, scope: Scope, source: ExamSource, config: Config, workspace: Workspace, progress: Progress
) -> Survey:
    from thermocancer.training.crossval import one_thread
    from thermocancer.training.recipes import load_fitted

    view = str((judged.run.manifest.get("views") or source.views)[0])
    shown, pointed = telling_rows(judged, scope), _rows_with_truth(scope, workspace, view)
    with one_thread():
        fitted = load_fitted(judged.run.folder / "model", workspace)
        rows = list(dict.fromkeys([*shown, *pointed]))
        maps: dict[int, Occlusion] = {}
        with progress.task(f"occlusion of {judged.run.name}", len(rows), "exams") as bar:
            for row in rows:
                maps[row] = occlude(fitted, source, row, view)
                bar.advance()
        cams = _class_activation(fitted, source, view, shown)
        sanity = _sanity(scope, source, config, workspace, [(row, maps[row]) for row in shown[:3]])
    methods = ["occlusion", "Grad-CAM"] if cams else ["occlusion"]
    survey = Survey({"view": view, "methods": methods, "sanity": sanity})
    survey.pictures = [_picture(source, scope, row, maps[row]) for row in shown]
    survey.pictures += [_cam_picture(source, scope, row, view, cam) for row, cam in cams.items()]
    if pointed:
        survey.facts["pointing"] = _pointing(source, scope, workspace, [(row, maps[row]) for row in pointed])
    survey.note = _note(survey.facts)
    return survey


def _class_activation(fitted: Fitted, source: ExamSource, view: str, rows: list[int]) -> dict[int, FloatArray]:
    """Grad-CAM maps (height, width) of the code, 0 to 1, by row; none where the model is no network."""
    from thermocancer.evaluation.explain.gradcam import explain_exam, network_inside

    if network_inside(fitted) is None:
        return {}
    return {row: explain_exam(fitted, source, row, view) for row in rows}


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


def _rows_with_truth(scope: Scope, workspace: Workspace, view: str) -> list[int]:
    sick = [row for row in scope.scored.tolist() if scope.exams[row].label == 1]
    return [row for row in sick if _mask_path(scope, workspace, row, view).exists()][:POINTED]


def _mask_path(scope: Scope, workspace: Workspace, row: int, view: str) -> Any:
    return workspace.raw / "truth" / scope.exams[row].key / f"{view}.png"


def _sanity(
    scope: Scope, source: ExamSource, config: Config, workspace: Workspace, maps: list[tuple[int, Occlusion]]
) -> dict[str, Any]:
    """The same exams explained by the same recipe taught permuted labels."""
    from thermocancer.training.recipes import make_recipe

    views = tuple(scope.run.manifest.get("views") or ()) or None
    recipe = make_recipe(config, workspace, views=views, calibrate=False)
    fold = scope.folds[0]
    labels = permute_by_patient(scope, config.seed)
    stupid: Fitted = recipe.fit(source, fold.train, labels[fold.train], seed=config.seed, fold=fold.name)
    return judge_similarities(
        [map_similarity(one.effect, occlude(stupid, source, row, one.view).effect) for row, one in maps]
    )


def _pointing(
    source: ExamSource, scope: Scope, workspace: Workspace, maps: list[tuple[int, Occlusion]]
) -> dict[str, Any]:
    import cv2

    hits, chances = [], []
    for row, one in maps:
        mask = read_mask(_mask_path(scope, workspace, row, one.view))
        if mask is None or not mask.any():
            continue
        if mask.shape != source.shape:
            mask = cv2.resize(mask.astype(np.uint8), source.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if not mask.any():
            continue
        torso = torso_mask(source.centi_celsius(one.view, np.array([row]))[0] / 100.0)
        hits.append(points_at(one.peak(source.shape), mask))
        chances.append(chance_to_hit(mask, torso))
    return judge_pointing(hits, chances)


def _picture(source: ExamSource, scope: Scope, row: int, one: Occlusion) -> dict[str, Any]:
    exam = scope.exams[row]
    celsius = source.centi_celsius(one.view, np.array([row]))[0] / 100.0
    words = f"exam {exam.key}, {LABELS[exam.label]}, score {one.score:.3f}"
    return {
        "picture": draw_heatmap(celsius, one.full_size(celsius.shape), one.view, unit="score lost when hidden"),
        "alternative": f"Occlusion map of {words}, {one.view} view",
        "caption": f"{words}; {one.view}",
    }


def _cam_picture(source: ExamSource, scope: Scope, row: int, view: str, cam: FloatArray) -> dict[str, Any]:
    exam = scope.exams[row]
    celsius = source.centi_celsius(view, np.array([row]))[0] / 100.0
    words = f"exam {exam.key}, {LABELS[exam.label]}"
    return {
        "picture": draw_heatmap(celsius, Occlusion(view, 0.0, cam).full_size(celsius.shape), view, unit="Grad-CAM"),
        "alternative": f"Grad-CAM map of {words}, {view} view",
        "caption": f"{words}; {view}, Grad-CAM (largest is 1)",
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
    if pointing and pointing["exams"]:
        words += (
            f" Pointing score: {pointing['hits']} of {pointing['exams']} maps of sick phantoms peak on the tumour "
            f"({100 * pointing['by_chance']:.0f} % by chance)."
        )
    return words
