"""Pairs of settings that cannot go together, refused before any work is done.

Each check raises ValueError naming both settings; the loader turns it into a ConfigError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thermocancer.config.schema import Config


def check_pairs(config: Config) -> None:
    """Raise ValueError for the first pair of settings that contradict each other."""
    if config.dataset.views is not None:
        extra = set(config.dataset.views) - set(config.filter.views)
        if extra:
            raise ValueError(f"dataset.views has {sorted(extra)}, which filter.views does not require")
    if config.strategy.backend == "tensorflow" and config.strategy.kind in ("data-parallel", "multi-host"):
        raise ValueError(
            f"strategy.kind: {config.strategy.kind} needs strategy.backend: jax "
            "(Keras 3 cannot train on TensorFlow's multi-worker strategy)"
        )
    if config.strategy.backend == "jax" and config.strategy.kind == "mirrored":
        raise ValueError("strategy.kind: mirrored needs strategy.backend: tensorflow; use data-parallel")
    if config.split.protocol != "thesis" and config.autoencoder.train_on == "all":
        raise ValueError(
            "autoencoder.train_on: all shows every test exam to the encoder; "
            f"that needs split.protocol: thesis, not {config.split.protocol}"
        )
    if config.fuse.model == "late" and len(config.fuse.combine) < 2:
        raise ValueError("fuse.model: late needs two or more run names in fuse.combine")
    if config.fuse.combine_by == "features" and config.fuse.stacking:
        raise ValueError(
            "fuse.stacking weighs scores; fuse.combine_by: features fits one model on the features instead"
        )
    if config.fuse.model == "network" and config.features.residualise:
        raise ValueError(
            "fuse.model: network reads codes as they are; features.residualise works with svm and the feature tables"
        )
    if config.dataset.source == "images" and config.autoencoder.input.kind == "celsius":
        raise ValueError("dataset.source: images has no degrees; autoencoder.input.kind must be rgb")
    if config.dit.weights_sha256 and not config.dit.weights:
        raise ValueError("dit.weights_sha256 is the checksum of dit.weights, which is not set")
    if config.cnn.weights_sha256 and not config.cnn.weights:
        raise ValueError("cnn.weights_sha256 is the checksum of cnn.weights, which is not set")
    if config.dit.weights and not config.dit.backbone.startswith(("efficientnetb", "mobilenetv2")):
        raise ValueError(
            f"dit.weights is a file for an ImageNet backbone; dit.backbone: {config.dit.backbone} reads none"
        )
    if config.dataset.source == "videos" and config.dit.channels != ("frame",):
        raise ValueError("dataset.source: videos has no degrees; dit.channels must be [frame]")
    if config.cnn.model == "backbone" and config.cnn.backbone == "autoencoder":
        raise ValueError("cnn.backbone: autoencoder reads thermograms alone; choose another backbone")
