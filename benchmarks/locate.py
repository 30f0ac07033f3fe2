"""How far off ``locate`` is on phantoms it never saw, how often its region holds the truth, and when it abstains.

python benchmarks/locate.py -w FOLDER                 judge (the network is made there first if need be)
python benchmarks/locate.py -w FOLDER --page docs/locate.md   and write page and figures
The phantoms are those of ``simulate``: solved and seen one by one, 480x640, hundredths of a degree, other seeds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pickle
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config, load_config
from thermocancer.config.sources import SimulateSection
from thermocancer.evaluation.statistics.intervals import wilson
from thermocancer.evaluation.statistics.resampling import auc_of, brier_of
from thermocancer.files import fingerprint, write_bytes
from thermocancer.locate.baseline import Inversion
from thermocancer.locate.chest import COLUMNS, OBLIQUE, ROWS, Chest, course_weights, find_chest, shown
from thermocancer.locate.locator import Locator, make_locator
from thermocancer.locate.network import cell_of, inputs_of
from thermocancer.locate.posterior import BANDS as REGION_BANDS
from thermocancer.locate.posterior import SEEN, observers_auc, point
from thermocancer.locate.solving import RADII
from thermocancer.locate.training_set import RECIPE, phantoms
from thermocancer.phantom.anatomy import Body
from thermocancer.phantom.cohort import Visit, draw_cohort
from thermocancer.phantom.exam import Picture, make_scene
from thermocancer.progress import Silent
from thermocancer.workspace import Workspace

Array = npt.NDArray[np.float64]
SHAPE = (480, 640)
SETS = {"pet": (9002, 1.0), "layers-A-skin": (9001, 0.5), "layers-B": (9003, 0.15)}
"""Tissue sets that are judged, the seeds of their cohorts, and how large each is. ``layers-A-skin`` alone is taught."""

MAIN, DYNAMIC = "three static views", "three static views and 20 frames"
"""What the first tables are of."""

SICK, HEALTHY = 500, 100
PART = 40
SUPERPOSED = 200
"""Bodies, and sources, of ``--superposed``."""
WRONG_EMISSIVITY = 0.93
BANDS = (("to 20", 0, 20), ("20 to 25", 20, 25), ("25 to 30", 25, 30), ("30 to 36", 30, 36), ("from 36", 36, 99))
SIZES = (("to 15", 0, 15), ("15 to 20", 15, 20), ("from 20", 20, 99))


# --- phantoms -----------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """One exam as the network is shown it in each condition, and all that its truth needs."""

    inputs: dict[str, dict[str, npt.NDArray[np.float32]]]
    chests: dict[str, Chest]
    body: Body
    framing: tuple[float, float, float]
    present: bool
    truth: tuple[float, ...]
    warmth: Array


def judged(task: tuple[SimulateSection, int, Visit]) -> Judged:
    settings, seed, visit = task
    scene = make_scene(settings, seed, visit)
    views = {}
    for view in ("Frontal", *OBLIQUE):
        picture = Picture(scene, view, dynamic=view == "Frontal")
        views[view] = picture.static().celsius
        if view == "Frontal":
            frames = np.stack([picture.frame(number, number).celsius for number in range(settings.frames)])
    alone = {"Frontal": views["Frontal"]}
    wrong = {view: misread(each, visit.room_celsius) for view, each in views.items()}
    conditions: dict[str, tuple[dict[str, Array], Array | None]] = {
        "three static views": (views, None), "static frontal alone": (alone, None),
        "one oblique view missing": ({view: each for view, each in views.items() if view != OBLIQUE[1]}, None),
        "20 frames alone": ({}, frames), "static frontal and 20 frames": (alone, frames),
        "three static views and 20 frames": (views, frames), "wrong emissivity": (wrong, None),
        "wrong emissivity, 20 frames": (wrong, misread(frames, visit.room_celsius)),
    }  # fmt: skip
    last = course_weights(settings.frames)[2]
    fronts = {name: each.get("Frontal") for name, (each, _) in conditions.items()}
    seen = {name: np.tensordot(last, frames, axes=1) if front is None else front for name, front in fronts.items()}
    framing, body = scene.framing, scene.person.body
    truth, warmth = (0.0,) * 7, np.zeros(len(RADII))
    if visit.tumour is not None and visit.site is not None and scene.lesion is not None:
        azimuth, y = map(float, body.place_on(visit.site.side, np.array(visit.site.u), np.array(visit.site.v)))
        tumour, footprint = visit.tumour, scene.lesion.footprint
        truth = (azimuth, y, tumour.depth * 1e3, tumour.diameter * 1e3, tumour.heat, visit.site.side, footprint.peak)
        warmth = np.interp(RADII, footprint.radius, footprint.steady, right=0.0)
    return Judged(
        {name: shown(*each) for name, each in conditions.items()},
        {name: find_chest(each) for name, each in seen.items()},
        body, (framing.pitch, framing.left, framing.up), visit.tumour is not None, truth, warmth,
    )  # fmt: skip


def misread(celsius: Array, room: float) -> Array:
    """What a camera reads that is set to ``WRONG_EMISSIVITY`` instead of .98."""
    kelvin, reflected = (celsius + 273.15) ** 4, (room + 273.15) ** 4
    emitted = 0.98 * kelvin + (WRONG_EMISSIVITY - 0.98) * reflected
    return np.asarray((emitted / WRONG_EMISSIVITY) ** 0.25 - 273.15)


def make_exams(tissue: str, seed: int, sick: int, healthy: int, processes: int, kept: Path) -> list[Judged]:
    """The exams of a tissue; every ``PART`` of them is kept below ``kept``, so that a stopped call goes on."""
    settings = SimulateSection(
        patients=sick + healthy, sick_fraction=sick / (sick + healthy), shape=SHAPE, tissue=tissue,
        second_visits=0.0, missing_views=0.0, missing_frames=0.0, repeated_views=0.0,
    )  # fmt: skip
    tasks = [(settings, seed, visit) for visit in draw_cohort(settings, seed)]
    key, exams = fingerprint("judged", RECIPE, settings.model_dump(), seed)[:24], []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for start in range(0, len(tasks), PART):
            path = kept / f"judged-{key}-{start}.pickle"
            if not path.exists():
                made = list(pool.map(judged, tasks[start : start + PART], chunksize=4))
                write_bytes(path, pickle.dumps(made))
            exams += pickle.loads(path.read_bytes())
    return exams


# --- errors in millimetres of the true body -----------------------------------


def point_on(body: Body, azimuth: float, y: float, depth: float) -> tuple[Array, Array]:
    """The skin at a place, and the point so deep below it, in mm."""

    def skin(a: float, h: float) -> Array:
        radius = float(body.radius(np.array([a]), np.array([[h]]))[0, 0])
        return np.array([radius * np.sin(a), h, radius * np.cos(a)])

    here = skin(azimuth, y)
    normal = np.cross(skin(azimuth, y + 2) - skin(azimuth, y - 2), skin(azimuth + 0.02, y) - skin(azimuth - 0.02, y))
    normal /= np.linalg.norm(normal)
    if normal @ np.array([np.sin(azimuth), 0.0, np.cos(azimuth)]) < 0:
        normal = -normal
    return here, here - depth * normal


def azimuth_seen(body: Body, x: float, y: float) -> float:
    """Of the foremost skin that a frontal camera sees ``x`` mm left of the midline at height ``y``."""
    azimuth = np.linspace(-1.6, 1.6, 1601)
    radius = body.radius(azimuth, np.array([[y]]))[0]
    off = np.abs(radius * np.sin(azimuth) - x)
    near = off <= off.min() + 1.0
    return float(azimuth[near][np.argmax((radius * np.cos(azimuth))[near])])


def errors_of(exam: Judged, condition: str, row: float, column: float, depth: float) -> tuple[float, float, float]:
    """Off by: mm along the skin (straight), mm of depth, mm in space."""
    pitch, left, up = exam.framing
    across, down = exam.chests[condition].pixels_of(row, column)
    x, y = left + (across - SHAPE[1] / 2) * pitch, up + (SHAPE[0] / 2 - down) * pitch
    there, below = point_on(exam.body, azimuth_seen(exam.body, x, y), y, depth)
    true_there, true_below = point_on(exam.body, exam.truth[0], exam.truth[1], exam.truth[2])
    along, in_space = (float(np.linalg.norm(each)) for each in (there - true_there, below - true_below))
    return along, abs(depth - exam.truth[2]), in_space


def cell_of_truth(exam: Judged, condition: str) -> tuple[int, int]:
    pitch, left, up = exam.framing
    there, _ = point_on(exam.body, exam.truth[0], exam.truth[1], 0.0)
    column, row = (there[0] - left) / pitch + SHAPE[1] / 2, (up - there[1]) / pitch + SHAPE[0] / 2
    r, c = exam.chests[condition].cells_of(np.array(column), np.array(row))
    return int(np.clip(r, 0, ROWS - 1)), int(np.clip(c, 0, COLUMNS - 1))


# --- judging ------------------------------------------------------------------

Rows = npt.NDArray[np.bool_]
Cuts = Sequence[tuple[str, float, float]]
Table = dict[str, Array]
"""Columns of one row an exam."""


def judge(exams: list[Judged], condition: str, locator: Locator, inversion: Inversion | None) -> Table:
    """What the network says of every exam in a condition, beside the truth; ``inversion`` adds the simple rules."""
    rows: list[dict[str, float]] = []
    middle = float(np.median([each.truth[2] for each in exams if each.present]))
    for start in range(0, len(exams), 100):
        part = exams[start : start + 100]
        answers = locator.locate([each.inputs[condition] for each in part])
        for exam, found in zip(part, answers, strict=True):
            row: dict[str, float] = {
                "present": exam.present, "probability": found.probability, "confidence": found.confidence,
                "locatable": found.locatable, "area_cm2": found.area_cm2, "predicted_depth": found.depth.median,
            }  # fmt: skip
            row |= zip(("depth", "diameter", "heat", "side", "peak"), exam.truth[2:], strict=True)
            if exam.present:
                places = {"": (found.row, found.column, found.depth.median)}
                if inversion is not None:
                    frontal = exam.inputs[condition]["frontal"][0]
                    joint, _ = inversion.posterior(frontal)
                    places["inversion "] = (*point(joint.sum(axis=0))[:2], inversion.depth_of(joint.sum(axis=(1, 2))))
                    for name, against in (("hottest ", False), ("warmer ", True)):
                        places[name] = (*inversion.hottest(frontal, against_other_side=against), middle)
                for name, (r, c, d) in places.items():
                    off = errors_of(exam, condition, r, c, d)
                    row |= {f"{name}place": off[0], f"{name}depth_error": off[1], f"{name}space": off[2]}
                r, c = cell_of_truth(exam, condition)
                band = int(np.digitize(exam.truth[2], REGION_BANDS))
                row["covered"] = bool(found.region[band, r, c])
                row["covered_place"] = bool(found.region[:, r, c].any())
                row["right_side"] = (found.right >= 0.5) == (exam.truth[5] == 0)
            rows.append({name: float(value) for name, value in row.items()})
    names = dict.fromkeys(name for row in rows for name in row)
    table = {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
    here = table["present"] > 0
    table["auc"] = np.full(len(here), np.nan)
    table["auc"][here] = observers_auc(np.array([each.warmth for each in exams if each.present]))
    return table


def median_of(values: Array, rng: np.random.Generator) -> str:
    """Median and its 95 % bootstrap interval."""
    values = values[~np.isnan(values)]
    if len(values) < 5:
        return f"– ({len(values)})"
    drawn = np.median(values[rng.integers(0, len(values), (2000, len(values)))], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{np.median(values):.1f} [{low:.1f}, {high:.1f}]"


def medians(table: Table, rows: Rows, rng: np.random.Generator, *names: str) -> list[str]:
    """``median_of`` some rows of each of the columns."""
    return [median_of(table[name][rows], rng) for name in names]


def share_of(truth: Array) -> str:
    """A share in percent with Wilson's interval."""
    truth = truth[~np.isnan(truth)]
    if not len(truth):
        return "–"
    found = wilson(float(truth.sum()), len(truth))
    return f"{100 * float(truth.mean()):.1f} [{100 * (found.low or 0):.1f}, {100 * (found.high or 0):.1f}]"


