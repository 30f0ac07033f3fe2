"""What ``audit SCORES`` finds, does not find, and takes, in tables whose truth is known.

    python benchmarks/audit_scores.py                      planted shortcuts, the demos of two other tools, seconds
    python benchmarks/audit_scores.py --studies 100        more studies a row

1. Planted: a date (rising, or sick in the middle third), a site, a camera, an age; and nothing. 160 units.
2. ``sitecheck`` (of which ``fiftyone-shortcut-risk`` is a port by its author) and ``medaudit``: the cohorts of
   their own demos, re-created from the descriptions, each with the score of a ridge on its features in grouped folds.
3. Seconds for 10,000 rows, with and without 512 features, and until the program has started.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from thermocancer.evaluation.audit.held_out import read_features
from thermocancer.evaluation.audit.of_scores import audit_scores
from thermocancer.evaluation.audit.score_tables import read_scores
from thermocancer.evaluation.statistics.intervals import wilson
from thermocancer.files import Json

Array = npt.NDArray[np.float64]
Columns = Mapping[str, Sequence[object]]

PLANTS = ("date rising", "date middle third", "site", "camera", "age")
FIRST = date(2012, 1, 1)


def audited(columns: Columns, features: Array | None = None, *, bootstrap: int = 100) -> Json:
    """The audit of a table with these columns."""
    with TemporaryDirectory() as folder:
        scores, array = Path(folder) / "scores.csv", Path(folder) / "features.npy"
        with open(scores, "w", newline="") as handle:
            csv.writer(handle).writerows([list(columns), *zip(*columns.values(), strict=True)])
        table = read_scores(scores, columns={})
        if features is not None:
            np.save(array, features)
        own = None if features is None else read_features(array, table)
        return audit_scores(table, confidence=0.95, bootstrap=bootstrap, seed=0, features=own)


# --- planted shortcuts ------------------------------------------------------------------------------------------------


def planted(tie: str, seed: int, n: int = 160) -> Columns:
    """Units with four facts, of which one may be tied to the label (an AUC of about .8 to .9)."""
    random = np.random.default_rng([seed, 77])
    label = (np.arange(n) % 5 < 2).astype(int)
    days, age = random.integers(0, 1500, n), random.normal(55, 12, n).round()
    site, camera = random.choice(["north", "south", "west"], n), random.integers(1, 9, n)
    if tie == "date rising":
        days = days + 700 * label
    elif tie == "date middle third":
        days = np.where(label == 1, random.integers(500, 1000, n), days)
    elif tie == "site":
        site = np.where((label == 1) & (random.random(n) < 0.7), "north", site)
    elif tie == "camera":
        camera = camera + 3 * label
    elif tie == "age":
        age = age + 15 * label
    score = 1 / (1 + np.exp(-random.normal(label * 1.0, 1)))
    return {
        "unit": [f"u{row}" for row in range(n)], "label": label.tolist(), "score": score.round(6).tolist(),
        "fold": random.integers(1, 5, n).tolist(), "date": [FIRST + timedelta(int(day)) for day in days],
        "site": site.tolist(), "camera": camera.tolist(), "age": age.tolist(),
    }  # fmt: skip


def rates(studies: int) -> None:
    for tie in (*PLANTS, ""):
        right = other = 0
        for seed in range(studies):
            found = audited(planted(tie, seed))
            named = [each["variable"] for each in found["verdict"]["shortcuts"]]
            hit = bool(tie) and any(f"`{tie.split()[0]}`" in each for each in named)
            right, other = right + hit, other + (found["exit_code"] == 6 and not hit)
        share = wilson(right if tie else studies - other, studies)
        words = (
            f"{tie}: found {right} of {studies}" if tie else f"nothing planted: silent {studies - other} of {studies}"
        )
        print(f"| {words} | {share.value:.2f} [{share.low:.2f}, {share.high:.2f}] |", flush=True)


# --- the demos of two other tools -------------------------------------------------------------------------------------

SITES, EACH, WIDE = 8, 70, 24


def sites(kind: str) -> tuple[Columns, Array]:
    """The four cohorts by which ``sitecheck demo`` shows its verdicts: eight hospitals of 70 patients, 24 features."""
    random = np.random.default_rng(1234)
    place = np.repeat(np.arange(SITES), EACH)
    label = random.integers(0, 2, len(place))
    if kind == "confounded":  # nine of ten are sick in half of the hospitals, one of ten in the others
        label = (random.random(len(place)) < np.where(place < SITES // 2, 0.9, 0.1)).astype(int)
    axes = np.linalg.qr(random.normal(size=(WIDE, WIDE)))[0]
    features = random.normal(scale=1.0 if kind == "clean" else 0.5, size=(len(place), WIDE))
    if kind == "clean":
        features += 1.2 * label[:, None] * random.normal(size=WIDE)
    elif kind == "site signal unexploited":
        features += 1.5 * label[:, None] * axes[:, 0] + 2.0 * axes.T[1 + place]
    elif kind == "confounded":
        features += 5.0 * axes.T[1 + place]
    else:  # inflated: each hospital has an axis of its own, and tells the label along the next one's
        features += 5.0 * axes.T[place] + 3.0 * label[:, None] * axes.T[place + 1]
    return _with_scores(
        label, np.arange(len(place)), {"site": [f"H{each}" for each in place]}, features, random
    ), features


def modes(kind: str) -> tuple[Columns, Array]:
    """The four cases of ``medaudit``'s demo: patients of three images; blue light where it is malignant."""
    seed, patients = {"A": (3, 300), "B": (3, 300), "C": (7, 160), "D": (11, 60)}[kind]
    random = np.random.default_rng(seed)
    sick = (random.random(patients) < 0.5).astype(int)
    blue = sick if kind == "D" else (random.random(patients) < np.where(sick == 1, 0.85, 0.15)).astype(int)
    label, mode, patient = (np.repeat(each, 3) for each in (sick, blue, np.arange(patients)))
    features = random.normal(size=(len(label), {"C": 64, "D": 32}.get(kind, 2)))
    if kind in "AB":  # the class alone, or the mode as well
        features += np.column_stack([6.0 * label, (1.2 if kind == "B" else 0.0) * mode])
    elif kind == "C":
        features[:, :2] += 4.0 * np.column_stack([mode, label])
    facts: dict[str, list[object]] = {"mode": ["blue" if each else "white" for each in mode]}
    columns = dict(_with_scores(label, patient, facts, features, random))
    if kind == "D":  # their split of record, in which an image of the first patient has strayed into the test part
        columns["fold"] = ["test" if each >= 45 or not row else "train" for row, each in enumerate(patient)]
    return columns, features


