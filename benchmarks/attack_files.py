"""Damaged files of every kind that a workspace holds or a user brings, and what becomes of them (``attack.py``)."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermocancer.config import load_config
from thermocancer.data.catalog import Conversions, read_catalog
from thermocancer.data.class_images import read_image
from thermocancer.data.folder.tables import read_table
from thermocancer.data.split import Split
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import DataError, ThermocancerError
from thermocancer.files import hash_file, inside
from thermocancer.progress import Silent
from thermocancer.runs.history import read_history
from thermocancer.runs.manifest import read_manifest
from thermocancer.runs.predictions import read_predictions
from thermocancer.workspace import Workspace

BAD = ("wrong", "untyped", "left")
SETTINGS = {
    "simulate.patients": 6, "simulate.shape": "24x32", "simulate.dynamic": False, "simulate.sick_fraction": 0.5,
    "simulate.missing_views": 0, "filter.views": "[Frontal]", "filter.minimum_spread": 0.1, "split.repeats": 1,
    "split.folds": 2, "split.inner_folds": 2, "fuse.model": "thermal", "evaluate.bootstrap": 50,
    "evaluate.audit": False,
}  # fmt: skip


@dataclass
class Counts:
    """What became of the attacks, by kind; ``examples`` of what should not have happened, at most 20."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note(self, kind: str, outcome: str, detail: str = "") -> None:
        self.outcomes[kind, outcome] += 1
        if outcome in BAD and len(self.examples) < 20:
            self.examples.append(f"{outcome}: {kind}: {detail}")

    @property
    def bad(self) -> int:
        return sum(number for (_, outcome), number in self.outcomes.items() if outcome in BAD)

    def table(self) -> str:
        kinds = dict.fromkeys(kind for kind, _ in self.outcomes)
        rows = [f"{'kind':<40}{'inputs':>8}" + "".join(f"{each:>9}" for each in BAD)]
        for kind in kinds:
            total = sum(number for (name, _), number in self.outcomes.items() if name == kind)
            rows.append(f"{kind:<40}{total:>8}" + "".join(f"{self.outcomes[kind, each]:>9}" for each in BAD))
        return "\n".join(rows)


# --- files ------------------------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to three accidents: flipped bits, a cut, a hole, a repeat, a foreign piece."""
    bytes_ = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(bytes_) + 1), rng.choice((1, 2, 8, 64, 1000))
        accident = rng.randrange(6)
        if accident == 0 and bytes_:
            bytes_[min(at, len(bytes_) - 1)] ^= 1 << rng.randrange(8)
        elif accident == 1:
            del bytes_[at:]
        elif accident == 2:
            del bytes_[at : at + length]
        elif accident == 3:
            bytes_[at:at] = bytes_[at : at + length]
        elif accident == 4:
            bytes_[at : at + length] = bytes(length)
        else:
            bytes_[at:at] = rng.choice(PIECES)
    return bytes(bytes_)


PIECES = (
    b"\xff\xfe", b"\x1b[2J\nerror: none", b'"', b"{", b"[" * 3000, b"9" * 5000, b"NaN", b"1e999", b"\x00", b"\n\n",
    b"../../x", b"\xed\xa0\x80", b"null", b"=cmd()", b"<script>",
)  # fmt: skip
VALUES: tuple[object, ...] = (
    None, True, -1, 0, 1e308, float("nan"), 10**30, "", "x", "../../escaped", "/etc/passwd", "..", "a\x1b[2J\nb",
    "\ud800", [], [1], {}, {"a": 1}, [[[]]], "0" * 5000, "2015-99-99",
)  # fmt: skip


def twisted(content: object, rng: random.Random) -> object:
    """A JSON value in which one place holds something else, is gone, or is named otherwise."""
    if isinstance(content, dict) and content and rng.random() < 0.9:
        key = rng.choice(list(content))
        if rng.random() < 0.15:
            return {each: value for each, value in content.items() if each != key}
        if rng.random() < 0.1:
            return {
                rng.choice(("../../x", "", "\n", "x" * 300)) if each == key else each: value
                for each, value in content.items()
            }
        return {**content, key: twisted(content[key], rng)}
    if isinstance(content, list) and content and rng.random() < 0.9:
        place = rng.randrange(len(content))
        return [*content[:place], twisted(content[place], rng), *content[place + 1 :]]
    return rng.choice(VALUES)


def twisted_lines(content: bytes, rng: random.Random) -> bytes:
    """A JSON file, or one of lines, with one value twisted."""
    lines = content.decode().splitlines() if content.count(b"\n{") else [content.decode()]
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(twisted(json.loads(lines[place]), rng))
    return "\n".join(lines).encode()


@dataclass(frozen=True)
class Target:
    """A kind of file: a whole one, and what reads it. ``weight`` says how often it is chosen."""

    kind: str
    content: bytes
    suffix: str
    read: Callable[[Path], object]
    weight: float = 1.0
    is_json: bool = False


def small_road(root: Path) -> Workspace:
    """A workspace with a data set and a finished run, made in this process."""
    from thermocancer.stages import build_dataset, convert, fuse, simulate
    from thermocancer.stages import filter as filter_

    config = load_config([], [f"{key}={value}" for key, value in SETTINGS.items()], workspace=root, environment={})
    for stage in (simulate, convert, filter_, build_dataset, fuse):
        stage.run(config, Workspace(root), Silent())
    return Workspace(root)


