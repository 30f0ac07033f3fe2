"""The roads of ``same_bytes.py``: small cohorts, commands as they are typed, and the exit codes that they end with.

Everything is as small as the stages allow; what a road finds is of no interest, only that it is the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PORT = 8433
"""Of the site's replica. Fixed, because the catalog names the address that each file came from."""

BAD_USAGE, BAD_DATA, SOME_FAILED = 2, 3, 5
Step = str | tuple[int, str]
"""A command as it is typed after ``thermocancer``, with its exit code where that is not 0. ``rm PATH`` removes."""


@dataclass(frozen=True)
class Road:
    """``config`` becomes road.yaml; ``inputs`` makes what the road starts from, in the folder that it is given."""

    config: str
    steps: tuple[Step, ...]
    inputs: Callable[[Path], None] | None = None
    site: bool = False


def draw_class_images(folder: Path) -> None:
    """``slices/``: two classes of noise, one with lines; two images a patient, and one file that is no image."""
    import cv2

    random = np.random.default_rng(7)
    for part, patients in (("Train", 8), ("Test", 4)):
        for label, name in enumerate(("lined", "plain")):
            (folder / "slices" / part / name).mkdir(parents=True)
            for number in range(2 * patients):
                lines = (np.arange(64) % 16 == number % 16)[:, None]
                image = np.clip(random.normal(90, 12, (64, 64)) + 60 * (1 - label) * lines, 0, 255).astype(np.uint8)
                path = folder / "slices" / part / name / f"{part}{label}{number // 2:02}_{number % 2}.png"
                path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (folder / "slices" / "Train" / "plain" / "broken.png").write_bytes(b"no image")


def write_scans(folder: Path) -> None:
    """``scans/``: a warm ellipse a patient in two layouts and some unfit files; ``grey/``: images; ``labels.csv``."""
    import cv2

    random = np.random.default_rng(8)
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    labels = ["ID,Diagnosis,Date"]
    for name in ("scans", "grey"):
        (folder / name).mkdir()
    for patient in range(1, 9):
        sick = patient % 2 == 0
        celsius = 22 + 11 * (x**2 / 0.5 + y**2 < 1) + 2 * sick * np.exp(-((x - 0.3) ** 2 + y**2) / 0.02)
        celsius += random.normal(0, 0.05, x.shape)
        np.savetxt(folder / "scans" / f"P{patient:04}.txt", celsius, fmt="%.2f", delimiter=";" if sick else " ")
        grey = cv2.imencode(".png", np.clip((celsius - 18) / 20 * 255, 0, 255).astype(np.uint8))[1]
        (folder / "grey" / f"P{patient:04}.png").write_bytes(grey.tobytes())
        labels.append(f"{patient},{'Sick' if sick else 'Healthy'},2015-03-{patient:02}")
    (folder / "scans" / "P0009.txt").write_text("<html>not found</html>")
    (folder / "scans" / "P0010.txt").write_text("22.00 22.10\n" * 3)
    (folder / "labels.csv").write_text("\n".join([*labels, "9,Sick,2015-03-09"]) + "\n")


def fused(name: str, settings: str = "") -> str:
    """A run made and judged by one command, since each command waits for its libraries anew."""
    return f"run --set pipeline=[fuse,evaluate] --set fuse.name={name} --set evaluate.run={name} {settings}".strip()


