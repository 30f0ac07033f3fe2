"""Frontals composed of the two breast regions of a public collection, as a data set for ``validate``.

Usage: ``python benchmarks/cali_regions.py paper_data OTHER_WORKSPACE`` with ``paper_data`` of
``yadyneshsonale/Breast-Cancer-Dataset``. A woman is sick where either breast is labelled malignant (PM). Grey levels
become 28 to 36 degC, which is made up: the collection has no degrees, and each region is of its own size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from thermocancer.data.cohort import CentiCelsius, Exam
from thermocancer.data.folder.tables import read_table
from thermocancer.data.nuisance import measure_matrix, nuisance_columns
from thermocancer.data.store.writing import DatasetWriter, PackedExam, hash_array, pack
from thermocancer.workspace import Workspace

ROOM, SKIN, LOW, HIGH = 2200, 3000, 2800, 3600
"""Hundredths of a degree."""

SIDES = (("right", 60), ("left", 330))
"""Each side with its first column: her right breast is on the picture's left."""


def labels_of(path: Path) -> dict[str, str]:
    """What the first two columns of a table say: name of a picture, label."""
    table = read_table(path, "labels")
    return {row.cells[table.columns[0]].split("_")[0]: row.cells.get(table.columns[1], "") for row in table.rows}


def composed(folder: Path, name: str, number: int) -> CentiCelsius:
    """Both regions of a woman side by side in one frame, 480 x 640."""
    frame = np.full((480, 640), ROOM, np.uint16)
    frame[40:440, 40:600] = SKIN
    for side, column in SIDES:
        picture = cv2.imread(str(folder / side / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        grey, inside = picture[..., :3].astype(np.float64).mean(axis=-1), picture[..., 3] > 128
        grey[~inside] = np.median(grey[inside])
        large = cv2.resize(LOW + grey / 255 * (HIGH - LOW), (250, 320), interpolation=cv2.INTER_AREA)
        frame[80:400, column : column + 250] = large.astype(np.uint16)
    frame += np.random.default_rng(number).integers(0, 5, frame.shape).astype(np.uint16)
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("workspace", type=Path)
    arguments = parser.parse_args()
    labels = {side: labels_of(arguments.folder / side / f"{side}.xlsx") for side, _ in SIDES}
    files = {side: {each.stem for each in (arguments.folder / side).glob("*.png")} for side, _ in SIDES}
    names = sorted(set.intersection(*(files[side] & set(labels[side]) for side, _ in SIDES)))
    exams, matrices = [], []
    for number, name in enumerate(names):
        frame = composed(arguments.folder, name, number)
        sick = int(any(own[name] == "PM" for own in labels.values()))
        exams.append(Exam(10_000 + int(name[3:]), 1, sick, None, "png8", (("Frontal", hash_array(frame)),)))
        matrices.append(frame)
    measured = nuisance_columns(exams, [measure_matrix(each / 100.0) for each in matrices])
    path = Workspace(arguments.workspace).dataset("cohort")
    path.parent.mkdir(parents=True, exist_ok=True)
    with DatasetWriter(path, "cohort", "gzip", static=len(exams)) as writer:
        for row, (exam, frame) in enumerate(zip(exams, matrices, strict=True)):
            of_exam = {key: float(values[row]) for key, values in measured.items()}
            writer.add(PackedExam(exam, {"Frontal": pack(frame, "gzip")}, of_exam))
        writer.finish("celsius", "")
    print(f"{len(exams)} women, {sum(exam.label for exam in exams)} with a malignant breast")


if __name__ == "__main__":
    main()
