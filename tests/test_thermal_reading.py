"""Every layout that a camera or an export writes is read exactly; everything else is refused with its place."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import decode_any_width, decode_fixed_width
from thermocancer.thermal.quality import measure_matrix
from thermocancer.thermal.reading import parse_matrix, read_matrix, to_centi
from thermocancer.thermal.regions import filled
from thermocancer.thermal.units import Unit
from thermocancer.thermal.writing import format_matrix

HEIGHT, WIDTH = 48, 64


def make_celsius(decimals: int = 2, low: float = 18.0, high: float = 38.0) -> np.ndarray:
    random = np.random.default_rng([decimals, int(low)])
    return np.round(random.uniform(low, high, (HEIGHT, WIDTH)), decimals)


def text_of(celsius: np.ndarray, separator: str = " ", decimals: int = 2, end: str = "\n") -> bytes:
    return "".join(separator.join(f"{v:.{decimals}f}" for v in row) + end for row in celsius).encode()


CELSIUS = make_celsius()
PLAIN = text_of(CELSIUS)
SEMICOLON = text_of(CELSIUS, ";")

LAYOUTS = {
    "canonical": (PLAIN, "space2", ()),
    "semicolon five decimals": (text_of(CELSIUS, ";", 5), "semicolon5", ()),
    "comma": (text_of(CELSIUS, ","), "comma2", ()),
    "tab": (text_of(CELSIUS, "\t"), "tab2", ()),
    "comma and space": (text_of(CELSIUS, ", "), "comma2", ()),
    "semicolon and space": (text_of(CELSIUS, " ; "), "semicolon2", ()),
    "several spaces": (text_of(CELSIUS, "   "), "space2", ()),
    "indented": (b"".join(b"  " + line + b"\n" for line in PLAIN.splitlines()), "space2", ()),
    "one decimal": (text_of(np.round(CELSIUS, 1), " ", 1), "space1", ()),
    "decimal comma, semicolon": (SEMICOLON.replace(b".", b","), "semicolon2", ("decimal commas",)),
    "decimal comma, space": (PLAIN.replace(b".", b","), "space2", ("decimal commas",)),
    "decimal comma, tab": (text_of(CELSIUS, "\t").replace(b".", b","), "tab2", ("decimal commas",)),
    "CR LF": (text_of(CELSIUS, end="\r\n"), "space2", ("CR LF line ends",)),
    "CR CR LF": (text_of(CELSIUS, end="\r\r\n"), "space2", ("CR CR LF line ends",)),
    "CR CR LF, semicolon": (text_of(CELSIUS, ";", 5, "\r\r\n"), "semicolon5", ("CR CR LF line ends",)),
    "CR alone": (text_of(CELSIUS, end="\r"), "space2", ("CR line ends",)),
    "byte-order mark": (b"\xef\xbb\xbf" + PLAIN, "space2", ("UTF-8 byte-order mark",)),
    "UTF-16": (PLAIN.decode().encode("utf-16"), "space2", ("UTF-16-LE byte-order mark",)),
    "trailing separator": (text_of(CELSIUS, ";", end=";\n"), "semicolon2", ("trailing separators",)),
    "trailing space": (text_of(CELSIUS, end=" \r\n"), "space2", ("CR LF line ends",)),
    "header line": (b"Frame 1 of 20, emissivity 0.98\n" + PLAIN, "space2", ("1 header line",)),
    "two header lines and the size": (b"# FLIR\n480 640\n" + PLAIN, "space2", ("2 header lines",)),
    "header and CR CR LF": (
        b"FLIR;\r\r\n" + text_of(CELSIUS, ";", end="\r\r\n"),
        "semicolon2",
        ("1 header line", "CR CR LF line ends"),
    ),
    "blank last lines": (PLAIN + b"\n\n", "space2", ()),
    "blank first line": (b"\n" + PLAIN, "space2", ()),
    "blank lines between": (PLAIN.replace(b"\n", b"\n\n"), "space2", ("blank lines",)),
    "no last line end": (PLAIN[:-1], "space2", ()),
}  # fmt: skip


@pytest.mark.parametrize(("content", "layout", "notes"), LAYOUTS.values(), ids=LAYOUTS)
def test_layout_is_read_exactly(content: bytes, layout: str, notes: tuple[str, ...]) -> None:
    matrix = parse_matrix(content, where="T0001.txt")
    expected = np.round(CELSIUS, 1) if layout == "space1" else CELSIUS
    assert matrix.celsius.dtype == np.float64
    assert np.array_equal(matrix.celsius, expected)
    assert matrix.layout == layout
    assert set(notes) <= set(matrix.notes)
    if "line ends" not in " ".join(matrix.notes):
        assert set(matrix.notes) == set(notes)


OF_ONE_WIDTH = (
    "canonical", "semicolon five decimals", "comma", "tab", "comma and space", "semicolon and space", "several spaces",
    "indented", "decimal comma, semicolon", "CR LF", "CR CR LF, semicolon", "trailing separator", "trailing space",
    "blank last lines", "no last line end",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_ONE_WIDTH)
def test_what_cameras_write_goes_the_fast_way(name: str) -> None:
    content, layout, notes = LAYOUTS[name]
    found = decode_fixed_width(content)
    assert found is not None
    assert np.array_equal(found.numbers / 10**found.decimals, CELSIUS)
    assert (found.layout, found.notes) == (layout, notes)


@pytest.mark.parametrize(
    ("text", "decimals", "trailing"),
    [
        ("5 -0.5 12.25\n100. .5 7\n", 2, False),
        ("1;22;333\n-4444;5;66\n", 0, False),
        ("1.5;22.5;333.5;\n4.5;5.5;6.5;\n", 1, True),
        ("7.5 ; 12.25\n 8.5;9.125\n", 3, False),
        ("20.5 20.25\n" * 30_000 + "1.125 2.5\n", 3, False),  # longer than one piece, the last with more decimals
        ("123456789012345 1\n", 0, False),
    ],
    ids=["signs and bare marks", "whole", "a separator behind each", "spaces around", "many pieces", "fifteen digits"],
)
def test_numbers_of_any_width_go_the_second_way(text: str, decimals: int, trailing: bool) -> None:
    separator = ";" if ";" in text else " "
    found = decode_any_width(text.encode(), separator.encode(), b".")
    assert found is not None
    expected = [[float(cell) for cell in line.replace(";", " ").split()] for line in text.splitlines()]
    assert np.array_equal(found.numbers / 10**decimals, expected)
    assert (found.decimals, bool(found.notes)) == (decimals, trailing)
    assert found.layout == f"{'semicolon' if separator == ';' else 'space'}{decimals}"


@pytest.mark.parametrize(
    "text",
    [
        "1;2;3\n1;2\n", "1;;3\n1;2;3\n", "1;2;3;\n1;2;3\n", "1;2 3\n4;;5 6\n", "1.2.3;4\n5;6\n", "1;2\n3;x\n",
        "1;-\n3;4\n",
        "1;.\n3;4\n", "1;+2\n3;4\n", "1,5;2\n3;4\n", "1\t2;3\n4;5;6\n", "1234567890123456;1\n", ".5;1234567890123456\n",
        "1;2\n;3;4\n", "1-5;2\n3;4\n", "1.5;2.5\n3.5;45.\n6..5;7\n",
    ],
)  # fmt: skip
def test_no_other_line_goes_the_second_way(text: str) -> None:
    assert decode_any_width(text.encode(), b";", b".") is None


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace(b".", b",", 1), PLAIN[:-4] + b"x" + PLAIN[-3:], PLAIN + b"20.5\n", PLAIN.replace(b" ", b";", 1),
        PLAIN.replace(b" ", b"\t", 1), PLAIN[1:], PLAIN.replace(b"\n", b" \n", 1),
        text_of(np.full((9, 9), 1000.5), " ", 12),
    ],
    ids=["comma", "letter", "short line", "semicolon", "tab", "torn first", "space at the end", "17 digits"],
)  # fmt: skip
def test_no_other_text_goes_the_fast_way(content: bytes) -> None:
    assert decode_fixed_width(content) is None


@pytest.mark.parametrize(
    ("low", "high", "decimals"),
    [
        (18, 38, 2),
        (18, 38, 5),
        (5, 45, 2),
        (0, 12, 3),
        (95, 105, 1),
        (-5, 5, 2),
        (18, 38, 9),
        (18, 38, 13),
        (20, 30, 0),
    ],
)
@pytest.mark.parametrize("separator", [" ", ";"])
def test_numbers_equal_loadtxt_bit_for_bit(low: float, high: float, decimals: int, separator: str) -> None:
    random = np.random.default_rng(decimals)
    celsius = random.uniform(low, high, (HEIGHT, WIDTH))
    content = text_of(celsius, separator, decimals)
    reference = np.loadtxt(io.BytesIO(content), delimiter=separator)
    assert np.array_equal(parse_matrix(content).celsius, reference)
    assert parse_matrix(content).decimals == decimals


def test_numbers_of_many_widths_and_forms_equal_loadtxt() -> None:
    random = np.random.default_rng(7)
    forms = ("{:.2f}", "{:.0f}", "{:.4f}", "+{:.1f}", "{:.3e}", "0{:.2f}")
    cells = [[random.choice(forms).format(value) for value in row] for row in random.uniform(1, 120, (20, 30))]
    content = "\n".join(" ".join(row) for row in cells).encode() + b"\n"
    assert np.array_equal(parse_matrix(content).celsius, np.loadtxt(io.BytesIO(content)))


def test_trailing_zeros_left_out_are_no_truncation() -> None:
    content = "\n".join(";".join(f"{v:.5f}".rstrip("0").rstrip(".") for v in row) for row in CELSIUS).encode()
    assert np.array_equal(parse_matrix(content).celsius, CELSIUS)


def test_not_a_number_is_read_as_such_for_the_quality_verdict() -> None:
    content = PLAIN.replace(PLAIN[:5], b"NaN", 1)
    matrix = parse_matrix(content)
    assert np.isnan(matrix.celsius[0, 0])
    assert measure_matrix(matrix.celsius).not_finite == 1
    assert matrix.missing is not None
    assert matrix.missing.sum() == 1
    assert np.isnan(matrix.degrees[0, 0])
    assert matrix.centi[0, 0] == round(100 * filled(matrix.degrees)[0, 0]), "the frame's own background, never 0 degC"
    with pytest.raises(DataError, match="hundredths"):
        _ = parse_matrix(b"NaN NaN\nNaN NaN\n").centi


@pytest.mark.parametrize("unit", ["K", "cK", "F", "raw"])
def test_fill_of_another_unit_stays_fill(unit: Unit) -> None:
    celsius = np.round(np.random.default_rng(3).uniform(20, 34, (12, 16)), 2)
    factor, zero = {"K": (1, 273.15), "cK": (100, 27315), "F": (1.8, 32), "raw": (100, 900)}[unit]
    with_fill = np.round(factor * celsius + zero, 2)
    with_fill[:, :5] = 0
    text = "\n".join(" ".join(f"{each:.2f}" for each in row) for row in with_fill) + "\n"
    if unit == "K":
        with pytest.raises(DataError, match="kelvin"):  # fill does not hide what the others look like
            parse_matrix(text.encode())
    matrix = parse_matrix(text.encode(), unit=unit, calibration=lambda counts: (counts - 900) / 100)
    assert matrix.missing is not None
    assert matrix.missing.sum() == 12 * 5
    assert np.abs(matrix.celsius[:, 5:] - celsius[:, 5:]).max() < 0.01
    assert matrix.centi.min() >= 1990


LINES = PLAIN.splitlines(keepends=True)
BROKEN = {
    "empty": (b"", "empty", "bad.txt"),
    "only blanks": (b" \n\r\n ", "empty", "bad.txt"),
    "web page": (b"<!DOCTYPE html>\n<html><body>login</body></html>", "web page", "bad.txt:1"),
    "web page after a byte-order mark": (b"\xef\xbb\xbf\n<html>", "web page", "bad.txt:1"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100), "binary", "bad.txt"),
    "prose": (b"no temperatures here\nnone at all\n", "no line of numbers", "bad.txt:1"),
    "cut inside a line": (b"".join(LINES[:10]) + LINES[10][:100], "cut off", "bad.txt:11"),
    "cut inside the last number": (PLAIN.rstrip(b"\n")[:-1], "cut off", f"bad.txt:{HEIGHT}"),
    "cut at a decimal point": (PLAIN.rstrip(b"\n")[:-2], "cut off", f"bad.txt:{HEIGHT}"),
    "cut at a separator": (SEMICOLON.rstrip(b"\n")[:-5], "cut off", f"bad.txt:{HEIGHT}"),
    "cut in the first line": (LINES[0][:50], "cut off", "bad.txt"),
    "line too short": (b"".join([*LINES[:5], LINES[5][6:], *LINES[6:]]), "unequal length", "bad.txt:6"),
    "line too long": (b"".join([*LINES[:5], b"20.00 " + LINES[5], *LINES[6:]]), "unequal length", "bad.txt:6"),
    "a word": (PLAIN.replace(LINES[3][:5], b"ERROR", 1), "not a number", "bad.txt:4"),
    "two points": (PLAIN.replace(LINES[3][:5], b"2.0.1", 1), "not a number", "bad.txt:4"),
    "an underscore": (PLAIN.replace(LINES[3][:5], b"2_1.1", 1), "not a number", "bad.txt:4"),
    "a letter for a digit": (PLAIN.replace(LINES[3][:5], b"2O.11", 1), "not a number", "bad.txt:4"),
    "an empty cell": (SEMICOLON.replace(SEMICOLON[6:12], b";", 1), "cell is empty", "bad.txt:1"),
    "commas for everything": (text_of(CELSIUS, ",").replace(b".", b","), "separators or decimal", "bad.txt:1"),
    "comma lists of decimal commas": (text_of(CELSIUS, ", ").replace(b".", b","), "separators or decimal", "bad.txt:1"),
    "one column": (text_of(CELSIUS[:, :1]), "only one number", "bad.txt:1"),
    "one line": (LINES[0], "no matrix", "bad.txt"),
    "broken below a header": (b"FLIR\n" + PLAIN.replace(LINES[3][:5], b"ERROR", 1), "not a number", "bad.txt:5"),
}


@pytest.mark.parametrize(("content", "what", "where"), BROKEN.values(), ids=BROKEN)
def test_broken_content_is_refused_with_its_place(content: bytes, what: str, where: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        parse_matrix(content, where="bad.txt")
    assert str(caught.value.where).split(" ")[0] == where
    assert caught.value.found


@pytest.mark.parametrize("keep", range(0, len(PLAIN), 997))
def test_no_truncation_passes_for_a_whole_matrix(keep: int) -> None:
    try:
        matrix = parse_matrix(PLAIN[:keep])
    except DataError:
        return
    # what remains is whole lines, which the expected shape gives away
    assert np.array_equal(matrix.celsius, CELSIUS[: matrix.shape[0]])
    assert matrix.shape[0] < HEIGHT


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_matrix(tmp_path / "T0001.txt")
    assert "T0001.txt" in str(caught.value.where)
    with pytest.raises(DataError, match="cannot be read"):
        read_matrix(tmp_path)


def test_centi_rounds_decimal_halves_to_even() -> None:
    celsius = np.array([[27.625, 27.635, 27.645, 27.62501], [0.005, 0.015, 655.35, 20.0]])
    assert to_centi(celsius).tolist() == [[2762, 2764, 2764, 2763], [0, 2, 65535, 2000]]
    text = b"27.625;27.635\n27.645;27.655\n"
    assert parse_matrix(text).centi.tolist() == [[2762, 2764], [2764, 2766]]


@pytest.mark.parametrize("celsius", [-0.01, 655.36, np.nan, np.inf])
def test_centi_refuses_what_it_cannot_hold(celsius: float) -> None:
    with pytest.raises(DataError, match="hundredths"):
        to_centi(np.array([[20.0, celsius]]))


@pytest.mark.parametrize("layout", ["space2", "semicolon5", "comma2", "tab3", "semicolon2", "space4"])
@pytest.mark.parametrize(("low", "high"), [(1800, 3800), (0, 65535), (900, 1100)])
def test_written_hundredths_come_back(layout: str, low: int, high: int) -> None:
    centi = np.random.default_rng(3).integers(low, high, (HEIGHT, WIDTH), endpoint=True).astype(np.uint16)
    for line_end in (b"\n", b"\r\n", b"\r\r\n"):
        matrix = parse_matrix(format_matrix(centi, layout, line_end=line_end))
        assert matrix.layout == layout
        assert np.array_equal(matrix.centi, centi)


def test_written_text_is_what_printf_writes() -> None:
    celsius = np.random.default_rng(4).uniform(5, 105, (HEIGHT, WIDTH))
    assert format_matrix(celsius, "semicolon5") == text_of(celsius, ";", 5)
    assert format_matrix(np.rint(celsius * 100).astype(np.uint16)) == text_of(np.rint(celsius * 100) / 100)


@pytest.mark.parametrize(
    "temperatures",
    [np.full((2, 2), -1.0), np.full((2, 2), 700.0), np.full((2, 2), np.nan), np.zeros(4), np.zeros((0, 4))],
    ids=["negative", "too hot", "NaN", "not a matrix", "empty"],
)
def test_unwritable_temperatures_are_refused(temperatures: np.ndarray) -> None:
    with pytest.raises(DataError):
        format_matrix(temperatures)


@pytest.mark.parametrize("layout", ["pipe2", "space1", "space", "semicolon6"])
def test_unknown_layout_is_refused(layout: str) -> None:
    with pytest.raises(ValueError, match="unknown layout"):
        format_matrix(np.full((2, 2), 2000, np.uint16), layout)


@pytest.mark.real
def test_real_files_equal_loadtxt() -> None:
    folder = os.environ.get("THERMOCANCER_REAL_DATA")
    if not folder:
        pytest.skip("THERMOCANCER_REAL_DATA does not name a folder of real thermograms")
    files = sorted(Path(folder).rglob("txt_files/*.txt"))[::8]
    assert files, "the folder holds no txt_files/*.txt"
    for path in files:
        content = path.read_bytes().replace(b"\r", b"")
        reference = np.loadtxt(io.BytesIO(content), delimiter=";" if b";" in content else None)
        assert np.array_equal(read_matrix(path).celsius, reference)