WIDE = "--set cohort.match_days=1500 --set cohort.match_room_celsius=3"
ROADS: dict[str, Road] = {
    "static": Road(
        """\
seed: 5
pipeline: [simulate, convert, filter, build-dataset, train-ae, fuse, evaluate]
simulate: {patients: 18, shape: 48x64, sick_fraction: 0.5, second_visits: 0.2, dynamic: false, vessels: 0.3}
filter: {views: [Frontal, Right, Left]}
split: {folds: 2, repeats: 1, inner_folds: 2}
autoencoder: {variant: v2, epochs: 2, batch: 4}
fuse: {name: svm3, model: svm, keep_folds: true}
features: {pixels: [12, 16], components: 6}
evaluate: {run: svm3, bootstrap: 100}
""",
        (
            "run",
            "run --dry-run",
            "rm w/images/Static",
            "rm w/runs/svm3/report.html",
            "run",
            fused("thermal", "--set fuse.model=thermal --set fuse.keep_folds=false"),
            "fuse --model asymmetry --name asymmetry",
            "fuse --model asymmetry-index --name index",
            "fuse --model pixels --name pixels --set features.torso_only=true",
            f"fuse --model thermal --name matched --set cohort.match=choose {WIDE}",
            f"fuse --model thermal --name weighted --set cohort.match=weight {WIDE}",
            "fuse --name twin --set fuse.untrained=true --views Frontal --set fuse.kernel=rbf --set fuse.clip=10",
            "fuse --name residual --set features.residualise=true --set features.relative=true --set fuse.processes=2",
            "fuse --name swept --set sweep.trials=2 --set 'sweep.space={fuse.C: {low: 0.1, high: 10, log: true}}'",
            "compare svm3 thermal swept",
            (BAD_DATA, "predict w/raw/Static/Frontal --run svm3"),
            (SOME_FAILED, "predict w/raw/Static --run svm3 --html page.html"),
            (SOME_FAILED, "predict w/raw/Static --run matched --no-explain --html plain.html"),
            "doctor",
        ),
    ),
    "network": Road(
        """\
seed: 6
pipeline: [simulate, filter, build-dataset, train-ae, fuse, evaluate]
simulate: {patients: 14, shape: 48x64, sick_fraction: 0.5, second_visits: 0.2, dynamic: false, missing_views: 0}
filter: {views: [Frontal, Left]}
split: {folds: 2, repeats: 1, inner_folds: 2}
autoencoder: {variant: v1, epochs: 1, batch: 4}
fuse: {name: network, model: network, epochs: 3}
evaluate: {run: network, bootstrap: 50, audit_skip: [leaky twin, torso only, background only, early to late]}
""",
        (
            "run",
            "predict w/raw/Static --run network --html page.html",
            "export network",
            "train-ae --variant v3 --views Frontal --set strategy.backend=jax",
            "train-ae --variant v2 --views Left --set strategy.kind=mirrored --set strategy.virtual_cpus=2",
        ),
    ),
    "dynamic": Road(
        """\
seed: 1
pipeline: [simulate, convert, filter, build-dataset, train-ae, train-dit, evaluate]
simulate:
  {patients: 24, shape: 48x64, contrast: 3.0, vessels: 0, mottle: 0, asymmetry: 0, frames: 6, sick_fraction: 0.5}
convert: {videos: true}
filter: {views: [Frontal], frames: 6}
dataset: {dynamic: true}
split: {folds: 2, repeats: 1, inner_folds: 2}
autoencoder: {variant: v3, epochs: 2, batch: 4, input: {kind: celsius}}
dit: {name: coded, backbone: autoencoder, size: [48, 64], frames: [0, 2, 5], epochs: 2}
fuse: {name: static, model: asymmetry}
evaluate: {run: coded, bootstrap: 50}
""",
        (
            "run",
            "run --set pipeline=[train-dit,evaluate] --set dit.name=plain --set dit.backbone=random --set dit.head=gru"
            " --set dit.channels=[asymmetry,difference] --set evaluate.run=plain",
            "train-dit --name lite --backbone efficientnet_lite0 --head attention --set dit.augment=1",
            "train-dit --name tuned --backbone random --head tcn --set dit.finetune=true",
            "build-dataset --name films --source videos",
            "fuse",
            fused("scores", "--set fuse.model=late --set fuse.combine=[static,plain]"),
            fused("features", "--set fuse.model=late --set fuse.combine=[static,plain] --set fuse.combine_by=features"),
            "fuse --name stacked --combine static,plain --set fuse.stacking=true",
            (SOME_FAILED, "predict w/raw/Dynamic --run coded --html page.html"),
            "predict w/raw --run scores --no-explain",
            "predict w/raw --run features --html both.html",
        ),
    ),
    "images": Road(
        """\
seed: 4
strategy: {backend: tensorflow}
pipeline: [train-cnn, evaluate]
cnn: {data: slices, name: seeds, size: [32, 32], color: gray, model: pooled, epochs: 3, batch: 8, seeds: 2}
evaluate: {run: seeds, bootstrap: 50, audit_image_epochs: 2}
""",
        (
            (SOME_FAILED, "run"),
            (
                SOME_FAILED,
                r"run --set cnn.group='^(\w+)_' --set cnn.name=grouped --set cnn.model=study --set cnn.size=[192,192]"
                " --set cnn.seeds=1 --set cnn.color=rgb --set cnn.epochs=1 --set evaluate.run=grouped",
            ),
            (
                SOME_FAILED,
                "train-cnn --name lite --set cnn.model=backbone --set cnn.color=rgb --set cnn.augment=true"
                " --set cnn.mixup=0.2 --set cnn.test_time_augmentation=true --seeds 1",
            ),
            "compare seeds lite",
            "predict slices/Test/lined --run seeds --html page.html",
        ),
        inputs=draw_class_images,
    ),
    "thesis": Road(
        """\
seed: 3
pipeline: [simulate, convert, filter, build-dataset, train-ae, fuse, evaluate]
simulate: {patients: 16, shape: 48x64, sick_fraction: 0.5, dynamic: false}
convert: {rendering: {colormap: viridis, range: minmax}, format: jpg}
filter: {views: [Frontal, Right]}
dataset: {source: images}
split: {protocol: thesis, test_fraction: 0.3, repeats: 1, folds: 2}
autoencoder:
  {variant: v1, train_on: all, epochs: 2, batch: 8, schedule: constant, input: {rendering: {range: minmax}}}
fuse: {name: svm, model: svm, aim: fixed, epochs: 2}
evaluate: {run: svm, bootstrap: 50}
""",
        (
            "run",
            fused(
                "network",
                "--set fuse.model=network --set 'evaluate.audit_skip=[permuted labels, torso only, background only]'",
            ),
            "run -w holdout --set pipeline=[simulate,build-dataset,fuse,evaluate] --set fuse.model=thermal"
            " --set split.protocol=holdout --set dataset.source=matrices --set autoencoder.train_on=split",
        ),
    ),
    "reproduce": Road(
        """\
seed: 1
pipeline: [simulate]
simulate: {patients: 16, shape: 48x64, sick_fraction: 0.5, missing_frames: 0, missing_views: 0}
autoencoder: {epochs: 1}
split: {folds: 2, repeats: 1, inner_folds: 2}
dit: {epochs: 1, size: [48, 64], backbone: random}
evaluate: {bootstrap: 50}
""",
        ("run", "reproduce --rows T3-v1,T8"),
    ),
    "fetch": Road(
        f"""\
pipeline: [fetch, convert, filter]
fetch: {{url: "http://127.0.0.1:{PORT}/dmi/", interval_s: 0, backoff_s: 0.005, shape: [48, 64]}}
filter: {{views: [Frontal]}}
""",
        (
            "fetch --limit 30",
            (SOME_FAILED, "run"),
            "fetch --dry-run",
            (SOME_FAILED, "fetch --recheck always --connections 2"),
            "rm w/raw/Static/Frontal/healthy",
            "doctor --fix",
            (SOME_FAILED, "fetch"),
        ),
        site=True,
    ),
    "import": Road(
        """\
seed: 2
pipeline: [import, convert, filter, build-dataset]
import: {folder: scans, labels: labels.csv, view: Frontal, date_column: Date}
filter: {views: [Frontal]}
split: {folds: 2, repeats: 1}
convert: {format: png}
""",
        (
            (SOME_FAILED, "run"),
            "import grey --labels labels.csv -w greys --set 'import.range={low: 18, high: 38}'",
            "simulate --detectability -w seen",
            "config show",
            "config schema",
            (BAD_USAGE, "fuse --combine one"),
            (BAD_DATA, "evaluate --run nobody"),
            (BAD_USAGE, "reproduce --rows T9"),
            (BAD_USAGE, "train-ae --set autoencoder.epoch=1"),
            (BAD_USAGE, "build-dataset --set cohort.match=some"),
            (BAD_DATA, "predict nowhere --run nobody"),
        ),
        inputs=write_scans,
    ),
}
