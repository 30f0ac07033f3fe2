"""Classifiers of single images as a family: taken elsewhere as a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thermocancer.classifiers.fusion_network import MOST_SAMPLES
from thermocancer.classifiers.image.pixels import to_unit
from thermocancer.classifiers.protocol import Asked, Exportable, Family, Settings
from thermocancer.config import Config
from thermocancer.data.class_images import read_image
from thermocancer.errors import DataError


class ImageFamily(Family):
    """A network on single images, trained from several seeds."""

    def exportable(self, folder: Path, settings: Settings, asked: Asked) -> Exportable:
        """The image classifier of the first seed: images (n, H, W, C) in [0, 1]."""
        from thermocancer.training.checkpoint import load_model

        model = load_model(folder / settings["files"][0])
        rows, columns = settings["size"]
        pixels = [
            read_image(path, colour=settings["color"], size=(rows, columns))
            for path in _image_files(asked.config, MOST_SAMPLES)
        ]
        facts: Settings = {
            "classes": settings["classes"], "threshold": settings["thresholds"][0],
            "input": {"kind": settings["color"], "size": [rows, columns], "range": [0, 1]},
        }  # fmt: skip
        return Exportable(model, {model.inputs[0].name: to_unit(np.stack(pixels))}, facts)


def _image_files(config: Config, count: int) -> list[Path]:
    folder = Path(config.cnn.data or "")
    found = sorted(path for path in folder.glob("Test/*/*") if path.is_file())[:count] if config.cnn.data else []
    if not found:
        raise DataError(
            "the images that the exported model is compared on are not there",
            where=config.cnn.data,
            expected="Test/CLASS/IMAGE in the folder the run was trained on",
            hint="name it with --set cnn.data=DIR",
        )
    return found
