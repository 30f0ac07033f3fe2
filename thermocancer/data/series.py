"""Series of slices: a NIfTI volume, or the DICOM files of one series, and the slices that are drawn from it.

Which slices: ``count`` at even steps over the central ``share`` of the volume, by its own order. Of a NIfTI volume
these are axial, from foot to head once its axes are turned to the nearest of right, anterior, superior (what
``nibabel.as_closest_canonical`` does), the front of the head up; of a DICOM series the acquired ones, in the order of
their Image Position along the normal of their Image Orientation (PS3.3, C.7.6.2.1.1). Grey levels: two percentiles of
the whole volume become 0 and 255, so that the slices of one volume stay comparable. Nothing is written.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.data.class_images import DICOM, Pixels, check_pydicom
from thermocancer.errors import DataError, check_installed
from thermocancer.files import fingerprint, reading

if TYPE_CHECKING:
    import pydicom

    from thermocancer.config.learning import CnnSection

NIFTI = (".nii", ".nii.gz")
Voxels = npt.NDArray[np.float32]
SCANNER = ("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "SeriesDescription", "EchoTime",
           "RepetitionTime", "FlipAngle")  # fmt: skip
"""What a DICOM header says of how a series was made; none of it is of the person."""
_HEADER = ("PatientID", "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns",
           "PixelSpacing", *SCANNER)  # fmt: skip
PARALLEL = 1e-3
"""Cosines of directions, and mm between places, that differ by less are equal."""
MOST_VOXELS = 1 << 28
"""Ten times a large head scan; 1 GB in memory."""


@dataclass(frozen=True)
class Drawing:
    """Which slices of a volume are taken, and how its values become grey."""

    count: int = 12
    share: float = 0.6
    percentiles: tuple[float, float] = (1.0, 99.5)

    @classmethod
    def of(cls, cnn: CnnSection) -> Drawing:
        return cls(cnn.slices, cnn.slice_share, cnn.slice_percentiles)

    def places(self, depth: int) -> list[int]:
        """Positions of the slices of a volume of ``depth``, ascending, each once."""
        half = (depth - 1) * self.share / 2
        middle = (depth - 1) / 2
        steps = np.linspace(middle - half, middle + half, self.count) if self.count > 1 else np.array([middle])
        return sorted({int(each) for each in np.rint(steps)})


@dataclass(frozen=True)
class Series:
    """One series: a NIfTI file, or the DICOM files of one series in the order of their position.

    ``content`` is the hash of its voxels, ``depth`` its number of slices, ``spacing`` mm from slice to slice, row to
    row and column to column (0 where unknown). ``patient`` is empty where neither header nor name says it.
    """

    files: tuple[Path, ...]
    content: str
    depth: int
    shape: tuple[int, int]
    spacing: tuple[float, float, float]
    patient: str = ""
    scanner: tuple[tuple[str, str], ...] = ()

    def digest(self, place: int) -> str:
        """What stands for the slice's picture: equal for the same place of the same voxels alone."""
        return fingerprint(self.content, place)

    def slices(self, places: Sequence[int], drawing: Drawing) -> list[Pixels]:
        """Grey slices, each uint8 (rows, columns). Raises DataError when the volume cannot be read any more."""
        voxels = _read_nifti(self.files[0])[0] if is_nifti(self.files[0]) else _read_dicoms(self.files)
        known = voxels[np.isfinite(voxels)]
        low, high = np.percentile(known, drawing.percentiles) if known.size else (0.0, 1.0)
        scaled = (np.nan_to_num(voxels[list(places)], nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-9)
        return list(np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8))


Members = tuple[tuple[Path, "pydicom.Dataset"], ...]
"""Files of one DICOM series, with their headers."""

Hasher = Callable[[Path, Callable[[Path], str]], str]
"""The text that a function makes of a file, remembered while the file stays as it is (``HashIndex.of``)."""


def patient_in_name(path: str) -> str:
    """The patient of a BIDS path (``sub-07/anat/sub-07_T1w.nii``), or an empty text."""
    found = re.search(r"(?:^|[/_])sub-([A-Za-z0-9]+)", path)
    return found[1] if found else ""


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI) and not path.name.startswith(".")


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def open_nifti(path: Path, remembered: Hasher) -> Series:
    """A volume as a series. Raises DataError when it is damaged or no volume, ConfigError without ``nibabel``."""
    check_installed("nibabel", "NIfTI files need nibabel", extra="nifti", where=path)

    def summary(path: Path) -> str:
        try:
            voxels, spacing = _read_nifti(path)
        except DataError as error:
            return f"!{error.what}" + (f" ({error.found})" if error.found else "")
        content = hashlib.sha256(repr(voxels.shape).encode() + voxels.tobytes()).hexdigest()
        return " ".join(map(str, [content, *voxels.shape, *spacing]))

    text = remembered(path, summary)
    if text.startswith("!"):
        raise DataError(text[1:], where=path)
    content, depth, rows, columns, *spacing = text.split()
    high, down, across = map(float, spacing)
    return Series((path,), content, int(depth), (int(rows), int(columns)), (high, down, across))


