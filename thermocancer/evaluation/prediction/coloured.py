"""A new exam as the colour images that a run of the original recipe was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from thermocancer.config.preparation import ConvertSection
from thermocancer.data.cohort import ChangedCohort, Cohort, Frames, IntArray, Kind, centi_celsius
from thermocancer.errors import DataError


class ColouredCohort(ChangedCohort):
    """``source`` (degrees) coloured as ``convert`` does it, JPEG loss included."""

    def __init__(self, source: Cohort, settings: ConvertSection) -> None:
        super().__init__(source)
        self._settings = settings

    @property
    def kind(self) -> Kind:
        return "rgb"

    @property
    def fingerprint(self) -> str:
        from thermocancer.files import fingerprint

        return fingerprint("coloured", self.original.fingerprint, self._settings.model_dump(mode="json"))

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        from thermocancer.thermal.rendering import render_centi

        coloured = render_centi(centi_celsius(self.original, view, rows), self._settings.rendering)
        if self._settings.format == "jpg":
            coloured = np.stack([_through_jpeg(each, self._settings.jpeg_quality) for each in coloured])
        return coloured[:, np.newaxis]


def _through_jpeg(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """RGB (height, width, 3) written as JPEG and read again."""
    import cv2

    flipped = np.ascontiguousarray(image[..., ::-1])
    written, content = cv2.imencode(".jpg", flipped, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR) if written else None
    if decoded is None:
        raise DataError("an image could not be written as JPEG")
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)
