"""An exam as a run reads it: its files judged, its frames as training saw them, at the size that it was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config
from thermocancer.config.preparation import ConvertSection, FilterSection
from thermocancer.config.schema import shown_rendering
from thermocancer.config.sources import ImportSection
from thermocancer.data.cohort import (
    ArrayCohort,
    ChangedCohort,
    Cohort,
    Exam,
    FloatArray,
    Frames,
    IntArray,
    Rgb,
    centi_celsius,
)
from thermocancer.data.folder.files import inspect, make
from thermocancer.data.names import safe_name
from thermocancer.data.nuisance import MISSING_SHARE, catalog_measures, measure_matrix, nuisance_columns
from thermocancer.data.store.packing import missing_share
from thermocancer.data.store.reading import DYNAMIC_VIEW
from thermocancer.data.store.sequences import fill_gaps, find_gap_problem
from thermocancer.errors import DataError
from thermocancer.evaluation.prediction.gathering import NewExam, NewFile, Wanted
from thermocancer.files import fingerprint
from thermocancer.thermal.regions import resize_missing

Decoder = Literal["opencv", "tensorflow"]
Shape = tuple[int, int]
"""Height and width of the frames that a run was trained on."""

# --- reading and judging ----------------------------------------------------------------------------------------------


def read_files(
    exam: NewExam, checks: FilterSection, shape: tuple[int, int] | None, section: ImportSection | None = None, *,
    dynamic: bool = False, wanted: Wanted = "temperatures",
) -> None:  # fmt: skip
    """Read and judge every file that the run can use: afterwards fit ones have a matrix, others a verdict.

    A run on static views leaves the frames of dynamic exams alone, and the other way round. A file of several frames
    becomes as many.
    """
    from thermocancer.thermal.quality import judge_matrix
    from thermocancer.thermal.regions import missing_pixels

    given, seen = section or ImportSection(), dict[str, NewFile]()
    for file in list(exam.files):
        place = str(file.view if file.frame is None else file.frame)
        if (file.frame is not None) != dynamic and not (dynamic and file.source.kind == "video"):
            file.notes.append(file.not_used())
        elif file.verdicts:
            continue
        elif dynamic and file.view not in ("Frontal", None):
            file.notes.append("not used: no frontal frame")
        elif file.view is None and not dynamic:
            file.reject("unknown_view", "; ".join(file.notes) or "no such view")
        elif place in seen:
            other = seen[place]
            days = f" ({other.date} and {file.date})" if other.date and file.date else ""
            file.reject(
                "extra_view",
                f"{safe_name(other.path.name)} is the same view{days}: two visits? score them apart, each in a folder "
                "of its own",
            )
        else:
            try:
                frames = _read(file, given, wanted)
            except DataError as error:
                file.reject("unreadable", error.what)
                continue
            parts = [file] if len(frames) == 1 else [replace(file, frame=number) for number in range(len(frames))]
            if len(frames) == 1 and dynamic and file.frame is None:
                file.frame = 0
            place_of = exam.files.index(file)
            exam.files[place_of : place_of + 1] = parts
            for part, values in zip(parts, frames, strict=True):
                if values.dtype == np.uint8:
                    part.pixels = values.astype(np.uint8, copy=False)
                    continue
                celsius = values.astype(np.float64, copy=False)
                found = judge_matrix(
                    celsius, low=checks.low, high=checks.high, minimum_spread=checks.minimum_spread, shape=shape,
                    missing=checks.missing,
                )  # fmt: skip
                for verdict in found:
                    part.reject(verdict.code, verdict.reason)
                if not found:
                    missing = missing_pixels(celsius)
                    part.celsius = np.where(missing, np.nan, celsius) if missing.any() else celsius
                    part.notes += [f"{missing.mean():.1%} of the pixels hold no temperature"] * bool(missing.any())
            if any(part.is_fit for part in parts):
                seen[place] = file


def _read(file: NewFile, section: ImportSection, wanted: Wanted) -> list[FloatArray | Rgb]:
    """Every frame of a file, as import would have it: degrees (H, W), or RGB (H, W, 3) where the run reads pictures."""
    from thermocancer.thermal.reading import read_frames, read_matrix

    source = file.source
    if file.celsius is not None:  # an array in memory, which is not fit before it was judged
        given, file.celsius = file.celsius, None
        return [given]
    if source.kind == "video" and wanted == "films":
        from thermocancer.thermal.rendering import read_video

        return list(read_video(source.path))
    if source.kind == "image" and section.range is None:
        from thermocancer.data.class_images import read_image

        return [read_image(source.path)]
    if source.kind in ("image", "video"):  # as import writes them
        with tempfile.TemporaryDirectory() as folder:
            targets = [Path(folder) / f"{number}.txt" for number in range(inspect(source, section).count)]
            make(source, section, targets)
            return [read_matrix(each).celsius for each in targets]
    frames = read_frames(source.path, unit=section.unit, shape=section.shape, part=section.part)
    file.layout = frames[0].layout
    file.notes += [str(note) for note in frames[0].notes]
    return [each.celsius for each in frames]


# --- an exam as the cohort of one that a run's classifier reads -------------------------------------------------------

Whole = dict[str, npt.NDArray[np.uint16 | np.uint8]]
"""Frames by view, or by number of two digits: hundredths of a degree (H, W) or RGB (H, W, 3), at the camera's size."""


