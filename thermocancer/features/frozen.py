"""Features of a frozen backbone, computed once a frame and configuration and kept on disk.

``cache/features/KEY/`` belongs to one backbone (its weights, not its name), one rendering, one size and one choice
of frames: KEY is the fingerprint of all that, and ``about.json`` spells it out. In it one file an exam, named by
the exam's content, holds its features, float32 (frames, features); what shares the exam shares the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from thermocancer.cache import cached_array, cached_json
from thermocancer.data.inputs import Float32Array
from thermocancer.errors import DataError
from thermocancer.files import fingerprint


@dataclass
class FeatureCache:
    """The cached features (frames, features), of ``shape``, of one backbone and configuration.

    ``about`` is all that they depend on besides the exam. ``read_from_disk`` and ``computed`` count exams, for reports.
    """

    root: Path
    about: Mapping[str, object]
    shape: tuple[int, int]
    read_from_disk: int = 0
    computed: int = 0

    @cached_property
    def folder(self) -> Path:
        """Where they are. Raises DataError when its ``about.json`` tells of another backbone."""
        folder = self.root / fingerprint(self.about, self.shape)[:32]
        wanted: dict[str, object] = {"about": dict(self.about), "shape": list(self.shape)}
        note = folder / "about.json"
        found = cached_json(note, lambda: wanted, encode=dict, decode=lambda it: dict(it, about=dict(it["about"])))
        if fingerprint(found) != fingerprint(wanted):
            raise DataError(
                "these cached features come from another backbone",
                where=folder, expected=wanted["about"], found=found.get("about"),
                hint="delete the folder; the features are computed again",
            )  # fmt: skip
        return folder

    def of(self, exam: str, compute: Callable[[], Float32Array]) -> Float32Array:
        """The features of the exam whose content has this hash. Raises DataError as ``folder`` does."""
        self.read_from_disk += 1

        def counted() -> Float32Array:
            self.read_from_disk, self.computed = self.read_from_disk - 1, self.computed + 1
            return compute()

        return cached_array(self.folder / f"{exam}.npy", self.shape, np.float32, counted)
