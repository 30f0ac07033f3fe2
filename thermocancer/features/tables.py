"""Tables of features: one row an exam, measured once a data set and kept in the cache."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thermocancer.cache import cached_array
from thermocancer.data.cohort import (
    BoolArray,
    Cohort,
    FloatArray,
    IntArray,
    all_alike,
    centi_celsius,
    colours,
    degrees,
)
from thermocancer.errors import DataError
from thermocancer.features import thermal
from thermocancer.files import fingerprint
from thermocancer.thermal.regions import midline


class Table(StrEnum):
    """Which numbers a table holds."""

    THERMAL = "thermal"
    ASYMMETRY = "asymmetry"
    INDEX = "asymmetry-index"
    PIXELS = "pixels"

    @property
    def compares_sides(self) -> bool:
        """Does it hold left-right differences alone?"""
        return self in (Table.ASYMMETRY, Table.INDEX)


VERSION = 2  # part of the cache key; raise it when a feature changes its meaning
BLOCK = 16  # exams read at once


def feature_names(kind: Table, views: tuple[str, ...]) -> tuple[str, ...]:
    """What the columns of a table mean, except for pixels, whose columns are places."""
    few = 1 if kind is Table.INDEX else None
    sides = tuple(f"{name}.asymmetry.{each}" for name, indices in _asymmetric(views).items() for each in indices[:few])
    own = () if kind.compares_sides else (*thermal.GLOBAL_NAMES, *thermal.REGION_NAMES)
    return tuple(f"{view}.{each}" for view in views for each in own) + sides


def complete_rows(cohort: Cohort, views: tuple[str, ...]) -> IntArray:
    """Rows of the exams that have every one of the views."""
    return np.flatnonzero(np.logical_and.reduce([cohort.present(view) for view in views])).astype(np.int64)


def measured_table(
    cohort: Cohort, kind: Table, views: tuple[str, ...], pixels: tuple[int, int], cache: Path | None = None
) -> FloatArray:
    """The table of all exams, shape (n, p); NaN rows for exams that lack one of the views.

    With ``cache`` it is kept there as ``.npy``, by content. Raises DataError when the table needs degrees and
    the data set holds colour images, sides that the views do not show, or views that no exam has.
    """
    complete, plain = complete_rows(cohort, views), kind is Table.PIXELS
    if not plain and cohort.kind != "celsius":
        hint = "build the data set with dataset.source: matrices"
        raise DataError(f"{kind} features need degrees, and this data set holds colour images", hint=hint)
    if kind.compares_sides and not _asymmetric(views):
        raise DataError(
            "these views show one side only", where="fuse.views",
            expected="Frontal, or a right view together with its left one", found=", ".join(views),
        )  # fmt: skip
    if not len(complete):
        raise DataError("no exam has every view", expected=", ".join(views), found="0 complete exams")

    def measure() -> FloatArray:
        table = np.full(shape, np.nan)
        for start in range(0, len(complete), BLOCK):
            rows = complete[start : start + BLOCK]
            table[rows] = _pixels(cohort, views, rows, pixels) if plain else _measures(kind, cohort, views, rows)
        return table

    depth = 1 if cohort.kind == "celsius" else colours(cohort, views[0], complete[:1]).shape[-1]
    columns = len(views) * pixels[0] * pixels[1] * depth if plain else len(feature_names(kind, views))
    shape = (len(cohort.exams), columns)
    key = fingerprint("table", VERSION, kind, views, pixels if plain else None, cohort.fingerprint)
    path = None if cache is None else cache / "features" / f"{kind}-{key[:32]}.npy"
    return cached_array(path, shape, np.float64, measure)


def _pixels(cohort: Cohort, views: tuple[str, ...], rows: IntArray, shape: tuple[int, int]) -> FloatArray:
    parts = []
    for view in views:
        read = rows[:1] if all_alike(cohort, view) else rows
        if cohort.kind == "celsius":
            planes = centi_celsius(cohort, view, read) / 100.0  # degC
        else:
            planes = np.moveaxis(colours(cohort, view, read) / 255.0, -1, 1).reshape(-1, *cohort.shape)  # (3 n, H, W)
        reduced = thermal.reduce_area(planes, shape)  # (n or 3 n, rows, columns)
        parts.append(np.broadcast_to(reduced.reshape(len(read), -1), (len(rows), reduced.size // len(read))))
    return np.concatenate(parts, axis=1)


def _asymmetric(views: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """What can be compared between sides: the halves of the frontal view, and pairs of lateral views."""
    found: dict[str, tuple[str, ...]] = {"Frontal": thermal.MIRROR_NAMES} if "Frontal" in views else {}
    return found | {f"{right}-{left}": thermal.PAIR_NAMES for right, left in thermal.SIDES if {right, left} <= {*views}}


class Seen(NamedTuple):
    """One view of one exam: degrees (H, W), where its skin is, and statistics of its own where they are asked for."""

    celsius: FloatArray
    skin: BoolArray
    own: list[FloatArray]


def _measures(kind: Table, cohort: Cohort, views: tuple[str, ...], rows: IntArray) -> FloatArray:
    """The features of exams, (len(rows), p), as ``feature_names``; views alike in all of them are looked at once."""
    statistics = (thermal.global_statistics, thermal.region_percentiles) if kind is Table.THERMAL else ()
    seen: dict[str, list[Seen]] = {}
    for view in views:
        alike = all_alike(cohort, view)
        looked = []
        for celsius in degrees(cohort, view, rows[:1] if alike else rows):
            skin = thermal.skin_of(celsius)
            looked.append(Seen(celsius, skin, [measure(celsius, skin) for measure in statistics]))
        seen[view] = looked * len(rows) if alike else looked
    known: dict[tuple[int, ...], FloatArray] = {}  # sides compared before
    table = []
    for place in range(len(rows)):
        parts = [statistic for each in seen.values() for statistic in each[place].own]
        for name in _asymmetric(views):
            sides = [seen[view][place] for view in name.split("-")]
            key = tuple(map(id, sides))
            if key not in known:
                first, last = sides[0], sides[-1]
                if first is last:  # the two halves of one view
                    middle = midline(first.celsius, first.skin)
                    known[key] = thermal.mirror_asymmetry(first.celsius, first.skin, middle)
                else:
                    known[key] = thermal.side_differences(first.celsius[first.skin], last.celsius[last.skin])
            parts.append(known[key][:1] if kind is Table.INDEX else known[key])
        table.append(np.concatenate(parts))
    return np.stack(table)