def whole_views(exam: NewExam, config: Config) -> Whole:
    """The exam's static views as the data set was made of them, before any resizing."""
    from thermocancer.thermal.reading import fill_centi

    found: Whole = {}
    for view, file in exam.view_files().items():
        if file.pixels is not None:
            found[view] = file.pixels
            continue
        centi = fill_centi(np.asarray(file.celsius))
        one = ArrayCohort((Exam(0, 0, 0),), {view: centi[np.newaxis]})
        found[view] = as_trained(one, config).frames(view, np.zeros(1, np.int64))[0, 0]
    return found


def whole_frames(exam: NewExam, config: Config) -> Whole:
    """The same of the frames of a dynamic exam, gaps filled as in training. See ``gap_problem`` before."""
    from thermocancer.thermal.reading import fill_centi

    files, source = exam.frame_files(), config.dataset.frames_from
    pixels = [file.pixels for file in files.values() if file.pixels is not None]
    if len(pixels) == len(files) and pixels:
        return {f"{number:02d}": each for number, each in zip(files, pixels, strict=True)}
    if pixels:
        raise DataError("some frames are pictures and some hold temperatures", expected="one of both")
    centi = {number: fill_centi(np.asarray(file.celsius)) for number, file in files.items()}
    if len({each.shape for each in centi.values()}) > 1:
        raise DataError("the frames differ in shape", found=sorted({each.shape for each in centi.values()}))
    whole, _ = fill_gaps(centi, config.filter.frames)
    shown: Sequence[npt.NDArray[np.uint16 | np.uint8]] = whole
    if source == "images":
        many = ArrayCohort((Exam(0, 0, 0),) * len(whole), {DYNAMIC_VIEW: np.stack(whole)})
        coloured = ColouredCohort(many, config.convert, config.dataset.decoder)
        shown = list(coloured.frames(DYNAMIC_VIEW, np.arange(len(whole)))[:, 0])
    elif source == "videos":
        shown = _filmed(whole, config)
    return {f"{number:02d}": each for number, each in enumerate(shown)}


def _filmed(frames: Sequence[npt.NDArray[np.uint16]], config: Config) -> list[Rgb]:
    """Frames as they come back from the film that ``convert`` makes of them."""
    from thermocancer.thermal.rendering import read_video, render_centi, write_video

    convert, rendering = config.convert, shown_rendering(config) or config.convert.video_rendering
    coloured = [render_centi(each, rendering) for each in frames]
    if convert.video_jpeg is not None:
        coloured = [_through_jpeg(each, convert.video_jpeg) for each in coloured]
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "exam.avi"
        write_video(film, coloured, convert.video_fps, convert.video_codec)
        return list(read_video(film, frames=len(coloured)))


def _through_jpeg(rgb: Rgb, quality: int, decoder: Decoder = "opencv") -> Rgb:
    """A picture (H, W, 3) as it comes back from a JPEG file."""
    import cv2

    from thermocancer.thermal.rendering import decode_image

    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    written, content = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), options)
    decoded = decode_image(content.tobytes(), decoder) if written else None
    if decoded is None:
        raise DataError("an image could not be written as JPEG")
    return decoded


