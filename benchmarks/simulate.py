"""How fast synthetic cohorts are made, and how far phantom frontals are from real ones.

python benchmarks/simulate.py                      speed: 8 patients, extrapolated to 40 and 300
python benchmarks/simulate.py --patients 300       the whole thing (15 GB)
python benchmarks/simulate.py --compare FOLDER     statistics beside those of real frontal matrices
"""

from __future__ import annotations

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from thermocancer.config import load_config
from thermocancer.config.sources import SimulateSection
from thermocancer.phantom.cohort import draw_cohort
from thermocancer.phantom.exam import make_scene, matrices
from thermocancer.progress import Silent
from thermocancer.stages import simulate
from thermocancer.thermal.reading import read_matrix
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace

Picture = NDArray[np.float64]
BANDS = ((1, 2), (2, 4), (4, 8), (8, 16), (16, 32))


def cpu_seconds() -> float:
    """Processor time of this process and of its workers."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def time_cohort(patients: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(options={"simulate.patients": patients}, workspace=Path(folder))
        wall, cpu = time.monotonic(), cpu_seconds()
        report = simulate.run(config, Workspace(Path(folder)), Silent())
        wall, cpu = time.monotonic() - wall, cpu_seconds() - cpu
    exams, count = report.figures["exams"], report.figures["matrices"]
    print(f"{patients} patients, {exams} exams, {count} matrices of 480x640: {wall:.1f} s, {cpu:.1f} s of processor")
    for goal, limit in ((40, 60), (300, 480)):
        print(f"  {goal} patients: {cpu / patients * goal / 2:.0f} s on two free cores (goal {limit} s)")


def best_of(work: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def time_writer() -> None:
    visit = draw_cohort(SimulateSection(patients=1, dynamic=False, missing_views=0.0), 0)[0]
    centi = next(matrices(make_scene(SimulateSection(dynamic=False), 0, visit))).centi

    def savetxt() -> None:
        np.savetxt(io.BytesIO(), centi / 100.0, fmt="%.2f")

    ours, theirs = best_of(lambda: format_matrix(centi), 20), best_of(savetxt, 2)
    print(f"text of one matrix: {ours * 1e3:.1f} ms, numpy.savetxt {theirs * 1e3:.0f} ms, {theirs / ours:.0f} times")


def statistics(picture: Picture) -> dict[str, float]:
    """Numbers of one frontal matrix in degC; the body is what is warmer than halfway from wall to skin."""
    body = picture > (np.percentile(picture, 2) + np.percentile(picture, 90)) / 2
    skin, half = picture[body], picture.shape[1] // 2
    left, right = picture[:, :half][body[:, :half]].mean(), picture[:, half:][body[:, half:]].mean()
    centre = tuple(slice(size // 5, 4 * size // 5) for size in picture.shape)
    slope = np.hypot(*np.gradient(picture))[centre]
    found = {
        "minimum": picture.min(), "maximum": picture.max(), "mean": picture.mean(), "sd": picture.std(),
        "left-right difference": abs(left - right), "share of skin": body.mean(),
        "wall, median": np.median(picture[~body]), "skin, median": np.median(skin), "skin, sd": skin.std(),
        "skin, 5th percentile": np.percentile(skin, 5), "skin, 95th percentile": np.percentile(skin, 95),
        "gradient, median": np.median(slope), "gradient, 90th percentile": np.percentile(slope, 90),
    }  # fmt: skip
    for low, high in BANDS:
        band = gaussian_filter(picture, low) - gaussian_filter(picture, high)
        found[f"spectrum, {low} to {high} pixels"] = band[centre].std()
    return {name: float(value) for name, value in found.items()}


def compare(folder: Path, count: int) -> None:
    real: dict[str, list[dict[str, float]]] = {}
    for path in sorted(folder.rglob("*.txt")):
        matrix = read_matrix(path)
        real.setdefault(matrix.layout, []).append(statistics(matrix.celsius))
    settings = SimulateSection(patients=count, dynamic=False, missing_views=0.0, second_visits=0.0)
    phantom = [statistics(each) for each in phantom_frontals(settings)]
    columns = {f"phantom ({count})": phantom, **{f"real {key} ({len(all_)})": all_ for key, all_ in real.items()}}
    print(f"{'':26}" + "".join(f"{name:>24}" for name in columns))
    for name in phantom[0]:
        print(f"{name:26}" + "".join(f"{spread(row[name] for row in rows):>24}" for rows in columns.values()))


def phantom_frontals(settings: SimulateSection) -> Iterable[Picture]:
    for visit in draw_cohort(settings, 0):
        scene = make_scene(settings, 0, visit)
        yield next(each.centi / 100.0 for each in matrices(scene) if each.view == "Frontal")


def spread(values: Iterable[float]) -> str:
    found = np.array(list(values))
    return f"{found.mean():.3f} +- {found.std():.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--compare", type=Path, help="folder of real frontal matrices")
    parser.add_argument("--frontals", type=int, default=10, help="phantoms to compare")
    arguments = parser.parse_args()
    if arguments.compare:
        compare(arguments.compare, arguments.frontals)
        return
    time_cohort(arguments.patients)
    time_writer()


if __name__ == "__main__":
    main()
