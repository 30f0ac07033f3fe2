"""A new exam as the colour images that a run of the original recipe was trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thermocancer.config.preparation import ConvertSection
from thermocancer.data.cohort import CentiCelsius, ExamSource, IntArray, SeenThrough
from thermocancer.errors import DataError


class ColouredSource(SeenThrough):
    """``source`` (degrees) coloured as ``convert`` does it, JPEG loss included."""

    def __init__(self, source: ExamSource, settings: ConvertSection) -> None:
        super().__init__(source)
        self._settings = settings

    @property
    def kind(self) -> str:
        return "rgb"

    @property
    def fingerprint(self) -> str:
        from thermocancer.files import fingerprint

        return fingerprint("coloured", self.source.fingerprint, self._settings.model_dump(mode="json"))

    def centi_celsius(self, view: str, rows: IntArray) -> CentiCelsius:
        raise DataError("this run reads colour images, not degrees")

    def rgb(self, view: str, rows: IntArray) -> npt.NDArray[np.uint8]:
        from thermocancer.thermal.rendering import render_centi

        coloured = render_centi(self.source.centi_celsius(view, rows), self._settings.rendering)
        if self._settings.format == "jpg":
            return np.stack([_through_jpeg(each, self._settings.jpeg_quality) for each in coloured])
        return coloured


def _through_jpeg(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """RGB (height, width, 3) written as JPEG and read again."""
    import cv2

    flipped = np.ascontiguousarray(image[..., ::-1])
    written, content = cv2.imencode(".jpg", flipped, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR) if written else None
    if decoded is None:
        raise DataError("an image could not be written as JPEG")
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)
