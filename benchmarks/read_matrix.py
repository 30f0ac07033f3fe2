"""Reading one 480x640 text matrix: ``numpy.loadtxt`` beside ``thermocancer``, for every layout.

    python benchmarks/read_matrix.py [--repeats 15]

Each line prints the best of the repeats for both sides, file reading included, and checks that the
numbers are equal bit for bit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from thermocancer.thermal.reading import read_matrix
from thermocancer.thermal.writing import format_matrix


def best_ms(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def layouts() -> dict[str, tuple[bytes, str | None]]:
    """Name: content, and the delimiter that ``loadtxt`` needs (None: any white space)."""
    celsius = np.random.default_rng(1).uniform(18, 38, (480, 640))
    cold = np.random.default_rng(1).uniform(6, 38, (480, 640))
    plain = format_matrix(np.rint(celsius * 100).astype(np.uint16))
    return {
        "canonical (space2)": (plain, None),
        "semicolon5": (format_matrix(celsius, "semicolon5"), ";"),
        "comma2": (format_matrix(celsius, "comma2"), ","),
        "tab2": (format_matrix(celsius, "tab2"), "\t"),
        "CR LF": (plain.replace(b"\n", b"\r\n"), None),
        "CR CR LF (not read by loadtxt)": (plain.replace(b"\n", b"\r\r\n"), None),
        "decimal commas (not read by loadtxt)": (format_matrix(celsius, "semicolon2").replace(b".", b","), ";"),
        "trailing separators": (format_matrix(celsius, "semicolon2").replace(b"\n", b";\n"), ";"),
        "byte-order mark": (b"\xef\xbb\xbf" + plain, None),
        "two header lines": (b"Frame 1\n480 640\n" + plain, None),
        "several spaces": (plain.replace(b" ", b"   "), None),
        "numbers of several widths": (format_matrix(np.rint(cold * 100).astype(np.uint16)), None),
        "several widths, semicolons": (format_matrix(np.rint(cold * 100).astype(np.uint16), "semicolon2"), ";"),
    }


def plain_equivalent(content: bytes, delimiter: str | None) -> bytes:
    """What ``loadtxt`` is given where it cannot read the layout itself: the same numbers, cleaned before the clock."""
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"").replace(b";\n", b"\n")
    if delimiter != ",":
        content = content.replace(b",", b".")
    return content.removeprefix(b"Frame 1\n480 640\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print(f"{'layout':<40}{'loadtxt ms':>12}{'ours ms':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.txt"
        clean = Path(folder) / "clean.txt"
        for name, (content, delimiter) in layouts().items():
            path.write_bytes(content)
            clean.write_bytes(plain_equivalent(content, delimiter))
            reference = np.loadtxt(clean, delimiter=delimiter)
            assert np.array_equal(read_matrix(path).celsius, reference), name
            theirs = best_ms(lambda d=delimiter: np.loadtxt(clean, delimiter=d), max(3, repeats // 3))
            ours = best_ms(lambda: read_matrix(path).celsius, repeats)
            print(f"{name:<40}{theirs:>12.2f}{ours:>10.2f}{theirs / ours:>7.1f}x")


if __name__ == "__main__":
    main()
