"""The code behind the entry points."""

from dataclasses import replace
from pathlib import Path

from thermocancer.classifiers.calibrated import Calibrated
from thermocancer.classifiers.protocol import Asked, Classifier
from thermocancer.classifiers.svm import SvmFamily
from thermocancer.features.gram import KernelName


class LinearSvmFamily(SvmFamily):
    """The machine of the package itself with another kernel, and a penalty divided by ``fuse.options.softness``."""

    def kernel(self, asked: Asked) -> KernelName:
        return "linear"

    def make(self, asked: Asked) -> Classifier:
        made = super().make(asked)
        assert isinstance(made, Calibrated)
        softness = float(asked.config.fuse.options.get("softness", 1.0))
        return replace(made, classifier=replace(made.classifier, C=asked.config.fuse.C / softness))


def build_coarse_means(name: str, size: tuple[int, int], weights: Path | None, seed: int):
    """Raw RGB (n, H, W, 3) to the means of a grid of 4 x 4, (n, 48)."""
    import keras

    inputs = keras.Input((*size, 3))
    means = keras.layers.AveragePooling2D((size[0] // 4, size[1] // 4))(inputs)
    return keras.Model(inputs, keras.layers.Flatten()(means), name=name)
