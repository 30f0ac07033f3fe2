"""Features of a frozen backbone, computed once a frame and configuration and kept on disk.

``cache/features/KEY/`` belongs to one backbone (its weights, not its name), one rendering, one size
and one choice of frames: KEY is the fingerprint of all that, and ``about.json`` spells it out. In it
one file an exam, named by the exam's content, holds its features, float32 (frames, features); runs,
folds and data sets that share the exam share the file. Anything here may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.files import fingerprint, read_json, write_json, written_aside

Features = npt.NDArray[np.float32]


@dataclass
class FeatureCache:
    """The cached features of one backbone and configuration.

    ``about`` is everything that the features depend on besides the exam; ``shape`` is theirs, (frames,
    features). ``read_from_disk`` and ``computed`` count exams, for reports.
    """

    root: Path
    about: Mapping[str, Any]
    shape: tuple[int, int]
    read_from_disk: int = 0
    computed: int = 0
    _checked: bool = field(default=False, repr=False)

    @property
    def key(self) -> str:
        return fingerprint(self.about, self.shape)[:32]

    @property
    def folder(self) -> Path:
        return self.root / self.key

    def of(self, exam: str, compute: Callable[[], Features]) -> Features:
        """The features of the exam whose content has this hash: from disk, or computed and kept.

        A damaged file is computed again. Raises DataError when the folder was filled by another backbone.
        """
        self._check_folder()
        path = self.folder / f"{exam}.npy"
        found = self._read(path)
        if found is not None:
            self.read_from_disk += 1
            return found
        features = np.ascontiguousarray(compute(), dtype=np.float32)
        if features.shape != self.shape:
            raise DataError("features of an unexpected shape", where=path, expected=self.shape, found=features.shape)
        with written_aside(path) as side:
            np.save(side, features, allow_pickle=False)
        self.computed += 1
        return features

    def _read(self, path: Path) -> Features | None:
        try:
            found = np.load(path, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):  # not there, or cut short: compute it again
            return None
        return found if found.shape == self.shape and found.dtype == np.float32 else None

    def _check_folder(self) -> None:
        """Make the folder with its description, or refuse one whose description is another backbone's."""
        if self._checked:
            return
        note = self.folder / "about.json"
        wanted = {"about": dict(self.about), "shape": list(self.shape)}
        if note.exists():
            found = read_json(note)
            if fingerprint(found) != fingerprint(wanted):
                raise DataError(
                    "these cached features come from another backbone",
                    where=self.folder, expected=_name(wanted), found=_name(found),
                    hint="delete the folder; the features are computed again",
                )  # fmt: skip
        elif self.folder.exists() and any(self.folder.glob("*.npy")):
            raise DataError(
                "nobody knows which backbone made these cached features",
                where=self.folder, expected="about.json beside them",
                hint="delete the folder; the features are computed again",
            )  # fmt: skip
        else:
            write_json(note, wanted)
        self._checked = True


def _name(note: Any) -> str:
    about = note.get("about", {}) if isinstance(note, dict) else {}
    return f"{about.get('backbone', 'unknown')} (weights {str(about.get('weights', 'unknown'))[:12]})"


def content_hash(frames: npt.NDArray[Any]) -> str:
    """SHA-256 of frames as arrays: the same temperatures, the same hash, whatever file they stood in."""
    digest = hashlib.sha256(f"{frames.dtype.str} {frames.shape}".encode())
    digest.update(np.ascontiguousarray(frames).tobytes())
    return digest.hexdigest()
