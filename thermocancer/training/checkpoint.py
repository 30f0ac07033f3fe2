"""What a training needs to go on as if it had never stopped; and models as files.

A checkpoint is one ``.npz``: every weight (the states of random generators among them), the
optimizer's variables, the best weights so far, and where the training stands. One file, renamed
into place, cannot disagree with itself. No pickle.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.files import check_self_contained, reading, write_text, written_aside
from thermocancer.models.summary import SUFFIX, layers_of, table_of
from thermocancer.runs.history import Row
from thermocancer.strategy.running import quietly

if TYPE_CHECKING:
    import keras
    from numpy.lib.npyio import NpzFile

Values = list[npt.NDArray[np.generic]]
EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)


@dataclass
class Standing:
    """Where a training stands: ``step`` batches of ``epoch`` (from 0) are done.

    ``sums`` are the epoch's sums so far over ``seen`` examples; ``best`` is the best monitored
    value, at epoch ``best_epoch``; ``wait`` counts epochs without gain.
    """

    epoch: int = 0
    step: int = 0
    seen: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int = -1
    wait: int = 0
    finished: bool = False
    history: list[Row] = field(default_factory=list)


@dataclass
class Snapshot:
    """The values of a model's variables, in Keras' order, which both backends share."""

    weights: Values
    optimizer: Values

    @classmethod
    def of(cls, model: keras.Model) -> Snapshot:
        """Copy every weight and the optimizer's variables of a compiled model."""
        return cls(_values(model.variables), _values(model.optimizer.variables))

    def put_into(self, model: keras.Model) -> None:
        """Give a model of the same architecture these values."""
        _assign(model.variables, self.weights)
        _assign(model.optimizer.variables, self.optimizer)

    def is_finite(self) -> bool:
        """Are all weights numbers?"""
        return all(bool(np.isfinite(each.astype(np.float32, copy=False)).all()) for each in self.weights)

    def fits(self, model: keras.Model) -> bool:
        """True when shapes agree with the model's variables, one by one."""
        pairs = ((model.variables, self.weights), (model.optimizer.variables, self.optimizer))
        return all(
            [tuple(each.shape) for each in variables] == [each.shape for each in values] for variables, values in pairs
        )


def _values(variables: Sequence[keras.Variable]) -> Values:
    # two steps: Keras' variables know nothing of the copy that np.array would ask them for
    return [np.array(np.asarray(each)) for each in variables]


def _assign(variables: Sequence[keras.Variable], values: Values) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@dataclass
class Checkpoint:
    """The last state, the best one if there is one, and the standing; ``identity`` says of what."""

    identity: str
    standing: Standing
    last: Snapshot
    best: Snapshot | None = None

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        arrays = _named("last", self.last) | (_named("best", self.best) if self.best else {})
        text = json.dumps({"identity": self.identity, "standing": asdict(self.standing)})
        with written_aside(path) as side:
            np.savez(side, allow_pickle=False, standing=np.frombuffer(text.encode(), np.uint8), **arrays)

    @classmethod
    def read(cls, path: Path, identity: str) -> Checkpoint | None:
        """The checkpoint at ``path``, or None when there is none, or it is another training's.

        A damaged file counts as none: starting over gives the same result, only later.
        """
        with (
            contextlib.suppress(DataError),
            reading(path, "this is no checkpoint"),
            open(path, "rb") as handle,
            np.load(handle, allow_pickle=False) as arrays,
        ):
            facts = json.loads(arrays["standing"].tobytes())
            if facts["identity"] != identity:
                return None
            best = _gather(arrays, "best")
            return cls(identity, Standing(**facts["standing"]), _gather(arrays, "last"), best if best.weights else None)
        return None


def _named(prefix: str, snapshot: Snapshot) -> dict[str, npt.NDArray[np.generic]]:
    weights = {f"{prefix}/weights/{index:05d}": value for index, value in enumerate(snapshot.weights)}
    return weights | {f"{prefix}/optimizer/{index:05d}": value for index, value in enumerate(snapshot.optimizer)}


def _gather(arrays: NpzFile, prefix: str) -> Snapshot:
    names = sorted(arrays.files)
    return Snapshot(
        [arrays[name] for name in names if name.startswith(f"{prefix}/weights/")],
        [arrays[name] for name in names if name.startswith(f"{prefix}/optimizer/")],
    )


def save_model(model: keras.Model, path: Path) -> None:
    """Save a Keras model without its optimizer, and the table of its layers beside it; equal models give equal bytes.

    Keras stamps the date and memory addresses into its archive; here it is written again without.
    (Layer names are part of the file: name them, Keras' own numbers depend on what came before.)
    """
    import keras

    bare = keras.Model(model.input, model.output, name=model.name)  # not .inputs: these keep dicts and single arrays
    with written_aside(path) as side:
        with quietly():  # under JAX too, Keras imports TensorFlow here if it is installed
            bare.save(side)
        _make_repeatable(side)
    write_text(path.with_suffix(SUFFIX), table_of(layers_of(bare)))


def _make_repeatable(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(entries["metadata.json"])
    metadata["date_saved"] = "1980-01-01@00:00:00"
    entries["metadata.json"] = json.dumps(metadata).encode()
    known: dict[str, str] = {}  # objects that layers share are marked by their memory address: number them instead
    entries["config.json"] = re.sub(
        r'("shared_object_id": )(\d+)',
        lambda match: match[1] + known.setdefault(match[2], str(len(known) + 1)),
        entries["config.json"].decode(),
    ).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH_OF_ZIP), content)


def _check_archive(path: Path) -> None:
    """Refuse weights that lie elsewhere: HDF5 can name any file of the machine as its own content."""
    import h5py

    with (
        zipfile.ZipFile(path) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights,
    ):
        check_self_contained(weights, path)


def load_model(path: Path, known: dict[bytes, keras.Model] | None = None) -> keras.Model:
    """Load a ``.keras`` file in safe mode (no code runs). Raises DataError when it is missing or damaged.

    With ``known`` a model of one architecture is built once, and given the weights of each further file: those that
    it had are gone. (Building takes ten times as long as reading the weights of a small one.)
    """
    import keras

    if not path.is_file():
        raise DataError("this model file does not exist", where=path, hint="train it first: thermocancer train-ae")
    with (
        reading(
            path, "this model file cannot be read", expected="a .keras archive, whole", hint="remove it and train again"
        ),
        quietly(),
    ):
        _check_archive(path)
        with zipfile.ZipFile(path) as archive:
            architecture = archive.read("config.json")
        if known is not None and architecture in known:
            known[architecture].load_weights(path)
            return known[architecture]
        model: keras.Model = keras.saving.load_model(path, compile=False, safe_mode=True)
        if known is not None:
            known[architecture] = model
        return model
