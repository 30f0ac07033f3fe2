"""A folder of class images as a cohort of one view: decoded once at one size, mapped from the cache.

Images are kept in ``cache/images/KEY.npy``, one uint8 array that is mapped, not read: memory does not grow with
the folder, and every epoch and seed finds the pixels ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.cache import mapped_array
from thermocancer.config.learning import CnnSection
from thermocancer.data.class_images import Colour, Interpolation, Pixels
from thermocancer.data.cohort import IMAGE, BoolArray, Exam, FloatArray, IntArray, Kind
from thermocancer.data.image_folder import ImageFolder, read_image_folder
from thermocancer.data.series import Drawing
from thermocancer.files import HashIndex, fingerprint
from thermocancer.progress import Progress, Silent


@dataclass(frozen=True)
class ImageCohort:
    """The images of ``folder``, in its order, at ``size`` (rows, columns), as colours or grey.

    Nothing is decoded before frames are asked for.
    """

    folder: ImageFolder
    size: tuple[int, int]
    colour: Colour
    cache: Path
    progress: Progress = field(default_factory=Silent, repr=False, compare=False)
    interpolation: Interpolation = "area"
    drawing: Drawing = field(default_factory=Drawing)

    @classmethod
    def of(cls, cnn: CnnSection, cache: Path, index: HashIndex, progress: Progress | None = None) -> ImageCohort:
        """The folder that the settings name, read as they say. Raises as ``read_image_folder``."""
        drawing = Drawing.of(cnn)
        images = read_image_folder(
            Path(str(cnn.data)), positive=cnn.positive, group=cnn.group, label=cnn.label, index=index,
            keep_copies=cnn.copies == "keep", parts=cnn.folds == "parts", drawing=drawing,
        )  # fmt: skip
        return cls(images, cnn.size, cnn.color, cache, progress or Silent(), cnn.interpolation, drawing)

    @property
    def name(self) -> str:
        return self.folder.root.name

    @property
    def classes(self) -> tuple[str, str]:
        """Names of class 0 and class 1."""
        return self.folder.classes

    @cached_property
    def exams(self) -> tuple[Exam, ...]:
        return self.folder.exams

    @property
    def views(self) -> tuple[str, ...]:
        return (IMAGE,)

    @property
    def shape(self) -> tuple[int, int]:
        return self.size

    @property
    def kind(self) -> Kind:
        return "rgb"

    @cached_property
    def fingerprint(self) -> str:
        resized = () if self.interpolation == "area" else (self.interpolation,)
        scaled = [self.drawing.percentiles] if self.folder.series else []
        return fingerprint(self.folder.fingerprint, self._whole_shape, *resized, *scaled)

    @property
    def _whole_shape(self) -> tuple[int, int, int, int]:
        return (len(self.folder.images), *self.size, 3 if self.colour == "rgb" else 1)

    def length(self, view: str) -> int:
        return 1

    def present(self, view: str) -> BoolArray:
        return np.full(len(self.exams), view == IMAGE)

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Pixels:
        frames = np.asarray(self._pixels[rows])[:, np.newaxis]
        return frames if indices is None else frames[:, np.asarray(indices, dtype=np.int64)]

    def masks(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> None:
        """Pictures hold no temperatures, missing or not."""

    def decode(self) -> None:
        """Decode now what is not in the cache yet."""
        _ = self._pixels

    def nuisance(self) -> dict[str, FloatArray]:
        """Nothing: image files do not say when and how they were made."""
        return {}

    @cached_property
    def _pixels(self) -> npt.NDArray[np.uint8]:
        """Every image, (n, H, W, C)."""

        def fill(pixels: npt.NDArray[np.uint8]) -> None:
            with self.progress.task("decode images", len(pixels), "images") as task:
                drawn = self.folder.pictures(self.drawing, self.colour, self.size, self.interpolation)
                for row, picture in enumerate(drawn):
                    pixels[row] = picture
                    task.advance()

        kept = self.cache / "images" / f"{self.fingerprint[:32]}.npy"
        return mapped_array(kept, self._whole_shape, np.uint8, fill)
