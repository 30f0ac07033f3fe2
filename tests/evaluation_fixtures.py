"""Toy runs: predictions drawn from a generator, in folders as the training stages leave them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from thermocancer.config import dump_yaml, load_config
from thermocancer.data.predictions import Prediction, write_predictions
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
    facts = {"stage": "fuse", "model": "svm", "protocol": "grouped-cv", "leaks": [], "views": ["Frontal"]} | manifest
    (folder / "manifest.json").write_text(json.dumps(facts))
    history = [
        {"fold": f"1.{fold}", "epoch": epoch, "loss": 1 / epoch, "val_loss": 1.2 / epoch}
        for fold in range(1, 4)
        for epoch in range(1, epochs + 1)
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    (folder / "config.yaml").write_text(dump_yaml(load_config(options={"fuse.name": name}, environment={})))
    return folder
