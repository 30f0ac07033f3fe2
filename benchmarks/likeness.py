"""How near are two pictures that are one, and two that are not? The figures of ``thermal/likeness.py``.

    python benchmarks/likeness.py WS            an imported or simulated workspace, its static matrices

Prints how far a matrix is from itself after each change at most, and how near two patients of one view are at least,
as they are and mirrored. Numbers only.
"""

from __future__ import annotations

import argparse
import base64
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from thermocancer.data.catalog import read_catalog
from thermocancer.thermal.likeness import SIDE, details_of, look_of
from thermocancer.thermal.reading import read_matrix
from thermocancer.workspace import Workspace

Celsius = npt.NDArray[np.float64]
CHANGED = 60


def as_grey(celsius: Celsius) -> npt.NDArray[np.uint8]:
    return np.clip((celsius - 15) / 25 * 255, 0, 255).round().astype(np.uint8)


def as_jpeg(celsius: Celsius) -> Celsius:
    coded = cv2.imencode(".jpg", as_grey(celsius), [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE) / 255 * 25 + 15


def resized(celsius: Celsius, size: tuple[int, int]) -> Celsius:
    return cv2.resize(celsius, size, interpolation=cv2.INTER_AREA)


CHANGES: dict[str, Callable[[Celsius], Celsius]] = {
    "JPEG 75": as_jpeg,
    "8-bit grey": lambda celsius: as_grey(celsius) / 255 * 25 + 15,
    "halved": lambda celsius: resized(celsius, (celsius.shape[1] // 2, celsius.shape[0] // 2)),
    "square": lambda celsius: resized(celsius, (224, 224)),
    "another scale": lambda celsius: 0.7 * celsius + 3,
    "noise of .1 degC": lambda celsius: celsius + np.random.default_rng(0).normal(0, 0.1, celsius.shape),
}


def unit(look: str) -> npt.NDArray[np.float64]:
    details = np.frombuffer(base64.b64decode(look), np.int8).astype(np.float64)
    details -= details.mean()
    return details / np.linalg.norm(details)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace(parser.parse_args().workspace)
    records = [each for each in read_catalog(workspace) if each.status == "ok" and each.protocol == "S"]
    read = [read_matrix(workspace.raw / each.path).centi for each in records]
    looks = [look_of(each / 100) for each in read]
    spreads = [details_of(each / 100).std() for each in read]
    kept = [place for place, look in enumerate(looks) if look]
    records = [records[place] for place in kept]
    units = np.array([unit(looks[place]) for place in kept])
    patients, views = (np.array([getattr(each, name) for each in records]) for name in ("patient", "view"))
    print(f"{len(kept)} of {len(looks)} matrices have details enough, of {len(set(patients))} women")
    chosen = range(0, len(kept), max(1, len(kept) // CHANGED))[:CHANGED]
    print(f"standard deviation of the details {min(spreads):.2f} to {max(spreads):.2f} degC")
    for name, change in CHANGES.items():
        found = [units[place] @ unit(look_of(change(read[kept[place]] / 100))) for place in chosen]
        print(f"{name:<17} 1 - correlation, at most {1 - min(found):.4f} ({len(found)} matrices)")
    others = (patients[:, None] != patients) & (views[:, None] == views)
    mirrored = units.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(units), -1)
    for name, right in (("as they are", units), ("mirrored", mirrored)):
        apart = np.sort(1 - (units @ right.T)[np.triu(others)])[:6]
        print(f"two women, {name}: 1 - correlation, least six {', '.join(f'{each:.3f}' for each in apart)}")


if __name__ == "__main__":
    main()
