"""What ``locate`` says of each exam, in words, JSON and pictures: where a source would be, if there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config
from thermocancer.data.cohort import FloatArray, IntArray, degrees
from thermocancer.errors import DataError
from thermocancer.evaluation.prediction.gathering import Gathered, NewExam, gather_exams
from thermocancer.evaluation.prediction.input import read_files
from thermocancer.evaluation.prediction.page import encoded
from thermocancer.evaluation.report.figures import AMBER, INK, MODEL, MUTED, STYLE, mark_sides
from thermocancer.files import Json
from thermocancer.locate.chest import CELL_MM, COLUMNS, HALF_WIDTH, OBLIQUE, ROWS, Chest, course_weights, find_chest
from thermocancer.locate.posterior import BANDS, LIMITS, NEAR_MM, Posterior, Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_FRAMES = 12
"""Frames of a dynamic exam from which on its recovery is read."""

SURE_OF_SIDE = 0.9
"""From this probability on the side is told even where the place cannot be."""


@dataclass
class Views:
    """One exam to locate in: degC (height, width) by view, frames (T, height, width) of its recovery, and remarks."""

    name: str
    celsius: dict[str, FloatArray]
    frames: FloatArray | None = None
    files: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def chest(self) -> Chest:
        """The grid on the frontal view."""
        return find_chest(self.celsius["Frontal"])


# --- exams --------------------------------------------------------------------


def exams_at(paths: list[Path], config: Config) -> tuple[Gathered, Iterator[Views]]:
    """The exams at ``paths``, read as ``import`` reads them. Raises DataError where there is nothing to read."""
    views = ("Frontal", *OBLIQUE)
    found = gather_exams(paths, views, config.import_)
    return found, (_read(exam, config) for exam in found.exams)


def _read(exam: NewExam, config: Config) -> Views:
    read_files(exam, config.filter, None, config.import_)
    celsius = {view: np.asarray(file.celsius) for view, file in exam.view_files().items() if file.celsius is not None}
    read_files(exam, config.filter, None, config.import_, dynamic=True)
    read = [np.asarray(file.celsius) for file in exam.frame_files().values() if file.celsius is not None]
    for file in exam.files:  # here both protocols are read
        file.notes = [note for note in file.notes if not (file.is_fit and note == file.not_used())]
    files, notes, frames = [file.as_dict() for file in exam.files], [], None
    if len({each.shape for each in read}) == 1 and len(read) >= FEWEST_FRAMES:
        frames = np.stack(read)
        notes.append(f"the recovery is read from {len(read)} frames")
    elif read:
        notes.append(
            f"the recovery is not read: {len(read)} frames of one size and at least {FEWEST_FRAMES} are needed"
        )
    if "Frontal" not in celsius and frames is not None:
        celsius["Frontal"] = np.tensordot(course_weights(len(frames))[2], frames, axes=1)
        notes.append("the last quarter of the frames stands for the frontal view")
    return Views(exam.name, celsius, frames, files, notes)


def exams_of_data_set(path: Path, wanted: set[str] | None) -> Iterator[Views]:
    """The exams of a data set, or those whose keys are ``wanted``.

    Raises DataError, at once, where there is none, or it holds no frontal views in degrees.
    """
    from thermocancer.data.store.reading import StoredCohort

    with StoredCohort(path) as cohort:
        if "Frontal" not in cohort.views:
            raise DataError("this data set holds no frontal views", where=path, found=", ".join(cohort.views))
        degrees(cohort, "Frontal", np.arange(1))
    return _stored(path, wanted)


def _stored(path: Path, wanted: set[str] | None) -> Iterator[Views]:
    from thermocancer.data.store.reading import StoredCohort

    with StoredCohort(path) as cohort:
        views = [view for view in ("Frontal", *OBLIQUE) if view in cohort.views]
        there = {view: cohort.present(view) for view in views}
        for row, exam in enumerate(cohort.exams):
            if wanted is None or exam.key in wanted:
                at: IntArray = np.array([row])
                celsius = {view: degrees(cohort, view, at)[0] for view in views if there[view][row]}
                yield Views(exam.key, celsius)


# --- answers ------------------------------------------------------------------


def refused(exam: Views) -> Json:
    """The answer to an exam that has no frontal view."""
    reason = "no frontal view that can be used: the oblique ones are read only beside it"
    unfit = [f"{file['file']}: {verdict['reason']}" for file in exam.files for verdict in file["verdicts"]]
    reason += f" ({unfit[0]})" if unfit else ""
    return {"exam": exam.name, "status": "refused", "reason": reason, "files": exam.files, "notes": exam.notes}


def answer(exam: Views, found: Posterior, share: float) -> Json:
    """The answer as JSON; ``share`` is what the region was calibrated to hold."""
    across, down = exam.chest.pixels_of(found.row, found.column)
    ends = (LIMITS["depth"][0], *BANDS, LIMITS["depth"][1])
    bands = np.flatnonzero(found.region.any(axis=(1, 2)))
    side = "right" if found.right >= 0.5 else "left"
    share_lacking = float(np.isnan(exam.celsius["Frontal"]).mean())
    lacking = f" {share_lacking:.1%} of the frontal view's pixels hold no temperature; no phantom lacked any." * bool(
        share_lacking
    )
    best = max(found.quadrants, key=lambda name: found.quadrants[name] * name.startswith(side))
    return {
        "exam": exam.name, "status": "located" if found.locatable else "not locatable", "reason": "",
        "views": [view for view in ("Frontal", *OBLIQUE) if view in exam.celsius],
        "frames": 0 if exam.frames is None else len(exam.frames),
        "probability": found.probability, "confidence": found.confidence,
        "side": {"right": found.right, "left": 1.0 - found.right}, "quadrant": best, "quadrants": found.quadrants,
        "point": {"column": across, "row": down, "within_mm": NEAR_MM},
        "depth_mm": asdict(found.depth), "diameter_mm": asdict(found.diameter), "heat_w_per_m3": asdict(found.heat),
        "region": {
            "share": share, "area_cm2": found.area_cm2,
            "depth_mm": [ends[bands[0]], ends[bands[-1] + 1]] if len(bands) else None,
        },
        "words": in_words(found, side, best, share) + lacking, "files": exam.files, "notes": exam.notes,
    }  # fmt: skip


def in_words(found: Posterior, side: str, quadrant: str, share: float) -> str:
    """One sentence: where a source would be, if there is one."""
    sure = max(found.right, 1.0 - found.right)
    covers = "all that is shown" if found.region.any(axis=0).all() else f"{found.area_cm2:.0f} cm2"
    if not found.locatable:
        likelier = f"it would rather be in the {side} breast ({sure:.0%}), and " if sure >= SURE_OF_SIDE else ""
        return (
            f"Not locatable: if there is a source, {likelier}its warmth cannot be told from the patches of this skin; "
            f"the {share:.0%} region covers {covers}."
        )
    return (
        f"If there is a source, it would be in the {side} breast ({sure:.0%}), {quadrant.split()[1]}, "
        f"{_span(found.depth)} mm deep and {_span(found.diameter)} mm wide; "
        f"the {share:.0%} region covers {covers}."
    )


def _span(quantity: Quantity) -> str:
    return f"{quantity.median:.0f} ({quantity.low:.0f} to {quantity.high:.0f})"


# --- the picture --------------------------------------------------------------


def picture_of(exam: Views, found: Posterior, most_bytes: int) -> bytes:
    """The thermogram with the region on it, and the same region on a diagram of the breasts."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    celsius = exam.celsius["Frontal"]
    rows, columns = (np.arange(each, dtype=np.float64) + 0.5 for each in (ROWS, COLUMNS))
    x, y = exam.chest.pixels_of(rows, columns)
    low, high = np.nanpercentile(celsius, [2, 99.8])
    height, width = celsius.shape
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.6))
        canvas = FigureCanvasAgg(figure)
        seen = figure.add_axes((0.01, 0.03, 0.44, 0.94))
        image = seen.imshow(celsius, cmap="viridis", vmin=low, vmax=max(high, low + 0.1), interpolation="nearest",
                            extent=(0, width, height, 0))  # fmt: skip
        figure.colorbar(image, cax=figure.add_axes((0.46, 0.1, 0.012, 0.8)), label="degC")
        _draw_region(seen, x, y, found)
        seen.plot(*exam.chest.pixels_of(found.row, found.column), "w+", markersize=10)
        seen.set(xlim=(0, width), ylim=(height, 0))
        diagram = figure.add_axes((0.56, 0.03, 0.43, 0.94))
        _draw_diagram(diagram, found)
        for axes in (seen, diagram):
            axes.grid(False)
            axes.set_xticks([])
            axes.set_yticks([])
        mark_sides(seen, "Frontal")
        figure.set_dpi(110)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    return encoded(pixels, most_bytes)