def resized(frame: npt.NDArray[np.uint16 | np.uint8], shape: Shape | None) -> npt.NDArray[np.uint16 | np.uint8]:
    """A frame as ``build-dataset`` stores it: averaged down to the size of the data set."""
    from thermocancer.data.store.writing import resize_centi, resize_rgb

    small: npt.NDArray[np.uint16 | np.uint8]
    if frame.dtype == np.uint8:
        small = resize_rgb(frame.astype(np.uint8, copy=False), shape)
    else:
        small = resize_centi(frame.astype(np.uint16, copy=False), shape)
    return small


def cohort_of(exam: NewExam, whole: Whole, shape: Shape | None, *, dynamic: bool) -> ArrayCohort:
    """The exam as its classifier reads it: (1, H, W) or (1, T, H, W[, 3]) a view, with its nuisance where it is told.

    What neither names nor degrees tell of the nuisance is NaN.
    """
    files = list((exam.frame_files() if dynamic else exam.view_files()).values())
    first = files[0]
    exams = (Exam(exam.patient, exam.visit, 0, first.date, first.layout),)
    small = {place: resized(frame, shape) for place, frame in whole.items()}
    if dynamic:
        return ArrayCohort(exams, {DYNAMIC_VIEW: np.stack(list(small.values()))[np.newaxis]}, name=exam.name)
    gaps = {file.view: np.isnan(file.celsius) for file in files if file.celsius is not None and file.view}
    masked = {view: resize_missing(mask, shape or small[view].shape[:2])[np.newaxis] for view, mask in gaps.items()
              if mask.any() and small[view].ndim == 2}  # fmt: skip
    matrices = {view: frame[np.newaxis] if frame.ndim == 2 else frame[np.newaxis, np.newaxis]
                for view, frame in small.items()}  # fmt: skip
    unknown = [name for name in ("patient", "visit") if not getattr(exam, name)]
    size = first.path.stat().st_size if first.path.is_file() else float("nan")  # no file: an array in memory
    facts = catalog_measures(exams[0], size, unknown)
    if first.celsius is not None:
        facts |= measure_matrix(first.celsius)
    share = missing_share([gaps.get(str(file.view)) for file in files])
    facts |= {MISSING_SHARE: share} if share else {}
    return ArrayCohort(exams, matrices, name=exam.name, measured=nuisance_columns(exams, [facts]), masked=masked)


def degrees_of(exam: NewExam, shape: Shape | None, like: ArrayCohort) -> ArrayCohort | None:
    """The exam's views in degrees at the size that is explained; None where one of them has none."""
    from thermocancer.thermal.reading import fill_centi

    files = exam.view_files()
    if any(file.celsius is None for file in files.values()):
        return None
    centi = {view: resized(fill_centi(np.asarray(file.celsius)), shape)[np.newaxis] for view, file in files.items()}
    return replace(like, matrices=centi)


def as_trained(cohort: ArrayCohort, config: Config, shape: Shape | None = None) -> Cohort:
    """What the run's classifier reads of static views: the degrees themselves, or their colours, at ``shape``."""
    if config.dataset.source != "images":
        return cohort
    return ColouredCohort(cohort, config.convert, config.dataset.decoder, shape)


class ColouredCohort(ChangedCohort):
    """``cohort`` (degrees) coloured as ``convert`` does it, JPEG loss included, then brought to ``size``."""

    def __init__(
        self, cohort: Cohort, settings: ConvertSection, decoder: Decoder = "opencv", size: Shape | None = None
    ) -> None:
        super().__init__(cohort)
        self._settings, self._decoder, self._size = settings, decoder, size

    @property
    def kind(self) -> Literal["rgb"]:
        return "rgb"

    @property
    def shape(self) -> Shape:
        return self._size or self.original.shape

    @property
    def fingerprint(self) -> str:
        settings = self._settings.model_dump(mode="json")
        return fingerprint("coloured", self.original.fingerprint, settings, self._decoder, self._size)

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        from thermocancer.thermal.rendering import render_centi

        coloured = render_centi(centi_celsius(self.original, view, rows), self._settings.rendering)
        if self._settings.format == "jpg":
            for image in coloured:
                image[:] = _through_jpeg(image, self._settings.jpeg_quality, self._decoder)
        return np.stack([resized(image, self._size) for image in coloured])[:, np.newaxis]


def gap_problem(exam: NewExam, config: Config) -> str | None:
    """Why the frames make no sequence that the run can read; None when they do."""
    found = list(exam.frame_files())
    if not found:
        return "the run reads the frames of a dynamic exam, and there is none that is fit"
    return find_gap_problem(found, config.filter.frames, config.dit.allow_gaps)
