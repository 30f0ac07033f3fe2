"""A run's classifier as one network from images to a probability, and real inputs to try it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config
from thermocancer.data.inputs import network_input
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import read_json
from thermocancer.workspace import Workspace

Inputs = dict[str, npt.NDArray[np.float32]]
MOST_SAMPLES = 8

NO_NETWORK = {
    "svm": "a support-vector machine compares an exam with the codes of its training exams; it is not one network",
    "tabular": "a classifier on temperature statistics is not a network",
    "index": "an asymmetry index is a number computed from two views, not a network",
}
"""Why the kinds that ``classifier.json`` names cannot be exported."""


@dataclass(frozen=True)
class Exportable:
    """One Keras model whose inputs are named, and real inputs (n, ...) for each of them.

    The model's output (n, 1) is the network's own probability; ``facts`` holds what turns it into the
    run's score and decision: score = logistic(slope * logit(probability) + intercept).
    """

    model: Any
    samples: Inputs
    facts: dict[str, Any]


def exportable(folder: Path, config: Config, workspace: Workspace) -> Exportable:
    """The classifier under ``runs/NAME/model``; ``config`` is the run's own.

    Raises ConfigError for a kind that is no network, DataError when model or data are not there.
    """
    path = folder / "classifier.json"
    if not path.exists():
        raise DataError("this run has no trained classifier", where=path, hint="train the run again")
    settings = read_json(path)
    kind = str(settings.get("kind"))
    makers = {"network": _fusion_network, "sequence": _sequence_network, "images": _image_network}
    if kind not in makers:
        raise ConfigError(
            f"this run cannot be exported: {NO_NETWORK.get(kind, 'it is not a network')}",
            where=path,
            expected="a run of fuse with fuse.model: network, of train-dit or of train-cnn",
            found=f"kind {kind}",
            hint="predict scores new exams with any run",
        )
    made = makers[kind](folder, settings, config, workspace)
    if any(len(sample) == 0 for sample in made.samples.values()):
        raise DataError("no exam to compare the exported model on", where=workspace.dataset(config.dataset.name))
    return made


def _fusion_network(folder: Path, settings: Mapping[str, Any], config: Config, workspace: Workspace) -> Exportable:
    """Encoders and fusion network joined: one image a view, (n, H, W, C) in [0, 1]."""
    import keras

    from thermocancer.classifiers.network_model import NetworkModel
    from thermocancer.config.preparation import FeaturesSection
    from thermocancer.features.prepared import prepare

    loaded = NetworkModel.load(folder, dict(settings))
    inputs, codes, fed = {}, {}, {}
    for view, encoder in loaded.encoders.items():
        # each encoder under a name of its own, or Keras refuses to join them
        own = keras.Model(encoder.model.input, encoder.model.output, name=f"encoder_{view}")
        inputs[view] = keras.Input(own.input_shape[1:], name=view)
        codes[view] = own(inputs[view])
        fed[view] = encoder.input.model_dump(mode="json")
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    model = keras.Model(given, loaded.model(codes), name="fusion_with_encoders")
    with StoredCohort(workspace.dataset(config.dataset.name)) as source:
        prepared = prepare(source, FeaturesSection(**settings["preparation"]))
        complete = np.all([source.present(view) for view in inputs], axis=0)
        rows = np.flatnonzero(complete)[:MOST_SAMPLES].astype(np.int64)
        samples = {view: network_input(prepared, view, rows, each.input) for view, each in loaded.encoders.items()}
    return Exportable(model, samples, _facts(settings, config) | {"input": fed, "preparation": settings["preparation"]})


def _sequence_network(folder: Path, settings: Mapping[str, Any], config: Config, workspace: Workspace) -> Exportable:
    """Backbone and head joined: images (n, frames, channels, H, W, depth)."""
    from thermocancer.classifiers.sequence.features import exam_images
    from thermocancer.classifiers.sequence.input import input_to_json
    from thermocancer.classifiers.sequence.network import load_sequence_model
    from thermocancer.data.store.reading import DYNAMIC, StoredCohort
    from thermocancer.models.sequence import join_backbone

    loaded = load_sequence_model(folder, settings)
    reader = loaded.reader
    head = _unrolled(loaded.slot.holding(loaded.weights))
    model = join_backbone(reader.model, head, len(reader.input.channels))
    with StoredCohort(workspace.dataset(config.dataset.name), DYNAMIC) as source:
        rows = range(min(MOST_SAMPLES, len(source.exams)))
        images = np.stack([exam_images(source, row, loaded.indices, reader) for row in rows])
    fed = {"frames": list(loaded.indices), **input_to_json(reader.input)}
    return Exportable(model, {model.inputs[0].name: images}, _facts(settings, config) | {"input": fed})


def _unrolled(head: Any) -> Any:
    """The same head with its recurrence written out: LiteRT has no loops over tensor lists."""
    import keras

    def unroll(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config(config | {"unroll": True} if "unroll" in config else config)

    copy = keras.models.clone_model(head, clone_function=unroll)
    copy.set_weights(head.get_weights())
    return copy


def _image_network(folder: Path, settings: Mapping[str, Any], config: Config, workspace: Workspace) -> Exportable:
    """The image classifier of the first seed: images (n, H, W, C) in [0, 1]."""
    from thermocancer.classifiers.image.pixels import to_unit
    from thermocancer.data.class_images import read_image
    from thermocancer.training.checkpoint import load_model

    model = load_model(folder / settings["files"][0])
    rows, columns = settings["size"]
    pixels = [
        read_image(path, colour=settings["color"], size=(rows, columns)) for path in _image_files(config, MOST_SAMPLES)
    ]
    facts: dict[str, Any] = {
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


def _facts(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    return {
        "classes": ["healthy", "sick"], "calibration": settings["calibration"], "threshold": settings["threshold"],
        "dataset": config.dataset.name,
    }  # fmt: skip