def _draw_region(axes: Axes, x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], found: Posterior) -> None:
    region = found.region.any(axis=0).astype(np.float64)
    if region.min() < region.max():
        axes.contour(x, y, region, levels=[0.5], colors=[AMBER if found.locatable else MUTED], linewidths=1.6)


def _draw_diagram(axes: Axes, found: Posterior) -> None:
    """Both breasts from the front with their quadrants, the region, and the probability within it."""
    from matplotlib.patches import Circle

    x, y = np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5
    veil = found.place * found.region.any(axis=0)
    axes.imshow(veil, cmap="Oranges", extent=(0, COLUMNS, ROWS, 0), vmin=0, vmax=max(float(veil.max()), 1e-9))
    for (row, column, radius), name in zip(found.breasts, ("right", "left"), strict=True):
        axes.add_patch(Circle((column, row), radius, fill=False, color=INK))
        axes.plot([column - radius, column + radius], [row, row], color=MUTED, linewidth=0.8)
        axes.plot([column, column], [row - radius, row + radius], color=MUTED, linewidth=0.8)
        axes.text(column, row - radius - 1.5, name, ha="center", va="bottom", color=INK)
    _draw_region(axes, x, y, found)
    axes.plot(found.column, found.row, "+", color=MODEL, markersize=10)
    middle = COLUMNS / 2
    axes.plot([middle - HALF_WIDTH] * 2, [0, ROWS], color=MUTED, linewidth=0.8, linestyle=":")
    axes.plot([middle + HALF_WIDTH] * 2, [0, ROWS], color=MUTED, linewidth=0.8, linestyle=":")
    axes.plot([middle - 25 / CELL_MM, middle + 25 / CELL_MM], [ROWS - 3] * 2, color=INK)
    axes.text(middle, ROWS - 4, "about 5 cm", ha="center", va="bottom", color=INK, fontsize=8)
    axes.set(xlim=(0, COLUMNS), ylim=(ROWS, 0))


def page_facts(answers: list[Json], pictures: Mapping[str, bytes], read_as: list[str], made: str) -> Json:
    """What the template ``locate.html`` is filled with."""
    return {
        "title": "Where a heat source would be", "answers": answers, "exam_pictures": pictures, "read_as": read_as,
        "made": made,
    }  # fmt: skip