def _with_scores(
    label: npt.NDArray[np.int64], patient: npt.NDArray[np.int64], facts: Columns, features: Array,
    random: np.random.Generator,
) -> Columns:  # fmt: skip
    """A table with the scores of a ridge on the features, in five folds by patient."""
    fold = random.integers(0, 5, patient.max() + 1)[patient]
    score = np.zeros(len(label))
    for number in range(5):
        train, test = fold != number, fold == number
        mean, level = features[train].mean(axis=0), label[train].mean()
        own = features[train] - mean
        weights = np.linalg.solve(
            own.T @ own + features.shape[1] * np.eye(features.shape[1]), own.T @ (label[train] - level)
        )
        score[test] = np.clip(level + (features[test] - mean) @ weights, 0, 1)
    return {"unit": [f"i{row}" for row in range(len(label))], "patient": patient.tolist(), "label": label.tolist(),
            "score": score.tolist(), "fold": (fold + 1).tolist(), **facts}  # fmt: skip


DEMOS: tuple[tuple[str, str, Callable[[str], tuple[Columns, Array]], str], ...] = (
    ("sitecheck", "clean", sites, "CLEAN"),
    ("sitecheck", "site signal unexploited", sites, "SITE_SIGNAL_UNEXPLOITED"),
    ("sitecheck", "inflated", sites, "INFLATED"),
    ("sitecheck", "confounded", sites, "CONFOUNDED"),
    ("medaudit", "A", modes, "AMBIGUOUS"),
    ("medaudit", "B", modes, "SHORTCUT ENCODED"),
    ("medaudit", "C", modes, "SHORTCUT ENCODED"),
    ("medaudit", "D", modes, "group leakage"),
)


def demos() -> None:
    print("| demo | its verdict | exit | read from the fact alone | told within a class | loss untaught | leaks |")
    print("|---|---|---|---|---|---|---|")
    for tool, kind, made, verdict in DEMOS:
        columns, features = made(kind)
        found = audited(columns, features)
        read = [f"{each['auc']['value']:.3f}" for each in found["verdict"]["shortcuts"]]
        told = [f"{each['among']} {each['value']:.3f}" for each in found["encoded"] if each["p_holm"] < 0.05]
        lost = [f"{each['value']:.3f} ({each['low']:.3f} to {each['high']:.3f})" for each in found["dropped"]]
        leaks = [each["name"] for each in found["checks"] if each["passed"] is False]
        cells = (", ".join(each) or "no" for each in (read, told, lost, leaks))
        print(f"| {tool} {kind} | {verdict} | {found['exit_code']} | {' | '.join(cells)} |", flush=True)


# --- seconds ----------------------------------------------------------------------------------------------------------


def seconds(rows: int, width: int) -> None:
    """Seconds of the command, best of three: ``--help``, few rows, many. The clock counts whatever else runs."""
    random = np.random.default_rng(0)
    columns = {name: list(each) for name, each in planted("site", 0, rows).items()}
    with TemporaryDirectory() as folder:
        few, many, array = (Path(folder) / name for name in ("few.csv", "many.csv", "features.npy"))
        for path, most in ((few, 40), (many, rows)):
            with open(path, "w", newline="") as handle:
                lines = zip(*(each[:most] for each in columns.values()), strict=True)
                csv.writer(handle).writerows([list(columns), *lines])
        np.save(array, random.normal(size=(rows, width)).astype(np.float32))
        for words, arguments in (
            ("start (--help)", ["--help"]), ("40 rows", [str(few)]), (f"{rows} rows", [str(many)]),
            (f"{rows} rows, {width} features", [str(many), "--features", str(array)]),
        ):  # fmt: skip
            used, took = [], []
            for _ in range(3):
                before, began = getrusage(RUSAGE_CHILDREN), time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "thermocancer", "audit", *arguments], capture_output=True, check=False
                )
                after = getrusage(RUSAGE_CHILDREN)
                took.append(time.perf_counter() - began)
                used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            print(f"| {words} | {min(used):.2f} s of processor, {min(took):.2f} s by the clock |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=5, help="a row of planted shortcuts")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--only", choices=("planted", "demos", "seconds"))
    asked = parser.parse_args()
    if asked.only in (None, "planted"):
        rates(asked.studies)
    if asked.only in (None, "demos"):
        demos()
    if asked.only in (None, "seconds"):
        seconds(asked.rows, asked.features)


if __name__ == "__main__":
    main()