def targets(workspace: Workspace) -> list[Target]:
    """Every kind of file that is attacked."""
    from thermocancer.classifiers.decisions import read_arrays
    from thermocancer.classifiers.making import load_fitted
    from thermocancer.training.checkpoint import Checkpoint, load_model

    run = workspace.run("fuse")
    with StoredCohort(workspace.dataset("cohort")) as whole:
        expected = _everything(whole)

    def catalog(path: Path) -> None:
        elsewhere = Workspace(path.parent)
        elsewhere.raw.mkdir(exist_ok=True)
        path.replace(elsewhere.catalog)
        for record in read_catalog(elsewhere):
            if record.path:
                _must_be_inside(elsewhere.raw, record.path)

    def images(path: Path) -> None:
        path.replace(path.with_name("manifest.json"))
        for name in Conversions.read(path.parent).files:
            _must_be_inside(path.parent, name)

    built = {"outputs": {"attacked.h5": hash_file(workspace.dataset("cohort"))}}

    def data_set(path: Path) -> None:
        path.with_suffix(".json").write_text(json.dumps(built))
        with StoredCohort(path) as found:
            if _everything(found) != expected:
                raise AssertionError("other values than were stored")

    def fitted(path: Path) -> None:
        path.replace(path.with_name("classifier.json"))
        path.with_name("arrays.npz").write_bytes((run / "model" / "arrays.npz").read_bytes())
        load_fitted(path.parent, workspace)

    def arrays(path: Path) -> None:
        path.replace(path.with_name("arrays.npz"))
        read_arrays(path.parent)

    yaml = b"seed: 3\nsimulate: {patients: 4, shape: 48x64}\nfilter:\n  views: [Frontal, Left]\nfuse:\n  name: one\n"
    history = b'{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n'
    labels = b"id;diagnosis;age\n1;healthy;44\n2;sick;51\n3;healthy;60\n"
    return [
        Target("config", yaml, ".yaml", lambda path: load_config([path], environment={}), 3),
        Target("catalog", workspace.catalog.read_bytes(), ".jsonl", catalog, 3, is_json=True),
        Target("split", workspace.split.read_bytes(), ".json", Split.read, 2, is_json=True),
        Target("images' manifest", (workspace.images / "manifest.json").read_bytes(), ".json", images, is_json=True),
        Target("run's manifest", (run / "manifest.json").read_bytes(), ".json", read_manifest, 2, is_json=True),
        Target("predictions", (run / "predictions.csv").read_bytes(), ".csv", read_predictions, 2),
        Target("history", history, ".jsonl", read_history, 1, is_json=True),
        Target("checkpoint", _checkpoint(run), ".npz", lambda path: Checkpoint.read(path, "attacked")),
        Target("network", _network(run), ".keras", load_model, 0.02),
        Target("classifier", (run / "model" / "classifier.json").read_bytes(), ".json", fitted, 0.3, is_json=True),
        Target("arrays", (run / "model" / "arrays.npz").read_bytes(), ".npz", arrays),
        Target("data set", workspace.dataset("cohort").read_bytes(), ".h5", data_set, 1),
        Target("labels", labels, ".csv", lambda path: read_table(path, "import.labels"), 1),
        Target("image", next(workspace.images.rglob("*.jpg")).read_bytes(), ".jpg", read_image, 0.5),
        Target("image", _png(), ".png", read_image, 0.5),
    ]  # fmt: skip


def _checkpoint(folder: Path) -> bytes:
    from thermocancer.training.checkpoint import Checkpoint, Snapshot, Standing

    path = folder / "checkpoint.npz"
    values = [np.arange(12.0).reshape(3, 4)]
    Checkpoint("attacked", Standing(), Snapshot(values, values)).write(path)
    return path.read_bytes()


def _network(folder: Path) -> bytes:
    import keras

    from thermocancer.training.checkpoint import save_model

    asked = keras.Input((4,), name="asked")
    path = folder / "network.keras"
    save_model(keras.Model(asked, keras.layers.Dense(2, name="answer")(asked), name="network"), path)
    return path.read_bytes()


def _png() -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", np.arange(600, dtype=np.uint8).reshape(20, 30))[1].tobytes())


def _everything(cohort: StoredCohort) -> tuple[object, ...]:
    """What a data set says, frames included."""
    frames = {view: cohort.frames(view, np.arange(len(cohort))).tobytes() for view in cohort.views}
    nuisance = {name: values.tobytes() for name, values in cohort.nuisance().items()}
    present = {view: cohort.present(view).tolist() for view in cohort.views}
    return cohort.exams, cohort.views, cohort.kind, frames, nuisance, present


def _must_be_inside(folder: Path, relative: str) -> None:
    try:
        inside(folder, relative)
    except DataError:
        raise AssertionError(f"{relative!r} leads out of {folder.name}") from None


def attack_files(workspace: Workspace, number: int, seed: int, counts: Counts) -> None:
    """Read ``number`` damaged files of all kinds."""
    known, rng = targets(workspace), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(number):
            target = rng.choices(known, [each.weight for each in known])[0]
            content = damaged(target.content, rng)
            if target.is_json and rng.random() < 0.6:
                content = twisted_lines(target.content, rng)
            path = Path(folder) / f"attacked{target.suffix}"
            path.write_bytes(content)
            try:
                target.read(path)
                outcome, detail = "read", ""
            except ThermocancerError:
                outcome, detail = "refused", ""
            except AssertionError as error:
                outcome, detail = "wrong", str(error)
            except Exception as error:
                outcome, detail = "untyped", f"{type(error).__name__}: {str(error)[:200]}"
            counts.note(target.kind, outcome, detail)
