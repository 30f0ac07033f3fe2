"""Is this exam like those a run was trained on? If not, the run should not answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt

from thermocancer.cache import cached_array, cached_json
from thermocancer.config import Config
from thermocancer.data.cohort import Kind, degrees
from thermocancer.data.novelty import Reference, make_reference
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
from thermocancer.data.store.writing import hash_array
from thermocancer.files import Json, fingerprint, read_json_as
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run

MOST_EXAMS = 60
"""So many training exams (evenly spaced) are measured: enough for a range, and quick."""


# --- the training exams themselves: what they look like, and which they are -------------------------------------------

BLOCKS = (12, 16)
"""An exam's likeness to one of the training exams is judged by the means of so many blocks of the frame."""

NEARLY = {"celsius": 5.0, "rgb": 3.0}
"""Frames whose blocks all lie within this are one picture written twice: hundredths of a degree, or grey levels.
Another recording of the same woman differs by more than ten times that.
"""


class Met(TypedDict):
    """What a run's training has to do with a new exam: ``status``, and in words.

    ``exam`` (holds the very frames of a training exam), ``nearly`` (the same pictures, written otherwise), ``patient``
    (a training patient's number, other content), ``no``; ``unknown`` where the data set is not here.
    """

    status: Literal["exam", "nearly", "patient", "no", "unknown"]
    words: str


@dataclass(frozen=True)
class Training:
    """The exams of a run's data set: what they look like, the shape of their frames, and who was trained on.

    ``reference`` is None where frames are colours. ``resized``: ``build-dataset`` has changed their size.
    ``contents`` maps the hash of a frame before resizing to its exam; ``likenesses`` are (exams, 12, 16) block means of
    each exam's first frame of ``view``, ``keys`` whose. ``note`` says what has changed since.
    """

    reference: Reference | None
    shape: tuple[int, int]
    resized: bool
    kind: Kind
    view: str
    contents: Mapping[str, str]
    keys: tuple[str, ...]
    likenesses: npt.NDArray[np.float32]
    patients: frozenset[int]
    note: str = ""

    def as_json(self) -> Json:
        """For a run that leaves its workspace: hashes and numbers, no likeness of anybody."""
        return {
            "reference": None if self.reference is None else self.reference.as_json(), "shape": list(self.shape),
            "resized": self.resized, "kind": self.kind, "view": self.view, "contents": dict(self.contents),
            "patients": sorted(self.patients),
        }  # fmt: skip

    @classmethod
    def from_json(cls, kept: Json) -> Training:
        rows, columns = kept["shape"]
        return cls(
            None if kept["reference"] is None else Reference.from_json(kept["reference"]), (rows, columns),
            kept["resized"], kept["kind"], kept["view"], kept["contents"], (), np.zeros((0, *BLOCKS), np.float32),
            frozenset(kept["patients"]), "the data set is not here: copies written otherwise are not looked for",
        )  # fmt: skip

    def meet(self, patient: int, hashes: Iterable[str], first: npt.NDArray[np.generic]) -> Met:
        """Was this exam, or its patient, among the training exams? Content is compared, never a name.

        ``hashes`` are those of its frames before resizing, ``first`` (H, W[, 3]) its first frame as stored.
        """
        same = sorted({self.contents[each] for each in hashes if each in self.contents})
        if same:
            return {"status": "exam", "words": f"the run was trained on this very exam ({', '.join(same)})"}
        blocks = _blocks(first)
        for turned, how in ((blocks, ""), (blocks[:, ::-1], ", mirrored")):
            apart = np.abs(self.likenesses - turned).max(axis=(1, 2), initial=0.0)
            near = np.flatnonzero(apart <= NEARLY[self.kind])
            if near.size:
                words = f"nearly the same picture as training exam {self.keys[near[0]]}{how}"
                return {"status": "nearly", "words": words}
        if patient and patient in self.patients:
            return {"status": "patient", "words": f"same number as training patient {patient}, other content"}
        return {"status": "no", "words": ""}


def training_of(run: Run, config: Config) -> Training | None:
    """What is known of the exams that a run was trained on, remembered in the cache; None where the data set is gone.

    Up to sixty exams are measured. In a hold-out the test part was not trained on.
    """
    path = run.workspace.dataset(config.dataset.name)
    if not path.exists():
        kept = run.folder / TRAINING
        return (
            read_json_as(kept, Training.from_json, "what a run was trained on cannot be read")
            if kept.exists()
            else None
        )
    with StoredCohort(path, DYNAMIC if run.reads is Reads.FRAMES else STATIC) as cohort:
        view = cohort.views[0] if run.reads is Reads.FRAMES else run.manifest.views[0]
        present = np.flatnonzero(cohort.present(view))
        unused = {each.exam for each in run.manifest.excluded}
        if run.manifest.protocol != "grouped-cv":
            unused |= {f"{row.patient}_{row.visit}" for row in run.rows}
        trained = [exam for exam in cohort.exams if exam.key not in unused]
        rows = [row for row in present.tolist() if cohort.exams[row].key not in unused]

        def measure() -> Reference:
            some = np.linspace(0, len(present) - 1, min(MOST_EXAMS, len(present))).round().astype(np.int64)
            matrices = (degrees(cohort, view, np.array([row]))[0] for row in present[np.unique(some)])
            return make_reference(matrices, [cohort.exams[row].layout for row in present])

        def likenesses() -> npt.NDArray[np.float32]:
            frames = (cohort.frames(view, np.array([row]), (0,))[0, 0] for row in rows)
            return np.stack([_blocks(each) for each in frames]) if rows else np.zeros((0, *BLOCKS), np.float32)

        key = fingerprint(cohort.fingerprint, view, MEASURES)[:32]
        memory, reference = run.workspace.cache / "likeness", None
        if cohort.kind == "celsius":
            reference = cached_json(
                memory / f"{key}.json", measure, encode=Reference.as_json, decode=Reference.from_json
            )
        whose = fingerprint(cohort.fingerprint, view, rows)[:32]
        shape = (len(rows), *BLOCKS)
        first = cohort.exams[int(present[0])]
        stored = hash_array(cohort.frames(view, present[:1], (0,))[0, 0])
        known = dict(first.hashes)
        return Training(
            reference, cohort.shape, stored != known.get(view, known.get("00", stored)), cohort.kind, view,
            {digest: exam.key for exam in trained for _, digest in exam.hashes},
            tuple(cohort.exams[row].key for row in rows),
            cached_array(memory / f"{whose}.npy", shape, np.float32, likenesses),
            frozenset(exam.patient for exam in trained),
            "" if cohort.fingerprint == run.manifest.dataset.fingerprint else CHANGED,
        )  # fmt: skip


CHANGED = "the data set has changed since the run was trained: who was in training is read from what it holds now"
TRAINING = "training.json"
"""Of a run that has left its workspace (``export --formats zip``): what is known of the exams it was trained on."""

MEASURES = 2
"""Raise it when other numbers are measured, so that the cache is made anew."""


def _blocks(frame: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Means of ``BLOCKS`` blocks of a frame (H, W) or (H, W, 3), (12, 16)."""
    import cv2

    values = frame.astype(np.float32)
    grey = values.mean(axis=-1) if values.ndim == 3 else values
    return np.asarray(cv2.resize(grey, (BLOCKS[1], BLOCKS[0]), interpolation=cv2.INTER_AREA), np.float32)
