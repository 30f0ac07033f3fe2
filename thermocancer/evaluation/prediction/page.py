"""The answers as one self-contained page: what the run is worth, all exams in one table, then one exam a section."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import ArrayCohort, Cohort, FloatArray, Rgb
from thermocancer.evaluation.explain.occlusion import LOST, Occlusion, occlude
from thermocancer.evaluation.prediction.gathering import NewExam
from thermocancer.evaluation.prediction.input import as_trained, cohort_of, degrees_of
from thermocancer.evaluation.prediction.scoring import LoadedRun
from thermocancer.evaluation.report.figures import STYLE, mark_sides
from thermocancer.evaluation.report.page import Words, render_page
from thermocancer.files import Json
from thermocancer.runs.run import Run
from thermocancer.thermal.regions import filled, torso_mask

ONE_VIEW, SEVERAL_VIEWS = (6, 8), (4, 4)
"""Patches of an occlusion map in ``predict``: coarser with several views, so that the answer comes in seconds."""

PICTURE_BYTES = 1_300_000
"""All pictures of a page together; as text in the page they take a third more, so that it stays below 2 MB."""

MOST_PICTURES = 250
"""Beyond that each exam shows its first view alone."""

# --- all exams in one table -------------------------------------------------------------------------------------------

COLUMNS = ("exam", "status", "score", "low", "high", "threshold", "decision", "in_training", "remark")
OF_SERIES = "bids_ce"
"""One more of series of images: the entity of BIDS for a contrast agent; T1 MRI uses gadolinium, pixels do not say."""


def overview(answers: Sequence[Json]) -> list[Json]:
    """One row an exam, by ``COLUMNS``; None where there is nothing to say."""
    rows = []
    for each in answers:
        met, interval = each.get("in_training") or {}, each.get("interval") or {}
        remark = each["reason"] or each.get("note", "")
        values = (
            each["exam"], each["status"], each.get("score"), interval.get("low"), interval.get("high"),
            each.get("threshold"), each.get("decision"), met.get("status"), remark,
        )  # fmt: skip
        own = {OF_SERIES: each[OF_SERIES]} if OF_SERIES in each else {}
        rows.append(dict(zip(COLUMNS, values, strict=True)) | own)
    return rows


def overview_csv(rows: Sequence[Json]) -> str:
    """The overview as CSV."""
    text = io.StringIO()
    columns = (*COLUMNS, OF_SERIES) if any(OF_SERIES in row for row in rows) else COLUMNS
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def prediction_page(
    answers: Sequence[Json], pictures: Mapping[str, Sequence[Json]], run: Run, worth: Json, read_as: Sequence[str]
) -> str:
    """The page for people."""
    facts = {
        "title": f"Scores by run {run.name}", "answers": answers, "exam_pictures": pictures, "run": run.name,
        "model": run.manifest.model, "leaks": list(run.manifest.leaks), "worth": worth, "read_as": read_as,
        "words": (words := Words.of(run)), "notice": words.notice,
        "overview": overview(answers), "threshold_source": run.facts().threshold_source,
    }  # fmt: skip
    return render_page("predict.html", facts, {})


# --- pictures ---------------------------------------------------------------------------------------------------------


def budget_of(pictures: int) -> int:
    """Bytes that one picture may take where the page has so many."""
    return PICTURE_BYTES // max(1, pictures)


def pictures_of(exam: NewExam, loaded: LoadedRun, explained: Sequence[str], most_bytes: int) -> list[Json]:
    """A picture a view: the thermogram with its colours in degC and, where ``explained``, an occlusion map beside it.

    All views of an exam share one scale of degrees and one of effects.
    """
    files = exam.view_files() or dict(zip(["Frontal"], exam.frame_files().values(), strict=False))
    degrees = {view: np.asarray(file.celsius, np.float64) for view, file in files.items() if file.celsius is not None}
    maps = _maps(exam, loaded, explained) if len(degrees) == len(files) else {}
    effects = {view: maps[view].full_size(_shape(degrees[view])) for view in maps}
    strongest = max((float(np.abs(each).max()) for each in effects.values()), default=0.0)
    every = np.concatenate([filled(each).ravel()[::7] for each in degrees.values()] or [np.zeros(1)])
    low, high = (float(each) for each in np.percentile(every, [2, 99.8]))
    found = []
    for view, file in files.items():
        if view not in degrees:
            words = f"{view}, as the run reads it"
            picture = encoded(np.asarray(file.pixels), most_bytes)
        else:
            seen = filled(degrees[view])
            words = f"{view}, {seen.min():.1f} to {seen.max():.1f} degC"
            picture = _drawn(seen, effects.get(view), view, (low, high), strongest, most_bytes)
        alternative = f"Thermogram, {view}, occlusion" if view in effects else f"Thermogram, {words}"
        found.append({"picture": picture, "alternative": alternative, "caption": words})
    return found


def _maps(exam: NewExam, loaded: LoadedRun, explained: Sequence[str]) -> dict[str, Occlusion]:
    """Occlusion maps of some views, by view."""
    if not explained:
        return {}
    coloured = loaded.wanted != "temperatures"
    like = cohort_of(exam, loaded.whole(exam), loaded.shape, dynamic=False)
    cohort = degrees_of(exam, None if coloured else loaded.shape, like)
    grid = ONE_VIEW if len(explained) == 1 else SEVERAL_VIEWS
    if cohort is None:
        return {}

    def seen(each: ArrayCohort) -> Cohort:
        return as_trained(each, loaded.config, loaded.shape)

    return {view: occlude(loaded.fitted, cohort, 0, view, grid=grid, as_trained=seen) for view in explained}


def _shape(celsius: FloatArray) -> tuple[int, int]:
    return celsius.shape[0], celsius.shape[1]


def _drawn(
    celsius: FloatArray, effect: FloatArray | None, view: str, warm: tuple[float, float], strongest: float,
    most_bytes: int,
) -> bytes:  # fmt: skip
    """The thermogram in colours with its bar; beside it in grey with the effect over the body, and the effect's bar."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, TwoSlopeNorm
    from matplotlib.figure import Figure

    panels = 1 if effect is None else 2
    step = max(1, celsius.shape[1] // 320)
    scale = Normalize(warm[0], max(warm[1], warm[0] + 0.1))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5 * panels, 3.2))
        canvas = FigureCanvasAgg(figure)
        # places given, not found: a layout by constraints costs as much as the rest of the drawing
        axes = figure.add_axes((0.01, 0.02, 0.79 / panels, 0.96))
        image = axes.imshow(celsius[::step, ::step], cmap="viridis", norm=scale, interpolation="nearest")
        shown = [axes]
        figure.colorbar(image, cax=figure.add_axes((0.825 / panels, 0.1, 0.025 / panels, 0.8)), label="degC")
        if effect is not None:
            beside = figure.add_axes((0.5, 0.02, 0.375, 0.96))
            reach = TwoSlopeNorm(0, -max(strongest, 1e-6), max(strongest, 1e-6))
            beside.imshow(celsius[::step, ::step], cmap="gray", norm=scale, interpolation="nearest")
            part = effect[::step, ::step]
            veil = (
                np.clip(np.abs(part) / max(strongest, 1e-6), 0, 1) ** 0.7 * 0.65 * torso_mask(celsius)[::step, ::step]
            )
            beside.imshow(part, cmap="RdBu_r", norm=reach, alpha=veil, interpolation="nearest")
            bar = figure.add_axes((0.882, 0.1, 0.0125, 0.8))
            solid = ScalarMappable(reach, "RdBu_r")
            ticks = [-max(strongest, 1e-6), 0, max(strongest, 1e-6)]
            figure.colorbar(solid, cax=bar, label=LOST, ticks=ticks, format="%.1g")
            shown.append(beside)
        for each in shown:
            each.grid(False)
            each.set_xticks([])
            each.set_yticks([])
            mark_sides(each, view)
        figure.set_dpi(110)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    return encoded(pixels, most_bytes)


SMALLER = ((1.0, 85), (1.0, 65), (0.8, 60), (0.65, 50), (0.5, 45), (0.4, 35), (0.3, 30))
"""How pictures give way: part of the size, and quality of WebP."""


def encoded(pixels: Rgb | npt.NDArray[np.generic], most_bytes: int) -> bytes:
    """RGB pixels as WebP of at most so many bytes, or as small as it gets."""
    import cv2

    content = b""
    for size, quality in SMALLER:
        small = cv2.resize(
            np.ascontiguousarray(pixels[..., ::-1]), None, fx=size, fy=size, interpolation=cv2.INTER_AREA
        )
        content = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(content) <= most_bytes:
            break
    return content
