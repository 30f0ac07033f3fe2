"""Toy runs: predictions drawn from a generator, in folders as the training stages leave them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np

from thermocancer.config import Config, dump_yaml, load_config
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.data.nuisance import measure_matrix, nuisance_columns
from thermocancer.data.store.writing import DatasetWriter, PackedExam, hash_array, pack
from thermocancer.files import write_json
from thermocancer.kinds import kinds
from thermocancer.runs.predictions import Prediction, write_predictions
from thermocancer.workspace import Workspace


def toy_rows(
    patients: int = 60, *, strength: float = 1.2, repeats: int = 3, folds: int = 5, seed: int = 0, noise: float = 0.3
) -> list[Prediction]:
    """Scores of a repeated cross-validation; some patients have two visits, one patient two labels."""
    random = np.random.default_rng([seed, 77])
    rows = []
    for patient in range(1, patients + 1):
        label = int(random.random() < 0.4) if patient > 2 else patient - 1
        hidden = strength * (label - 0.5) + random.normal()
        for visit in range(1, 2 + (patient % 7 == 0)):
            truth = 1 - label if patient == 14 and visit == 2 else label
            for repeat in range(1, repeats + 1):
                score = float(1 / (1 + np.exp(-(hidden + noise * random.normal()))))
                fold = f"{repeat}.{1 + (patient * repeat) % folds}"
                threshold = 0.4 + 0.02 * (1 + (patient * repeat) % folds)
                rows.append(Prediction(patient, visit, fold, truth, score, int(score >= threshold)))
    return rows


def manifest_of(**changed: object) -> dict[str, object]:
    """What a run says of itself."""
    stage, model = str(changed.get("stage", "fuse")), str(changed.get("model", "svm"))
    by_stage = {"fuse": model if model in kinds() else "svm", "train-dit": "sequence", "train-cnn": "image"}
    return {
        "version": 1,
        "kind": by_stage[stage],
        "stage": stage,
        "model": model,
        "made_from": "0" * 64,
        "outputs": {},
        "views": [] if stage == "train-cnn" else ["Frontal"],
        "protocol": "grouped-cv",
        "dataset": {"name": "cohort", "fingerprint": "1" * 64},
        "threshold": 0.5,
        "threshold_source": "0.5, fixed",
        "leaks": [],
        "seed": 0,
    } | changed


def write_run(
    workspace: Workspace,
    name: str,
    rows: list[Prediction],
    *,
    baseline: list[Prediction] | None = None,
    epochs: int = 0,
    **manifest: object,
) -> Path:
    """A run's folder with everything that evaluation reads."""
    folder = workspace.run(name)
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.csv", rows)
    if baseline is not None:
        write_predictions(folder / "predictions-baseline.csv", baseline)
    write_json(folder / "manifest.json", manifest_of(**manifest))
    history = [
        {"fold": f"1.{fold}", "epoch": epoch, "loss": 1 / epoch, "val_loss": 1.2 / epoch}
        for fold in range(1, 4)
        for epoch in range(1, epochs + 1)
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    (folder / "config.yaml").write_text(dump_yaml(load_config(options={"fuse.name": name}, environment={})))
    return folder


def toy_matrix(
    random: np.random.Generator, *, sick: bool, room: float, shape: tuple[int, int] = (48, 64)
) -> np.ndarray:
    """A warm body in a cool room, hundredths of a degree; sick bodies have a hot spot on their right (image left)."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    body = ((columns - width / 2) / (0.33 * width)) ** 2 + ((rows - 0.6 * height) / (0.55 * height)) ** 2 < 1
    celsius = np.where(body, 32.0 + random.normal(0, 0.4), room)
    if sick:
        celsius += 1.5 * np.exp(-((columns - 0.35 * width) ** 2 + (rows - 0.55 * height) ** 2) / 18) * body
    return np.round((celsius + random.normal(0, 0.06, shape)) * 100).astype(np.uint16)


HOT_SPOT = (26, 22)
"""Row and column of the hot spot of ``toy_matrix`` at 48x64."""


def toy_source(rows: list[Prediction], *, seed: int = 0, room_tie: float = 0.0) -> ArrayCohort:
    """The exams that ``rows`` speak of, one frontal view each, with their nuisance measured."""
    random = np.random.default_rng([seed, 5])
    labels = {(row.patient, row.visit): row.label for row in rows}
    exams, matrices = [], []
    for (patient, visit), label in sorted(labels.items()):
        day = datetime.date(2013, 1, 1) + datetime.timedelta(days=int(random.integers(0, 1500)))
        room = 21.0 + random.normal(0, 0.6) + room_tie * label
        matrix = toy_matrix(random, sick=label == 1, room=room)
        digest = hash_array(matrix)
        exams.append(Exam(patient, visit, label, day.isoformat(), "space2", (("Frontal", digest),)))
        matrices.append(matrix)
    measured = nuisance_columns(exams, [measure_matrix(matrix / 100.0) for matrix in matrices])
    return ArrayCohort(tuple(exams), {"Frontal": np.stack(matrices)}, measured=measured)


def write_dataset(workspace: Workspace, source: ArrayCohort, name: str = "cohort") -> None:
    """The source as ``datasets/NAME.h5``."""
    path = workspace.dataset(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = source.nuisance()
    with DatasetWriter(path, name, "gzip", static=len(source.exams)) as writer:
        for row, exam in enumerate(source.exams):
            frame = pack(source.matrices["Frontal"][row], "gzip")
            of_exam = {key: float(values[row]) for key, values in measured.items()}
            writer.add(PackedExam(exam, {"Frontal": frame}, of_exam))
        writer.finish("celsius", "")


def pixels_config(workspace: Workspace, **options: object) -> Config:
    """A small, quick configuration on the toy cohort."""
    chosen: dict[str, object] = {
        "filter.views": ["Frontal"],
        "fuse.model": "pixels",
        "fuse.name": "pixels",
        "features.pixels": [12, 16],
        "features.components": 6,
        "split.folds": 3,
        "split.repeats": 1,
        "split.inner_folds": 2,
        "evaluate.bootstrap": 300,
    }
    return load_config(options=chosen | options, workspace=workspace.root, environment={})
