"""Synthetic stand-ins for brain slices: with contrast agent the vessels are bright; and files of the old Keras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from thermocancer.config import Config, load_config
from thermocancer.workspace import Workspace

CLASSES = ("no_gad", "with_gad")
TINY: dict[str, Any] = {
    "strategy.backend": "tensorflow",
    "cnn.size": [48, 48],
    "cnn.model": "pooled",
    "cnn.color": "gray",
    "cnn.epochs": 16,
    "cnn.batch": 8,
    "cnn.learning_rate": 0.005,
}


def tiny_config(workspace: Workspace, data: Path, **options: Any) -> Config:
    """Options as ``section__key=value``."""
    given = TINY | {"cnn.data": str(data)} | {key.replace("__", "."): value for key, value in options.items()}
    return load_config(options=given, workspace=workspace.root)


def draw_slice(seed: int, vessels: bool, size: int = 64) -> np.ndarray:
    """A grey head (rows, columns) uint8 with tissue and noise; with ``vessels`` a few thin bright lines."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size), np.float32)
    centre = tuple(int(each) for each in size / 2 + rng.integers(-3, 4, 2))
    cv2.ellipse(image, centre, (int(size * 0.38), int(size * 0.45)), 0, 0, 360, 90.0, -1)
    image += cv2.GaussianBlur(rng.normal(0, 60, image.shape).astype(np.float32), (0, 0), 4) * (image > 0)
    for _ in range(4 if vessels else 0):
        start, end = (tuple(int(each) for each in centre + rng.integers(-size // 4, size // 4, 2)) for _ in range(2))
        cv2.line(image, start, end, 230.0, 1)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def make_slices(root: Path, *, train: int = 24, test: int = 10, patients: int = 8, size: int = 64) -> Path:
    """``train`` and ``test`` slices a class, as PNG and BMP in turn, named ``PATIENT_NUMBER``."""
    for part, count in (("Train", train), ("Test", test)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                patient = f"{part[0:2]}{label}{number % patients:02d}"
                image = draw_slice(10_000 * (part == "Test") + 1000 * label + number, bool(label), size)
                cv2.imwrite(str(folder / f"{patient}_{number:03d}.{'png' if number % 2 else 'bmp'}"), image)
    return root


def write_old_weights(path: Path, layers: list[tuple[str, list[np.ndarray]]], *, whole_model: bool = True) -> None:
    """A Keras 2.5 HDF5 file: layers with and without arrays, and a ``TFOpLambda`` sigmoid in its description."""
    described = [{"class_name": "TFOpLambda", "config": {"function": "math.sigmoid", "name": "tf.math.sigmoid"}}]
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole_model else file
        if whole_model:
            file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"layers": described}})
            file.attrs["keras_version"] = "2.5.0"
        names = [name for name, _ in layers]
        group.attrs["layer_names"] = [name.encode() for name in [*names, "tf.math.sigmoid"]]
        group.create_group("tf.math.sigmoid").attrs["weight_names"] = np.zeros(0, "S1")
        for name, arrays in layers:
            own = group.create_group(name)
            weights = [f"{name}/{kind}:0" for kind in ("kernel", "bias")][: len(arrays)]
            own.attrs["weight_names"] = [each.encode() for each in weights] or np.zeros(0, "S1")
            for weight, array in zip(weights, arrays, strict=True):
                own.create_dataset(weight, data=array)
