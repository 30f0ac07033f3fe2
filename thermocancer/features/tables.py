"""Tables of features: one row an exam, measured once a data set and kept in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from thermocancer.data.cohort import Cohort, FloatArray, IntArray, all_alike, centi_celsius, colours
from thermocancer.errors import DataError
from thermocancer.features import asymmetry, thermal
from thermocancer.features.body import skin_of
from thermocancer.features.pixels import reduce_area
from thermocancer.features.thermal import Mask
from thermocancer.files import fingerprint, written_aside
from thermocancer.thermal.regions import midline

TableKind = Literal["thermal", "asymmetry", "asymmetry-index", "pixels"]
VERSION = 2
"""Part of the cache key; raise it when a feature changes its meaning."""

BLOCK = 16
"""Exams read at once."""


def feature_names(kind: TableKind, views: tuple[str, ...]) -> tuple[str, ...]:
    """What the columns of a table mean, except for pixels, whose columns are places."""
    if kind == "asymmetry-index":
        return tuple(f"{name}.asymmetry.mean" for name in _asymmetric(views))
    sides = tuple(f"{name}.asymmetry.{each}" for name, indices in _asymmetric(views).items() for each in indices)
    if kind == "asymmetry":
        return sides
    own = (*thermal.GLOBAL_NAMES, *thermal.REGION_NAMES)
    return tuple(f"{view}.{each}" for view in views for each in own) + sides


def complete_rows(source: Cohort, views: tuple[str, ...]) -> IntArray:
    """Rows of the exams that have every one of the views."""
    return np.flatnonzero(np.logical_and.reduce([source.present(view) for view in views])).astype(np.int64)


def measured_table(
    source: Cohort, kind: TableKind, views: tuple[str, ...], pixels: tuple[int, int], cache: Path | None = None
) -> FloatArray:
    """The table of all exams, shape (n, p); NaN rows for exams that lack one of the views.

    With ``cache`` it is kept there as ``.npy``, by content. Raises DataError when the table needs
    degrees and the data set holds colour images.
    """
    if cache is None:
        return _measure(source, kind, views, pixels)
    key = fingerprint("table", VERSION, kind, views, pixels if kind == "pixels" else None, source.fingerprint)
    path = cache / "features" / f"{kind}-{key[:32]}.npy"
    if path.exists():
        try:
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        except (OSError, ValueError):
            path.unlink(missing_ok=True)  # a damaged cache is an empty cache
    table = _measure(source, kind, views, pixels)
    with written_aside(path) as side:
        np.save(side, table, allow_pickle=False)
    return table


def _measure(source: Cohort, kind: TableKind, views: tuple[str, ...], pixels: tuple[int, int]) -> FloatArray:
    if kind != "pixels":
        check_degrees(source, kind)
        _check_sides(kind, views)
    complete = complete_rows(source, views)
    found: list[FloatArray] = []
    for start in range(0, len(complete), BLOCK):
        rows = complete[start : start + BLOCK]
        if kind == "pixels":
            found.append(_pixels(source, views, rows, pixels))
        else:
            found += [each[None] for each in _exam_rows(kind, source, views, rows)]
    if not found:
        raise DataError("no exam has every view", expected=", ".join(views), found="0 complete exams")
    values = np.concatenate(found)
    table = np.full((len(source.exams), values.shape[1]), np.nan)
    table[complete] = values
    return table


def check_degrees(source: Cohort, kind: str) -> None:
    """Raise DataError when ``source`` holds colour images, which have no degrees."""
    if source.kind != "celsius":
        raise DataError(
            f"{kind} features need degrees, and this data set holds colour images",
            hint="build the data set with dataset.source: matrices",
        )


def _check_sides(kind: str, views: tuple[str, ...]) -> None:
    if kind.startswith("asymmetry") and not _asymmetric(views):
        raise DataError(
            "these views show one side only",
            where="fuse.views",
            expected="Frontal, or a right view together with its left one",
            found=", ".join(views),
        )


def _pixels(source: Cohort, views: tuple[str, ...], rows: IntArray, shape: tuple[int, int]) -> FloatArray:
    parts = []
    for view in views:
        read = rows[:1] if all_alike(source, view) else rows
        if source.kind == "celsius":
            reduced = reduce_area(centi_celsius(source, view, read) / 100.0, shape)  # (n, rows, columns) degC
        else:
            planes = np.moveaxis(colours(source, view, read) / 255.0, -1, 1)  # (n, 3, H, W)
            reduced = reduce_area(planes.reshape(-1, *planes.shape[2:]), shape)  # (3 n, rows, columns)
        parts.append(np.broadcast_to(reduced.reshape(len(read), -1), (len(rows), reduced.size // len(read))))
    return np.concatenate(parts, axis=1)


def _asymmetric(views: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """What can be compared between sides: the halves of the frontal view, and pairs of lateral views."""
    found: dict[str, tuple[str, ...]] = {"Frontal": asymmetry.MIRROR_NAMES} if "Frontal" in views else {}
    found |= {f"{right}-{left}": asymmetry.PAIR_NAMES for right, left in asymmetry.SIDES if {right, left} <= {*views}}
    return found


@dataclass(frozen=True)
class Seen:
    """One view of one exam: degrees (H, W), where its skin is, and statistics of its own where they are asked for."""

    celsius: FloatArray
    skin: Mask
    own: FloatArray

    @classmethod
    def of(cls, celsius: FloatArray, kind: TableKind) -> Seen:
        skin = skin_of(celsius)
        measures = (thermal.global_statistics, thermal.region_percentiles) if kind == "thermal" else ()
        return cls(celsius, skin, np.concatenate([np.zeros(0), *(measure(celsius, skin) for measure in measures)]))


def _exam_rows(kind: TableKind, source: Cohort, views: tuple[str, ...], rows: IntArray) -> list[FloatArray]:
    """The features of each exam; a view that is the same in all of them is looked at once."""
    seen: dict[str, list[Seen]] = {}
    for view in views:
        alike = all_alike(source, view)
        looked = [Seen.of(each / 100.0, kind) for each in centi_celsius(source, view, rows[:1] if alike else rows)]
        seen[view] = looked * len(rows) if alike else looked
    known: dict[tuple[int, ...], FloatArray] = {}
    return [_exam_row(kind, {view: each[place] for view, each in seen.items()}, known) for place in range(len(rows))]


def _exam_row(kind: TableKind, seen: dict[str, Seen], known: dict[tuple[int, ...], FloatArray]) -> FloatArray:
    """The features of one exam, shape (p,), in the order of ``feature_names``; ``known`` are sides compared before."""
    sides = []
    for name in _asymmetric(tuple(seen)):
        compared = tuple(seen[view] for view in name.split("-"))
        key = tuple(id(each) for each in compared)
        if key not in known:
            known[key] = _compared(*compared)
        sides.append(known[key])
    if kind == "asymmetry-index":
        return np.array([each[0] for each in sides])
    if kind == "asymmetry":
        return np.concatenate(sides)
    return np.concatenate([*(each.own for each in seen.values()), *sides])


def _compared(first: Seen, second: Seen | None = None) -> FloatArray:
    """The halves of a frontal view, or a right view and its left one."""
    if second is None:
        return asymmetry.mirror_asymmetry(first.celsius, first.skin, midline(first.celsius, first.skin))
    return asymmetry.side_differences(first.celsius[first.skin], second.celsius[second.skin])