def _read_nifti(path: Path) -> tuple[Voxels, tuple[float, float, float]]:
    """Axial slices from foot to head, (slices, rows, columns), and mm between them, between rows and columns."""
    import nibabel

    with reading(path, "the volume cannot be read"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what nibabel warns of in a header it reads all the same
        image = nibabel.as_closest_canonical(nibabel.load(path))
        if math.prod(image.shape) > MOST_VOXELS:
            raise ValueError(f"{image.shape}, more than {MOST_VOXELS} voxels")
        voxels = np.asarray(image.dataobj, np.float32)
    voxels = voxels[..., 0] if voxels.ndim == 4 and voxels.shape[3] == 1 else voxels
    if voxels.ndim != 3 or min(voxels.shape) < 2:
        shape = " x ".join(map(str, voxels.shape))
        raise DataError("a NIfTI file that is no single volume", where=path, expected="three axes", found=shape)
    across, down, high = (float(each) for each in image.header.get_zooms()[:3])
    return np.ascontiguousarray(voxels.transpose(2, 1, 0)[:, ::-1]), (high, down, across)


# --- DICOM ------------------------------------------------------------------------------------------------------------


def dicom_series(files: Sequence[Path]) -> dict[str, list[tuple[Path, pydicom.Dataset]]]:
    """DICOM files with their headers by their series; files that are no DICOM, or name no series, are left out."""
    found: dict[str, list[tuple[Path, pydicom.Dataset]]] = {}
    for path in files:
        if (header := _header(path)) is not None and (series := str(header.get("SeriesInstanceUID", ""))):
            found.setdefault(series, []).append((path, header))
    return found


def _header(path: Path) -> pydicom.Dataset | None:
    with path.open("rb") as stream:
        marked = stream.read(132)[128:] == b"DICM"
    if not marked and path.suffix.lower() not in DICOM:
        return None
    check_pydicom(path)
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
    except Exception:  # whatever the damage led to: as a single image the file is then refused with its reason
        return None


def open_dicoms(members: Members, content_of: Callable[[Path], str]) -> Series:
    """The files of one series, put in order. ``content_of`` is the hash of a slice's picture, and may raise DataError.

    Raises DataError when slices are not of one matrix and orientation, or two lie in one place.
    """
    where, first = members[0][0].parent, members[0][1]
    try:
        directions = np.array([[float(v) for v in each.ImageOrientationPatient] for _, each in members])
        positions = np.array([[float(v) for v in each.ImagePositionPatient] for _, each in members])
        shapes = {(int(each.Rows), int(each.Columns)) for _, each in members}
        normal = np.cross(directions[0, :3], directions[0, 3:])
        along = positions @ normal
    except (AttributeError, TypeError, ValueError) as error:
        expected = "ImagePositionPatient and ImageOrientationPatient in every file"
        raise DataError("a DICOM series without places", where=where, expected=expected) from error
    if len(shapes) > 1 or np.abs(directions - directions[0]).max() > PARALLEL:
        raise DataError("a DICOM series whose slices do not lie one above the other", where=where)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    if len(steps) and steps.min() < PARALLEL:
        raise DataError("a DICOM series with two slices in one place", where=where, found=f"{len(members)} slices")
    files = tuple(members[place][0] for place in order)
    content = fingerprint([content_of(path) for path in files])
    spacing = [float(each) for each in first.get("PixelSpacing", None) or (0.0, 0.0)]
    scanner = tuple((name, str(value)) for name in SCANNER if (value := first.get(name)) not in (None, ""))
    between = float(np.median(steps)) if len(steps) else 0.0
    return Series(
        files, content, len(files), shapes.pop(), (between, spacing[0], spacing[1]),
        str(first.get("PatientID", "") or ""), scanner,
    )  # fmt: skip


def _read_dicoms(files: Sequence[Path]) -> Voxels:
    """Every slice with its own rescaling, (slices, rows, columns)."""
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut

    found = []
    for path in files:
        with reading(path, "the DICOM image cannot be read"):
            data = pydicom.dcmread(path)
            values = np.asarray(apply_modality_lut(data.pixel_array, data), np.float32)
            found.append(-values if data.PhotometricInterpretation == "MONOCHROME1" else values)
    return np.stack(found)
