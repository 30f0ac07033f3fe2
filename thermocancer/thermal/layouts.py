"""What layout a text has: its frames, and what in it is header, column names, row numbers, unit and footer.

Nothing is guessed in silence: whatever is taken as something else than temperatures leaves a note, and
what could mean two things is an error that shows both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from thermocancer.errors import DataError
from thermocancer.thermal.columns import by_shape, cells_of, decode_block, is_number, refuse_strange_columns
from thermocancer.thermal.decoding import BETWEEN, SEPARATORS, Decoded, decode_fixed_width
from thermocancer.thermal.lines import NumberLines, shown, truncated
from thermocancer.thermal.units import STATED, Unit

MOST_TEXT_BYTES = 128 << 20
"""A text larger than this is refused unread (1024x768 numbers of 25 characters are 20 MB)."""

MOST_LINE_BYTES = 1 << 20

_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?![\r\n]|\Z)")
_ABOVE = re.compile(
    rb"(?:(?![ ]*\d+[.,]\d+%b\d+[.,]\d+%b\d+[.,]\d)[^\n]*\n)*" % (BETWEEN, BETWEEN)
)  # what is no line of decimals
_PADDING = b"".join(SEPARATORS.values())
_ROW_BYTES = b"0123456789+-.eE\r" + _PADDING
_TOKENS = re.compile(BETWEEN)
_QUOTED = re.compile(rb'(?<![\d.eE+-])" *([+-]?\d[\d.,]*(?:[eE][+-]?\d+)?) *"(?![\d.])')  # a whole cell, no part of one
_WITH_UNIT = re.compile(rb"(?<=[\d.]) ?(?:\xc2\xb0|\xb0|deg ?)?([CKF])(?=%b|\Z)" % BETWEEN)
_NO_VALUE = re.compile(
    rb"(?<![^%b])(?:-{2,}|n/a|null|[<>][+-]?\d+(?:\.\d+|,\d+(?=[; \t]))?)(?![^%b])" % (2 * (_PADDING + b"\r",)), re.I
)  # what cameras write for a pixel that has no temperature, or one beyond their range
_RULE = re.compile(rb"[-=_*#~]{3,}")  # a line drawn under a title
_DATE_OR_TIME = re.compile(rb"\d+([-/.])\d+\1\d+(T[\d:.]+Z?)?|\d+:\d+(:\d+(\.\d+)?)?")
_WORD = re.compile(rb"[A-Za-z]{2}|[\x80-\xff]{6}")  # two letters, in whatever script (damage makes shorter runs)
_SIZES = (2, 3)  # numbers in a line such as "480 640", with the number of frames
_LINES_THAT_TELL = 12
_MOST_VALUES = 4  # numbers in a line such as "Frame 1 of 20, emissivity 0.98"
_UNIT_NAME = rb"(?:\xc2\xb0|\xb0|deg(?:rees?)? ?)?(C|K|F|celsius|kelvin|fahrenheit)\b"
_STATED_UNIT = re.compile(
    rb"\bunits?\b[\s:;,=\"(\[]*(?:[a-z]+[\s:;,=\"(\[]+){0,2}%b|\btemp[a-z]*[\s_]*[(\[]%b" % (_UNIT_NAME, _UNIT_NAME),
    re.I,
)


def read_text(content: bytes, where: str, shape: tuple[int, int] | None = None) -> list[Decoded]:
    """Every frame of a text, as its numbers stand there.

    ``shape`` (rows, columns) chooses where the lines alone could be two things (``columns.by_shape``).

    Understands space, tab, ``;`` and ``,`` as separators, decimal commas, quoted numbers, LF, CR LF, CR CR LF
    and CR line ends, byte-order marks, trailing separators, a unit behind every number, lines of words before
    and after the numbers, a line of column names or numbers, a column of row numbers, and tables of x, y and
    temperature whose columns are named. Frames stand one under another, with blank lines or lines of words
    between them. Numbers that no skin can have (NaN, 99) are read as they are.

    Raises DataError (file and line, what was expected, what was found) for everything else.
    """
    decoded = decode_fixed_width(content) if len(content) <= MOST_TEXT_BYTES else None
    if decoded is not None:
        refuse_strange_columns(decoded, where)
        return [decoded]
    notes: list[str] = []
    text = _clean(content, where, notes)
    if shape is not None:
        text = by_shape(text, shape, notes)
    above = _ABOVE.match(text, 0, 1 << 16)
    decoded = decode_fixed_width(text[above.end() :] if above and above.end() else text)
    if decoded is not None:  # a camera's own lines, below a header: only that has to be understood
        refuse_strange_columns(decoded, where)
        first = text.find(b"\n", above.end() if above else 0) + 1
        parts = _take_apart(text[:first], where, unseen=decoded.numbers.shape[0] - 1)
        if len(parts.blocks) == 1 and len(parts.blocks[0].lines) == 1:
            return [replace(decoded, notes=(*notes, *parts.notes, *decoded.notes), unit=parts.unit)]
    parts = _take_apart(text, where)
    frames = []
    for block in parts.blocks:
        open_end = block is parts.blocks[-1] and parts.open_end
        lines = NumberLines(tuple(block.lines), tuple(block.numbers), where, open_end)
        frames.append(decode_block(lines, parts.separator, parts.mark, block.names))
    return [replace(each, notes=(*notes, *parts.notes, *each.notes), unit=each.unit or parts.unit) for each in frames]


# --- from bytes to text -------------------------------------------------------


def _clean(content: bytes, where: str, notes: list[str]) -> bytes:
    """The text without byte-order mark, with LF (or CR LF, CR CR LF) line ends; what is no text is refused."""
    expected = "lines of temperatures"
    if len(content) > MOST_TEXT_BYTES:
        raise DataError(
            "this text is too large for a thermogram",
            where=where,
            expected=f"{MOST_TEXT_BYTES >> 20} MB or less",
            found=f"{len(content) >> 20} MB",
        )
    text = content
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            notes.append(f"{encoding.upper()} byte-order mark")
            text = content[len(mark) :]
            if encoding != "utf-8":
                text = text.decode(encoding, errors="replace").encode()
            break
    start = text[:4096].strip()
    if not start and not text.strip():
        raise DataError("this file is empty", where=where, expected=expected, found=f"{len(text)} bytes")
    if re.match(rb"<[!?/a-z]", start, re.I):
        raise DataError(
            "this is a web page, not a temperature matrix",
            where=f"{where}:1",
            expected=expected,
            found=shown(start),
            hint="the site may have asked for a login; fetch the file again",
        )
    if b"\0" in text:
        hint = "if this is UTF-16 text, save it with a byte-order mark or as UTF-8" if b"\0.\0" in text else None
        raise DataError(
            "this is a binary file, not text", where=where, expected=expected, found=shown(start), hint=hint
        )
    if start.startswith(b"[[") and text.rstrip().endswith(b"]]"):
        inner = b" ".join(text.strip().removeprefix(b"[[").removesuffix(b"]]").split())
        text = re.sub(rb" ?\] ?,? ?\[ ?", b"\n", inner) + b"\n"  # as NumPy and JSON write: a line may go over several
        notes.append("brackets around every line")
    if b"\n" not in text and b"\r" in text:
        text = text.replace(b"\r", b"\n")
        notes.append("CR line ends")
    elif b"\r" in text:
        notes.append("CR CR LF line ends" if b"\r\r\n" in text else "CR LF line ends")
    low = sum(
        np.count_nonzero(each < 32) for each in np.array_split(np.frombuffer(text, np.uint8), len(text) >> 18 or 1)
    )
    usual = sum(map(text.count, (b"\t", b"\n", b"\r")))
    suspicious = low != usual or b"\x7f" in text or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n"))
    control = _CONTROL.search(text) if suspicious else None
    if control is not None:
        raise DataError(
            "a control character stands among the numbers",
            where=f"{where}:{text.count(bytes([10]), 0, control.start()) + 1}",
            expected="no control characters but tab and line ends",
            found=f"byte 0x{control[0][0]:02x} behind {shown(text[max(control.start() - 12, 0) : control.start()])}",
            hint="the file is damaged; get it again from its source",
        )
    return text


# --- from text to blocks of numbers -------------------------------------------


@dataclass(frozen=True)
class _Row:
    """A line of numbers and separators only; ``units`` are those that stood behind every number of it."""

    line: bytes
    quoted: bool = False
    units: frozenset[bytes] = frozenset()


@dataclass
class _Block:
    """Lines of numbers that follow one another, the place of each in the file, and the words directly above."""

    names: bytes
    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


@dataclass
class _Parts:
    """A text taken apart: blocks of numbers, all of one shape, and what the rest of it says."""

    separator: bytes
    mark: bytes
    width: int
    decimals: bool
    blocks: list[_Block] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unit: Unit | None = None
    open_end: bool = False


def _take_apart(text: bytes, where: str, unseen: int = 0) -> _Parts:
    """Tell lines of numbers from blank lines and lines of words; ``unseen`` more lines of numbers follow the text."""
    lines = [line.strip(b" \r") for line in text.split(b"\n")]
    longest = max(range(len(lines)), key=lambda index: len(lines[index]))
    if len(lines[longest]) > MOST_LINE_BYTES:
        raise DataError(
            "this line is too long for a thermogram",
            where=f"{where}:{longest + 1}",
            expected=f"{MOST_LINE_BYTES >> 20} MB or less",
            found=f"{len(lines[longest])} bytes",
        )
    lines, without = _without_values(lines)
    rows = [_as_row(line) if line else None for line in lines]
    parts = _layout_of(lines, rows, where)
    parts.notes += [without] if without else []
    parts.open_end = bool(lines[-1])
    header, between, footer, words = 0, 0, 0, []
    block, names = None, b""
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
        if not line.strip(b"\t" if parts.separator == b" " else b""):
            block, names = None, b""
        elif row is None and _is_words(line, parts):
            block, names = None, line
            words.append(line)
            header, footer = header + (not parts.blocks), footer + bool(parts.blocks)
        else:
            if block is None:
                block = _Block(names)
                parts.blocks.append(block)
                between, footer = between + footer, 0
            block.lines.append(line if row is None else row.line)
            block.numbers.append(number)
    parts.open_end &= not footer
    for block in parts.blocks:
        while block.lines and _is_size(block, parts, len(block.lines) - 1 + unseen, where):
            header, between = header + (block is parts.blocks[0]), between + (block is not parts.blocks[0])
            del block.lines[0], block.numbers[0]
    parts.blocks = [block for block in parts.blocks if block.lines]
    if len(parts.blocks) > 1 and not between and all(len(block.lines) == 1 for block in parts.blocks):
        first, *others = parts.blocks
        first.lines += [block.lines[0] for block in others]
        first.numbers += [block.numbers[0] for block in others]
        parts.blocks = [first]
        parts.notes.append("blank lines")
    parts.notes += [f"{header} header line{'s' * (header > 1)}"] if header else []
    parts.notes += [f"{between} line{'s' * (between > 1)} between frames"] if between else []
    parts.notes += [f"{footer} footer line{'s' * (footer > 1)}"] if footer else []
    parts.notes += ["quoted numbers"] if any(row and row.quoted for row in rows) else []
    _refuse_uneven_blocks(parts, where)
    parts.unit = _stated_unit([row for row in rows if row is not None], words, where)
    parts.notes += [f"{STATED}{parts.unit}"] if parts.unit else []
    return parts


def _without_values(lines: list[bytes]) -> tuple[list[bytes], str]:
    """Lines of numbers with NaN where a pixel has no value (``---``, ``>160.0``), and a note of what stood there."""
    found: list[bytes] = []
    for number, line in enumerate(lines):
        if cells := _NO_VALUE.findall(line):
            tokens = _TOKENS.split(line.strip(_PADDING))
            if 2 * sum(map(is_number, tokens)) >= len(tokens):
                found += cells
                lines[number] = _NO_VALUE.sub(b"nan", line)
    return lines, f"{len(found)} cells without a value, such as {shown(found[0])}, read as missing" if found else ""


def _as_row(line: bytes) -> _Row | None:
    """A line of numbers without quotation marks and units; None for anything else."""
    if not line.translate(None, _ROW_BYTES):
        return None if _RULE.fullmatch(line) else _Row(line)
    bare = _QUOTED.sub(lambda match: match[1].replace(b",", b".") if match[1].count(b",") == 1 else match[1], line)
    units = frozenset(_WITH_UNIT.findall(bare))
    unitless, count = _WITH_UNIT.subn(b"", bare)
    cells = unitless.strip(_PADDING)
    if unitless.translate(None, _ROW_BYTES) or (
        units and count not in (len(_TOKENS.split(cells)), cells.count(b";") + 1)
    ):
        return None
    return _Row(unitless, bare != line, units)


def _layout_of(lines: Sequence[bytes], rows: Sequence[_Row | None], where: str) -> _Parts:
    """Separator, decimal mark and usual width, from the first line of numbers that is no mere "480 640"."""
    plain = [(number, row.line) for number, row in enumerate(rows, 1) if row is not None]
    # if there is no line of mere numbers, one in which most are (NaN, a broken cell) shows what is wrong
    usable = plain or [
        (number, line)
        for number, line in enumerate(lines, 1)
        if 2 * sum(map(is_number, tokens := _TOKENS.split(line.strip(_PADDING)))) > len(tokens)
    ]
    if not usable:
        raise DataError(
            "no line of numbers in this file",
            where=f"{where}:1",
            expected="lines of temperatures",
            found=shown(next(line for line in lines if line)),
        )
    counts = [len(_TOKENS.split(line.strip(_PADDING))) for _, line in usable[:_LINES_THAT_TELL]]
    number, first = usable[next(at for at, count in enumerate(counts) if count > min(_SIZES[-1], max(counts) - 1))]
    marks = {mark for mark in (b",", b".") if any(mark in line for _, line in usable)}
    separator, mark = _find_separator(first, marks, f"{where}:{number}", len(usable))
    widths = Counter(len(cells_of(line, separator)) for _, line in usable[:_LINES_THAT_TELL])
    return _Parts(separator, mark, widths.most_common(1)[0][0], mark in first or b"e" in first.lower())


def _find_separator(line: bytes, body: set[bytes], place: str, rows: int) -> tuple[bytes, bytes]:
    """The byte between numbers and the decimal mark; ``body``: which of comma and point occur in all ``rows`` lines.

    Raises DataError for commas that could be separators as well as decimal marks, and for a single column.
    """
    for separator in (each for each in SEPARATORS.values() if each not in b" ,"):
        if separator in line:
            return separator, b"," if b"," in body else b"."
    cells = line.split()
    listed = len(cells) > 1 and all(cell.endswith(b",") for cell in cells[:-1])  # "20, 21" rather than "20,5 21,0"
    if len(cells) > 1 and not listed:
        return b" ", b"," if b"," in body else b"."
    if b"," in line and (b"." in body or (listed and not any(b"," in cell[:-1] for cell in cells))):
        return b",", b"."
    whole = [token.strip() for token in line.rstrip(b",").split(b",")]
    paired = len(whole) % 2 == 0 and not all(len(token) >= 4 and token[:1] != b"0" for token in whole)
    if len(whole) > 2 and not paired and all(token.isdigit() for token in whole):
        return b",", b"."  # an odd count makes no pairs of whole part and decimals, nor do numbers like 29429,29448
    if b"," in line:
        raise DataError(
            "commas could be separators or decimal marks here",
            where=place,
            expected="decimal points, or another separator beside decimal commas",
            found=f"{rows}x{len(whole) // 2} with decimal commas, {rows}x{len(whole)} without: {shown(line)}",
            hint="choose with the shape (--shape), or write ';' between the numbers",
        )
    raise DataError(
        "only one number in a line", where=place, expected="a matrix, or its shape beside it (--shape ROWSxCOLUMNS)",
        found=f"{rows} lines such as {shown(line)}", hint="say the shape; the numbers are then taken row by row",
    )  # fmt: skip


def _is_words(line: bytes, parts: _Parts) -> bool:
    """Is this a line of words (column names, a date, ``key: value``), and certainly no broken line of numbers?"""
    cells = cells_of(line, parts.separator)
    numbers = sum(map(is_number, cells))
    if numbers == 0:
        tokens = _TOKENS.split(line.strip(_PADDING))
        starts = [token.lstrip(b"\"'#%")[:1] for token in tokens]
        named = len(tokens) > 1 and all(start.isalpha() for start in starts)  # "x,y,T"
        named = named or _RULE.fullmatch(line) is not None or all(map(_DATE_OR_TIME.fullmatch, tokens))
        return named or _WORD.search(line) is not None
    return len(cells) != parts.width and numbers <= _MOST_VALUES and _WORD.search(cells[0]) is not None


def _is_size(block: _Block, parts: _Parts, rows: int, where: str) -> bool:
    """Is a block's first line "480 640": two or three whole numbers above ``rows`` wider lines?

    One number alone could be the beginning of a torn line. Raises DataError for more lines stated than there are.
    """
    tokens = _TOKENS.split(block.lines[0].strip(_PADDING))
    if len(tokens) not in _SIZES or parts.width <= _SIZES[-1] + 1 or not all(token.isdigit() for token in tokens):
        return False
    if parts.mark == b"," and b"," in block.lines[0]:
        return False  # "33,1" is one number
    if not rows and block is not parts.blocks[0]:
        return False  # below the matrix it sizes nothing
    sizes = [int(token) for token in tokens[:2]]
    stated = sizes[1 - sizes.index(parts.width)] if parts.width in sizes else 0
    if stated > rows > 0:
        raise truncated(stated * parts.width, rows * parts.width, f"{where}:{block.numbers[-1]}")
    return parts.decimals or stated == rows


def _refuse_uneven_blocks(parts: _Parts, where: str) -> None:
    shapes = [f"{len(block.lines)}x{len(cells_of(block.lines[-1], parts.separator))}" for block in parts.blocks]
    if len(set(shapes)) > 1:
        lines = sum(len(block.lines) for block in parts.blocks)
        raise DataError(
            "blank lines or lines of words stand among the numbers, and what they divide is not alike",
            where=f"{where}:{parts.blocks[1].numbers[0]}",
            expected=f"one matrix of {lines} lines without them, or frames of one shape",
            found=", ".join(shapes[:4]) + (f" and {len(shapes) - 4} more" if len(shapes) > 4 else ""),
            hint="take out what does not belong to the matrix; if frames are missing lines, get the file again",
        )


def _stated_unit(rows: Sequence[_Row], words: Sequence[bytes], where: str) -> Unit | None:
    """The unit that stands behind every number, or in a line of words. Raises DataError when it is not one."""
    behind = {unit for row in rows for unit in row.units}
    if behind and (len(behind) > 1 or not all(row.units for row in rows)):
        raise DataError(
            "some numbers stand with a unit, others without or with another one", where=where,
            expected="one unit behind every number, or none", found=shown(next(row.line for row in rows if row.units)),
        )  # fmt: skip
    said = {next(filter(None, found))[:1].upper() for line in words for found in _STATED_UNIT.findall(line)}
    both = behind | said
    if len(both) > 1:
        raise DataError(
            "this file states more than one unit", where=where, expected="one unit",
            found=", ".join(sorted(each.decode() for each in both)),
        )  # fmt: skip
    letters: dict[bytes, Unit] = {b"C": "C", b"K": "K", b"F": "F"}
    return letters[both.pop()] if both else None