def ranked(table: Table) -> float:
    """AUC of the probability that there is a source."""
    here = table["present"].astype(np.int64)
    return float(auc_of(np.ones((1, len(here))), here, table["probability"])[0])


def table_of(names: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table of the page, with an empty line after it."""
    head, *body = (f"| {' | '.join(map(str, each))} |" for each in (names, *rows))
    return [head, "|---" * len(names) + "|", *body, ""]


def lines_of(tables: dict[tuple[str, str], Table], below: float) -> list[str]:
    """The page's tables."""
    rng = np.random.default_rng(0)
    main = {key: tables[key] for key in itertools.product(SETS, (MAIN, DYNAMIC)) if key in tables}
    above = {key: t["auc"] >= below for key, t in tables.items()}
    under = {key: t["auc"] < below for key, t in tables.items()}
    lines = table_of(
        ("tissue set: seen", "above the curve", "place, mm", "depth, mm", "in space, mm", "right side, %",
         "below: called not locatable, %", "above: called not locatable, %", "region holds the truth, %"),
        [
            (": ".join(key), f"{int(above[key].sum())} of {int((t['present'] > 0).sum())}",
             *medians(t, above[key], rng, "place", "depth_error", "space"), share_of(t["right_side"][above[key]]),
             share_of(1 - t["locatable"][under[key]]), share_of(1 - t["locatable"][above[key]]), share_of(t["covered"]))
            for key, t in main.items()
        ],
    )  # fmt: skip
    told = {key: (t["locatable"] > 0) & (t["present"] > 0) for key, t in main.items()}
    lines += ["Of the sources that it calls locatable:", "", *table_of(
        ("tissue set: seen", "sources", "place, mm", "depth, mm", "in space, mm", "within 10 mm in place, %",
         "healthy called locatable, %"),
        [
            (": ".join(key), int(told[key].sum()), *medians(t, told[key], rng, "place", "depth_error", "space"),
             share_of((t["place"][told[key]] <= 10).astype(np.float64)), share_of(t["locatable"][t["present"] == 0]))
            for key, t in main.items()
        ],
    )]  # fmt: skip
    for title, cuts in (("depth", BANDS), ("diameter", SIZES)):
        lines += by_size(dict(itertools.islice(main.items(), 4)), above, title, cuts, rng)
    lines += ["Against simple rules: place; in space (mm), sources above the curve.", "", *table_of(
        ("tissue set", "network", "inversion", "warmer than its mirror image", "hottest spot"),
        [
            (key[0], *("; ".join(medians(t, above[key], rng, f"{rule}place", f"{rule}space"))
                       for rule in ("", "inversion ", "warmer ", "hottest ")))
            for key, t in tables.items() if key[1] == MAIN and key[0] != "layers-B"
        ],
    )]  # fmt: skip
    return [*lines, "What a wrong or missing input costs (sources above the curve; coverage of all):", "", *table_of(
        ("tissue set", "condition", "place, mm", "in space, mm", "coverage, %", "below: not locatable, %",
         "AUC of any source"),
        [
            (*key, *medians(t, above[key], rng, "place", "space"), share_of(t["covered"]),
             share_of(1 - t["locatable"][under[key]]), f"{ranked(t):.3f}")
            for key, t in tables.items()
        ],
    )]  # fmt: skip


def by_size(
    tables: dict[tuple[str, str], Table], above: dict[tuple[str, str], Rows], title: str, cuts: Cuts,
    rng: np.random.Generator,
) -> list[str]:  # fmt: skip
    """The table of sources between ``cuts`` of their depth or diameter."""
    rows = []
    for (key, t), (name, low, high) in itertools.product(tables.items(), cuts):
        here = (t[title] >= low) & (t[title] < high) & (t["present"] > 0)
        chosen = here & above[key]
        errors = medians(t, chosen, rng, "place", "space")
        covered = (share_of(t[each][here]) for each in ("covered", "covered_place"))
        rows.append((": ".join(key), name, f"{int(chosen.sum())} of {int(here.sum())}", *errors, *covered))
    names = ("above of all", "place, mm", "in space, mm", "coverage, %", "coverage of the place alone, %")
    words = f"By {title} (mm): errors of sources above the curve, coverage of all sources."
    return [words, "", *table_of(("tissue set: seen", title, *names), rows)]


def superposed_lines(locator: Locator, config: Config, cache: Path, sets: Sequence[str], count: int) -> list[str]:
    """Coverage by depth band on many more sources: superposed on bodies of other seeds, as ``training_set`` does."""
    rows = []
    for tissue in sets:
        few = {"tissues": (tissue,), "calibration": SUPERPOSED, "sources": 2 * SUPERPOSED}
        made = phantoms(config.locate.model_copy(update=few), SETS[tissue][0], cache, Silent(), taught=False)
        for seen in SEEN:
            exams = made.exams(np.random.default_rng(7), count, sick=1.0, unanswered=0.0, dynamic=seen == "dynamic")
            exams.oblique[np.full(count, seen == "frontal")] = 0.0
            band, cell = np.digitize(exams.depth, REGION_BANDS), cell_of(exams.place)
            held = np.zeros(count)
            for start in range(0, count, 100):
                part = slice(start, start + 100)
                answers = locator.posteriors({name: each[part] for name, each in inputs_of(exams).items()})
                regions = np.array([each.region.reshape(len(REGION_BANDS) + 1, -1) for each in answers])
                held[part] = regions[np.arange(len(answers)), band[part], cell[part]]
            rows.append((tissue, seen, count, *(share_of(held[band == each]) for each in range(len(REGION_BANDS) + 1))))
    return table_of(("tissue set", "seen", "sources", *(name for name, _, _ in BANDS)), rows)


def calibration_lines(table: Table) -> list[str]:
    """Existence: what was said against what was so, each healthy exam weighted so that half have a source."""
    here = table["present"] > 0
    weight = np.where(here, 0.5 / here.sum(), 0.5 / (~here).sum())
    rows = []
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.001)):
        inside = (table["probability"] >= low) & (table["probability"] < high)
        share = float(weight[inside & here].sum() / max(weight[inside].sum(), 1e-12))
        rows.append((f"{low:.1f} to {min(high, 1.0):.1f}", int(inside.sum()), f"{share:.2f}"))
    brier = float(brier_of(weight[None], here.astype(np.int64), table["probability"])[0])
    lines = table_of(("said", "exams", "sources among them (as if half had one)"), rows)
    return [*lines, f"Brier score {brier:.3f} (.25 knows nothing)."]


