"""Writing one 480x640 matrix as text: ``numpy.savetxt`` beside ``thermocancer``.

    python benchmarks/write_matrix.py [--repeats 9]

Both sides write into memory; each line also checks that the bytes are the same.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import numpy as np

from thermocancer.thermal.writing import format_matrix


def best_ms(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def with_savetxt(celsius: np.ndarray, decimals: int, separator: str) -> bytes:
    text = io.BytesIO()
    np.savetxt(text, celsius, fmt=f"%.{decimals}f", delimiter=separator)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    celsius = np.random.default_rng(1).uniform(18, 38, (480, 640))
    centi = np.rint(celsius * 100).astype(np.uint16)
    rounded = centi / 100.0
    format_matrix(centi)  # the tables are made once a process
    print(f"{'layout':<34}{'savetxt ms':>12}{'ours ms':>10}{'ratio':>8}")
    for name, matrix, degrees, separator, decimals in (
        ("space2, hundredths", centi, rounded, " ", 2),
        ("semicolon5, hundredths", centi, rounded, ";", 5),
        ("semicolon5, degrees", celsius, celsius, ";", 5),
    ):
        layout = name.split(",")[0]
        assert format_matrix(matrix, layout) == with_savetxt(degrees, decimals, separator), name
        theirs = best_ms(lambda a=(degrees, decimals, separator): with_savetxt(*a), 3)
        ours = best_ms(lambda a=(matrix, layout): format_matrix(*a), repeats)
        print(f"{name:<34}{theirs:>12.2f}{ours:>10.2f}{theirs / ours:>7.1f}x")


if __name__ == "__main__":
    main()
