"""Does the reader ever take a damaged matrix for another one? Counts over many mutated texts.

python benchmarks/fuzz_reading.py                 100,000 texts, some minutes
python benchmarks/fuzz_reading.py --texts 2000 --seed 7

Each text is a matrix in one of the usual layouts, changed once to three times: flipped bits, a cut, doubled
separators, swapped decimal marks, removed and blanked cells, inserted, removed and repeated bytes. What the reader
makes of it is held against a second parser, which is slow, strict and shares no code with it. Right is what that
parser reads too, or the matrix as it was before; wrong is everything else that is accepted.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from thermocancer.errors import ThermocancerError
from thermocancer.thermal.reading import parse_matrix

DIGITS = "0123456789"
Rows = list[list[float]]


@dataclass(frozen=True)
class Base:
    """A whole matrix as text, and what separates its numbers."""

    name: str
    text: bytes
    separator: str
    rows: Rows


@dataclass
class Counts:
    """What became of the texts; ``examples`` of what should not have happened, at most 20."""

    outcomes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note(self, outcome: str, base: Base, text: bytes, detail: str) -> None:
        self.outcomes[outcome] += 1
        if outcome in ("wrong", "untyped") and len(self.examples) < 20:
            self.examples.append(f"{outcome}: {base.name}: {detail}\n{text!r}")


def bases() -> list[Base]:
    """Matrices in the layouts of cameras and exports, small enough to be read by the thousand."""
    rng = np.random.default_rng(0)
    made = []
    layouts = {
        "space": (" ", "{:.2f}"), "semicolon": (";", "{:.5f}"), "comma": (",", "{:.2f}"), "tab": ("\t", "{:.3f}"),
        "exponents": (" ", "{:.6e}"), "whole": (";", "{:.0f}"), "wide": ("  ", "{:.1f}"),
    }  # fmt: skip
    for (low, high), spread in {(18, 38): "even", (4, 105): "uneven"}.items():
        for name, (separator, form) in layouts.items():
            cells = [[form.format(value) for value in row] for row in rng.uniform(low, high, (9, 11))]
            rows = [[float(cell) for cell in row] for row in cells]
            for end in ("\n", "\r\n", "\r\r\n"):
                text = "".join(separator.join(row) + end for row in cells)
                bare = separator.strip(" ") or " "
                dresses = {"plain": text, "header": f"Frame 1 of 20, emissivity 0.98{end}{text}"}
                if bare != ",":
                    dresses["commas"] = text.replace(".", ",")
                if bare != " ":
                    dresses["trailing"] = text.replace(end, separator + end)
                names = {dress: f"{name}, {spread}, {end!r}, {dress}" for dress in dresses}
                made += [Base(names[dress], content.encode(), bare, rows) for dress, content in dresses.items()]
    return made


# --- the damage -----------------------------------------------------------------


def flip(text: bytearray, dice: random.Random, base: Base) -> None:
    text[dice.randrange(len(text))] ^= 1 << dice.randrange(8)


def cut(text: bytearray, dice: random.Random, base: Base) -> None:
    del text[dice.randrange(len(text)) if dice.random() < 0.5 else max(0, len(text) - dice.randrange(1, 30)) :]


def double_separator(text: bytearray, dice: random.Random, base: Base) -> None:
    places = [place for place, byte in enumerate(text) if byte == ord(base.separator)]
    if places:
        text.insert(dice.choice(places), ord(base.separator))


def swap_mark(text: bytearray, dice: random.Random, base: Base) -> None:
    places = [place for place, byte in enumerate(text) if byte in b".,"]
    for place in places if dice.random() < 0.3 else places and [dice.choice(places)]:
        text[place] = ord(",") if text[place] == ord(".") else ord(".")


def remove_cell(text: bytearray, dice: random.Random, base: Base) -> None:
    places = [place for place, byte in enumerate(text) if byte == ord(base.separator)]
    if len(places) > 1:
        first = dice.randrange(len(places) - 1)
        keep = dice.random() < 0.5  # an empty cell, or none
        del text[places[first] + keep : places[first + 1]]


def blank_cell(text: bytearray, dice: random.Random, base: Base) -> None:
    places = [place for place, byte in enumerate(text) if byte == ord(base.separator)]
    if len(places) > 1:
        first = dice.randrange(len(places) - 1)
        text[places[first] + 1 : places[first + 1]] = dice.choice((b"---", b"n/a", b">160.0", b"<-20", b"-"))


def insert(text: bytearray, dice: random.Random, base: Base) -> None:
    alphabet = bytes(range(256)) if dice.random() < 0.3 else b"0123456789.,; \t\n\r-+eE\"'_xNa"
    place = dice.randrange(len(text) + 1)
    text[place:place] = bytes(dice.choice(alphabet) for _ in range(dice.randint(1, 3)))


def remove(text: bytearray, dice: random.Random, base: Base) -> None:
    place = dice.randrange(len(text))
    del text[place : place + dice.randint(1, 8)]


def repeat(text: bytearray, dice: random.Random, base: Base) -> None:
    place = dice.randrange(len(text))
    text[place:place] = text[place : place + dice.randint(1, 80)]


DAMAGES: tuple[Callable[[bytearray, random.Random, Base], None], ...] = (
    flip, flip, cut, double_separator, swap_mark, remove_cell, blank_cell, insert, remove, repeat,
)  # fmt: skip


# --- the second parser ------------------------------------------------------------


def read_slowly(text: bytes, separator: str) -> Rows | None:
    """The matrix of a text, None if there is any doubt. Knows the separator, and looks at one character at a time."""
    letters = text.decode("latin-1")
    if any((ord(each) < 32 and each not in "\t\r\n") or ord(each) == 127 for each in letters):
        return None
    if "\n" not in letters:
        letters = letters.replace("\r", "\n")
    lines = [line.rstrip("\r") for line in letters.split("\n")]
    if any("\r" in line for line in lines):
        return None
    whole_end = not lines[-1].strip(" ")
    marks = {each for line in lines for each in line if each in ",."} if separator != "," else {"."}
    for first in range(min(4, len(lines))):
        for last in range(len(lines), max(len(lines) - 4, first), -1):
            dropped = [line for line in lines[:first] + lines[last:] if line.strip(" ")]
            if all(has_word(line) for line in dropped):
                for mark in marks | {"."}:
                    rows = read_rows(lines[first:last], separator, mark, whole_end or last < len(lines))
                    if rows is not None:
                        return rows
    return None


def has_word(line: str) -> bool:
    """Two letters in a row: a word, and not a number gone wrong."""
    return any(one.isalpha() and two.isalpha() for one, two in pairwise(line))


def read_rows(lines: list[str], separator: str, mark: str, whole_end: bool) -> Rows | None:
    while lines and not lines[0].strip(" "):
        lines = lines[1:]
    while lines and not lines[-1].strip(" "):
        lines = lines[:-1]
    blank = [not line.strip(" ") for line in lines]
    if any(blank):
        if any(not one and not two for one, two in pairwise(blank)):
            return None  # a blank line within, and not one behind every line
        lines = [line for line in lines if line.strip(" ")]
    table = [cells_of(line, separator) for line in lines]
    if len(table) < 2:
        return None
    if separator != " " and all(row[-1] == "" for row in table):
        table = [row[:-1] for row in table]
    shapes = [[shape_of(cell, mark) for cell in row] for row in table]
    if len({len(row) for row in table}) != 1 or len(table[0]) < 2 or any(None in row for row in shapes):
        return None
    if not whole_end:
        *others, last = [each for row in shapes for each in row if each is not None]
        if any(last[part] < min(each[part] for each in others) for part in (1, 2)):
            return None  # cut in its last number
        if table[-1][-1].endswith(mark) or (last[1] == 0 and last[0] < min(each[0] for each in others)):
            return None
    return [[np.nan if no_value(cell) else float(cell.replace(mark, ".")) for cell in row] for row in table]


def no_value(cell: str) -> bool:
    """What cameras write where there is no temperature, or one beyond their range."""
    dashes, digits = len(cell) > 1 and not cell.strip("-"), cell[1:].lstrip("+-").replace(",", ".", 1)
    beyond = cell[:1] in "<>" and digits.replace(".", "", 1).isdigit() and digits[-1] != "."
    return bool(cell) and (dashes or cell.lower() in ("n/a", "null") or beyond)


def cells_of(line: str, separator: str) -> list[str]:
    if separator != " ":
        return [cell.strip(" ") for cell in line.split(separator)]
    return [cell for cell in line.replace("\t", " ").split(" ") if cell]


def shape_of(cell: str, mark: str) -> tuple[int, int, int] | None:
    """Digits before the mark, behind it and in the exponent; None if this is no number."""
    if no_value(cell):
        return 9, 0, 0
    if cell.lstrip("+-").lower() in ("nan", "inf", "infinity") and len(cell) - len(cell.lstrip("+-")) <= 1:
        return 9, 0, 0
    place, parts = 0, [0, 0, 0]
    if place < len(cell) and cell[place] in "+-":
        place += 1
    while place < len(cell) and cell[place] in DIGITS:
        parts[0], place = parts[0] + 1, place + 1
    if place < len(cell) and cell[place] == mark:
        place += 1
        while place < len(cell) and cell[place] in DIGITS:
            parts[1], place = parts[1] + 1, place + 1
    if parts[0] + parts[1] == 0:
        return None
    if place < len(cell) and cell[place] in "eE":
        place += 1
        if place < len(cell) and cell[place] in "+-":
            place += 1
        while place < len(cell) and cell[place] in DIGITS:
            parts[2], place = parts[2] + 1, place + 1
        if parts[2] == 0:
            return None
    return (parts[0], parts[1], parts[2]) if place == len(cell) else None


# --- the comparison ---------------------------------------------------------------


def judge(base: Base, text: bytes, counts: Counts) -> None:
    """Read one text both ways and count what came of it."""
    try:
        found = parse_matrix(text, where="fuzz", unit="C").celsius
    except ThermocancerError:
        counts.note("refused", base, text, "")
        return
    except Exception as error:  # counted: the goal is none
        counts.note("untyped", base, text, repr(error))
        return
    slow = read_slowly(text, base.separator)
    for expected in (slow, base.rows):
        if expected is not None and np.array_equal(found, np.array(expected), equal_nan=True):
            counts.note("right", base, text, "")
            return
    other = "refused by the other" if slow is None else "the other reads other numbers"
    counts.note("wrong", base, text, f"read {found.shape}, {other}")


def fuzz(texts: int, seed: int) -> Counts:
    """Damage and read so many texts."""
    dice, counts, whole = random.Random(seed), Counts(), bases()
    for base in whole:
        judge(base, base.text, counts)
    if counts.outcomes["right"] != len(whole):
        raise RuntimeError(f"whole matrices are not read: {counts}")
    counts = Counts()
    for _ in range(texts):
        base = dice.choice(whole)
        text = bytearray(base.text)
        for _ in range(dice.choice((1, 1, 2, 3))):
            if text:
                dice.choice(DAMAGES)(text, dice, base)
        judge(base, bytes(text), counts)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    counts = fuzz(options.texts, options.seed)
    for outcome in ("right", "refused", "wrong", "untyped"):
        print(f"{outcome:<10}{counts.outcomes[outcome]:>9}")
    print(f"{options.texts} texts, seed {options.seed}, {time.monotonic() - start:.0f} s")
    print("\n".join(counts.examples))
    sys.exit(bool(counts.outcomes["wrong"] or counts.outcomes["untyped"]))


if __name__ == "__main__":
    main()