# --- the page -----------------------------------------------------------------


def figure_of(tables: dict[tuple[str, str], Table], below: float, path: Path) -> None:
    """Error and abstention against the ideal observer's AUC, and error against depth, on both sets."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    by_auc, abstains, by_depth = figure.subplots(1, 3)
    edges = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0001])
    places = np.arange(len(edges) - 1)
    shown_as = [each for each in tables if each[1] in (MAIN, DYNAMIC) and each[0] != "layers-B"]
    for number, key in enumerate(shown_as):
        t = tables[key]
        here = t["present"] > 0
        parts = [here & (t["auc"] >= low) & (t["auc"] < high) for low, high in itertools.pairwise(edges)]
        words = f"{key[0]}, {'static' if key[1] == MAIN else 'and 20 frames'}"
        style = {"color": f"C{number}", "marker": "o", "label": words}
        by_auc.plot(places, [np.median(t["space"][each]) if each.sum() > 4 else np.nan for each in parts], **style)
        abstains.plot(places, [1 - t["locatable"][each].mean() if each.any() else np.nan for each in parts], **style)
        above = here & (t["auc"] >= below)
        by_depth.scatter(t["depth"][here & ~above], t["space"][here & ~above], s=5, color="0.75")
        by_depth.scatter(t["depth"][above], t["space"][above], s=9, color=f"C{number}")
    names = [f"{low:g}–{min(high, 1):g}" for low, high in itertools.pairwise(edges)]
    for axes in (by_auc, abstains):
        axes.set_xticks(places, names, rotation=45)
        axes.axvline(list(edges).index(below) - 0.5, color="black", linestyle=":")
        axes.set_xlabel("AUC of the ideal observer, told the place")
    by_auc.set(ylabel="median error in space, mm", ylim=(0, None))
    abstains.set(ylabel="share called not locatable", ylim=(0, 1.02))
    by_depth.set(xlabel="depth, mm (grey: below the curve)", ylabel="error in space, mm", ylim=(0, 120))
    by_auc.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="write the tables between its marks, and the figure beside it")
    parser.add_argument("--exams", type=int, nargs="+", default=[SICK], help="sources a set; healthy ones are a fifth")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--superposed", type=int, default=0, help="only coverage by depth, on so many such sources")
    arguments = parser.parse_args()
    config, workspace = load_config(workspace=arguments.workspace), Workspace(arguments.workspace)
    locator = make_locator(config, workspace, Silent())
    if arguments.superposed:
        print("\n".join(superposed_lines(locator, config, workspace.cache, arguments.sets, arguments.superposed)))
        return
    seed = config.locate.seed
    inversion = Inversion.of(phantoms(config.locate, seed, workspace.cache, Silent(), taught=True), seed)
    tables: dict[tuple[str, str], Table] = {}
    asked = arguments.exams * (len(arguments.sets) if len(arguments.exams) == 1 else 1)
    for tissue, most in zip(arguments.sets, asked, strict=True):
        drawn, share = SETS[tissue]
        few = round(share * most)
        exams = make_exams(tissue, drawn, few, few * HEALTHY // SICK, arguments.processes, workspace.cache / "locate")
        conditions = list(exams[0].inputs) if tissue != "layers-B" else [MAIN, DYNAMIC]
        for condition in conditions:
            simple = inversion if condition == MAIN else None
            tables[tissue, condition] = judge(exams, condition, locator, simple)
    first = arguments.sets[0]
    lines = [*lines_of(tables, config.locate.below_curve), f"The probability of any source, `{first}`:", "",
             *calibration_lines(tables[first, MAIN])]  # fmt: skip
    print("\n".join(lines))
    if arguments.page:
        before, rest = arguments.page.read_text("utf-8").split("<!-- measured -->")
        chosen = f"--sets {' '.join(arguments.sets)} --exams {' '.join(map(str, arguments.exams))}"
        command = f"`python benchmarks/locate.py -w FOLDER --page docs/locate.md {chosen}`"
        picture = arguments.page.parent / "img" / "locate.png"
        figure_of(tables, config.locate.below_curve, picture)
        inside = [command, "", "![Error and abstention](img/locate.png)", "", *lines]
        marked = "\n".join(["<!-- measured -->", *inside, "<!-- /measured -->"])
        arguments.page.write_text(before + marked + rest.split("<!-- /measured -->")[1], "utf-8")


if __name__ == "__main__":
    main()
