"""A text is read in one way or refused: frames, empty cells, damage, headers, row numbers, tables and units."""

from __future__ import annotations

import fuzz_reading
import numpy as np
import pytest

from thermocancer.errors import DataError
from thermocancer.thermal.reading import parse_frames, parse_matrix

CELSIUS = np.round(np.random.default_rng(11).uniform(19, 36, (12, 16)), 2)
HEIGHT, WIDTH = CELSIUS.shape


def text_of(celsius: np.ndarray = CELSIUS, separator: str = ";", form: str = "%.2f", end: str = "\n") -> str:
    return "".join(separator.join(form % value for value in row) + end for row in celsius)


PLAIN = text_of()
COMMAS = PLAIN.replace(".", ",")


def read(text: str | bytes, **options: object) -> np.ndarray:
    content = text.encode() if isinstance(text, str) else text
    return parse_matrix(content, where="a.csv", **options).celsius  # type: ignore[arg-type]


def refuse(text: str | bytes, match: str) -> DataError:
    with pytest.raises(DataError, match=match) as caught:
        read(text)
    return caught.value


# --- several frames -----------------------------------------------------------------

FRAMES = [CELSIUS + number for number in range(3)]
SEQUENCES = {
    "blank lines between": "\n".join(map(text_of, FRAMES)),
    "blank line behind each": "".join(text_of(each) + "\n" for each in FRAMES),
    "Frame N above each": "".join(f"Frame {number}\n{text_of(each)}" for number, each in enumerate(FRAMES)),
    "Frame N, time": "".join(f"Frame {number}, 0.0{number}3 s\n{text_of(each)}" for number, each in enumerate(FRAMES)),
    "times above each": "".join(f"2021-03-04 10:22:3{number}.5\n{text_of(each)}" for number, each in enumerate(FRAMES)),
    "with a header before all": "FLIR\nEmissivity;0.98\n\n" + "\n\n".join(map(text_of, FRAMES)),
    "CR LF": "\r\n".join(text_of(each, end="\r\n") for each in FRAMES),
    "decimal commas": "\n".join(text_of(each).replace(".", ",") for each in FRAMES),
    "with row numbers": "\n".join(
        "".join(f"{number};{line}\n" for number, line in enumerate(text_of(each).splitlines(), 1)) for each in FRAMES
    ),
}


@pytest.mark.parametrize("text", SEQUENCES.values(), ids=SEQUENCES)
def test_frames_are_counted_refused_and_can_be_chosen(text: str) -> None:
    error = refuse(text, "several frames")
    assert error.found == f"3 frames of {HEIGHT}x{WIDTH}"
    assert "frame=0" in str(error.hint)
    assert "read_frames" in str(error.hint)
    frames = parse_frames(text.encode())
    assert len(frames) == 3
    for number, expected in enumerate(FRAMES):
        assert np.allclose(frames[number].celsius, expected)
        assert np.allclose(read(text, frame=number), expected)
    with pytest.raises(DataError, match="no such frame") as caught:
        read(text, frame=3)
    assert caught.value.found == "frame=3"


def test_one_matrix_is_one_frame() -> None:
    assert np.array_equal(read(PLAIN, frame=0), CELSIUS)
    assert len(parse_frames(PLAIN.encode())) == 1
    assert np.array_equal(read(PLAIN.replace("\n", "\n\n")), CELSIUS)  # a blank line behind every line divides nothing


@pytest.mark.parametrize("lines", [1, 5, 11])
def test_what_a_blank_line_divides_unevenly_is_shown_in_both_ways(lines: int) -> None:
    error = refuse(text_of(CELSIUS[:lines]) + "\n" + text_of(CELSIUS[lines:]), "not alike")
    assert error.found == f"{lines}x{WIDTH}, {HEIGHT - lines}x{WIDTH}"
    assert f"one matrix of {HEIGHT} lines" in str(error.expected)


def test_a_sequence_whose_last_frame_is_cut_is_refused() -> None:
    error = refuse("\n".join(map(text_of, FRAMES))[: -5 * WIDTH * 6], "not alike|cut off")
    assert error.found == f"{HEIGHT}x{WIDTH}, {HEIGHT}x{WIDTH}, {HEIGHT - 5}x{WIDTH}"


# --- empty cells and damage ---------------------------------------------------------


@pytest.mark.parametrize("separator", [";", ",", "\t"])
@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (HEIGHT - 1, WIDTH - 1)])
def test_an_empty_cell_is_named_and_shifts_nothing(separator: str, trailing: bool, row: int, column: int) -> None:
    cells = [[f"{value:.2f}" for value in line] for line in CELSIUS]
    cells[row][column] = ""
    text = "".join(separator.join(line) + separator * trailing + "\n" for line in cells)
    with pytest.raises(DataError, match=r"cell is empty|unequal length") as caught:
        read(text)
    assert str(caught.value.where).startswith(f"a.csv:{row + 1}") or (row, column) == (HEIGHT - 1, WIDTH - 1)


def test_an_empty_cell_is_not_made_up_for_by_a_separator_elsewhere() -> None:
    for text, value in (
        ("20.1;;20.3\n20.4;20.5;\n", 2),
        ("20.1;;20.3;\n20.4;20.5;20.6\n20.7;20.8;20.9;\n", 2),
        (";20.1;20.2\n20.3;20.4;\n", 1),
    ):
        assert refuse(text, "cell is empty").where == f"a.csv:1 (value {value})"


def test_a_line_of_separators_is_no_blank_line() -> None:
    assert str(refuse(PLAIN + ";" * (WIDTH - 1) + "\n", "empty").where).startswith(f"a.csv:{HEIGHT + 1}")


@pytest.mark.parametrize("byte", [*range(1, 9), 11, 12, *range(14, 32), 127])
def test_a_control_character_is_an_error_with_its_line(byte: int) -> None:
    for place in (0, len(PLAIN) // 2, len(PLAIN)):
        content = bytearray(PLAIN.encode())
        content[place:place] = bytes([byte])
        error = refuse(bytes(content), "control character")
        assert error.where == f"a.csv:{PLAIN[:place].count(chr(10)) + 1}"
        assert f"0x{byte:02x}" in str(error.found)
        content = bytearray(PLAIN.encode())
        content[min(place, len(PLAIN) - 2)] = byte
        refuse(bytes(content), "control character")


def test_a_carriage_return_within_a_line_is_an_error() -> None:
    for text in (PLAIN.replace(";", "\r", 1), PLAIN.replace(";", ";\r", 1)):
        error = refuse(text, "control character")
        assert (error.where, "0x0d" in str(error.found)) == ("a.csv:1", True)


CUT = {
    "behind the decimal point": PLAIN[:-3],
    "one decimal short": PLAIN[:-2],
    "before the decimal point": PLAIN[:-4],
    "within the whole part": PLAIN[:-5],
    "commas": COMMAS[:-3],
    "behind a header": "FLIR\n" + PLAIN[:-3],
    "trailing separators": text_of(end=";\n")[:-4],
    "trailing separators, before the last": text_of(end=";\n")[:-2],
    "of several widths": text_of(CELSIUS * 4 - 70)[:-2],
    "of several widths, at the point": text_of(CELSIUS * 4 - 70)[:-3],
    "exponent gone": text_of(form="%.6e")[:-5],
    "half an exponent": text_of(form="%.6e")[:-2],
    "an exponent's sign": text_of(form="%.6e")[:-3],
    "whole numbers": text_of(CELSIUS * 100 + 27315, form="%d")[:-2],
    "CR LF": text_of(end="\r\n")[:-3],
    "a size is stated": f"{HEIGHT} {WIDTH}\n" + text_of(CELSIUS[:-1]),
}


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_a_file_cut_in_its_last_number_is_cut_off(text: str) -> None:
    error = refuse(text, "cut off")
    assert "again" in str(error.hint)


def test_a_whole_file_without_its_last_line_end_is_read() -> None:
    for text in (PLAIN, COMMAS, text_of(form="%.6e"), text_of(end="\r\n"), text_of(CELSIUS * 4 - 70)):
        assert read(text.rstrip("\r\n")).shape == CELSIUS.shape
    assert read("2.1e1;2.2e1;2.3e1\n2.1e1;2.2e1;23.5e+00").shape == (2, 3)


@pytest.mark.parametrize(
    "cell", ["2x.11", "ERROR", "#2.11", '"2.11', "2..1", "-.-", ">16x", "20.1*", "\xb20.11", "1_0.1"]
)
@pytest.mark.parametrize("row", [0, 1, HEIGHT - 1])
def test_a_broken_cell_is_no_header(cell: str, row: int) -> None:
    lines = PLAIN.splitlines()
    for column in (0, WIDTH - 1):
        cells = lines[row].split(";")
        cells[column] = cell
        text = "\n".join([*lines[:row], ";".join(cells), *lines[row + 1 :], ""])
        error = refuse(text.encode("latin-1"), "not a number")
        assert error.where == f"a.csv:{row + 1} (value {column + 1})"
        assert str(error.found).startswith("'")


def test_two_decimal_marks_are_not_mixed() -> None:
    assert refuse(PLAIN.replace(".", ",", 1), "not a number")
    assert refuse(COMMAS.replace(",", ".", 1), "not a number")
    assert refuse("1,234.5;20.1\n20.2;20.3\n", "not a number")


def test_a_torn_line_is_no_header() -> None:
    assert refuse(PLAIN[:1] + "\n" + PLAIN[1:], "unequal length").where == "a.csv:1"
    assert refuse(PLAIN[:20] + "\n" + PLAIN[20:], "unequal length").where == "a.csv:2"
    assert refuse("30;31;32\n" + "30.5;31.5;32.5;33.5\n" * 3, "unequal length")
    assert refuse(PLAIN + f"\n{HEIGHT};{WIDTH}\n", "not alike")


def test_damaged_texts_are_never_taken_for_others() -> None:
    counts = fuzz_reading.fuzz(2000, seed=12)
    assert not counts.examples
    assert counts.outcomes["right"] > 100
    assert counts.outcomes["refused"] > 1000


# --- headers, row numbers, tables ---------------------------------------------------

NUMBERED = "".join(f"{number};{line}\n" for number, line in enumerate(PLAIN.splitlines()))
COUNT = ";".join(map(str, range(WIDTH)))
NAMES = ";".join(f"column{number}" for number in range(WIDTH))
QUOTED = "".join(";".join(f'"{value:.2f}"' for value in row) + "\n" for row in CELSIUS)
DRESSES = {
    "pandas, index and columns": (f";{COUNT}\n{NUMBERED}", ("column numbers", "row numbers (0 to 11)")),
    "pandas, columns only": (f"{COUNT}\n{PLAIN}", ("column numbers",)),
    "pandas, names and index": (f";{NAMES}\n{NUMBERED}", ("1 header line", "row numbers")),
    "columns counted with decimals": (
        ";".join(f"{number}.0" for number in range(WIDTH)) + "\n" + PLAIN,
        ("column numbers",),
    ),
    "row numbers beside exponents": (
        "".join(f"{number} {line}\n" for number, line in enumerate(text_of(separator=" ", form="%.4e").splitlines())),
        ("row numbers (0 to 11)",),
    ),
    "names only": (f"{NAMES}\n{PLAIN}", ("1 header line",)),
    "row numbers from 1": (
        "".join(f"{n};{line}\n" for n, line in enumerate(COMMAS.splitlines(), 1)),
        ("row numbers (1 to 12)",),
    ),
    "a named corner": (f"y\\x;{COUNT}\n{NUMBERED}", ("column numbers", "row numbers")),
    "R": (
        " ".join(f'"V{n}"' for n in range(WIDTH))
        + "\n"
        + "".join(f'"{n}" {line}\n' for n, line in enumerate(text_of(separator=" ").splitlines(), 1)),
        ("1 header line", "row numbers", "quoted numbers"),
    ),
    "counts from 1, one fewer": (
        " ".join(str(n + 1) for n in range(WIDTH))
        + "\n"
        + "".join(f"{n} {line}\n" for n, line in enumerate(text_of(separator=" ").splitlines(), 1)),
        ("column numbers", "row numbers"),
    ),
    "FLIR": (
        f"File:;IR_0001.jpg\nObject Parameters\nEmissivity:;0,98\nRefl. temp.:;20,0 \xb0C\n\n{COMMAS}",
        ("4 header lines", "decimal commas"),
    ),
    "FLIR, rows and columns": (
        f"sep=;\nEmissivity;0,98\n;{COUNT}\n{NUMBERED.replace('.', ',')}",
        ("2 header lines", "column numbers", "row numbers"),
    ),
    "Testo": (
        f"Testo;875-2i\nDatum;04.03.2021\nEmissionsgrad;0,95\nRefl. Temp. [\xb0C];20,0\n\n{COMMAS}",
        ("4 header lines",),
    ),
    "Optris": ("PI Connect\nDate: 2021-03-04\nEmissivity: 0.980\n" + text_of(separator="\t"), ("3 header lines",)),
    "a time": (f"2021-03-04 10:22:33.5\n{PLAIN}", ("1 header line",)),
    "size and frames": (f"{WIDTH};{HEIGHT};1\n{PLAIN}", ("1 header line",)),
    "footer": (f"{PLAIN}\nMin;20,1\nMax;33.2\nMittelwert: 23,2\n", ("3 footer lines",)),
    "quoted": (QUOTED, ("quoted numbers",)),
    "quoted, decimal commas": (QUOTED.replace(".", ","), ("quoted numbers",)),
    "quoted, commas everywhere": (QUOTED.replace(".", ",").replace(";", ","), ("quoted numbers",)),
    "a unit behind every number": (text_of(separator=",", form="%.2f\xb0C"), ("unit stated: C",)),
    "a unit, decimal commas": (text_of(form="%.2f \xb0C").replace(".", ","), ("unit stated: C", "decimal commas")),
    "NumPy's brackets": (
        "[" + "\n ".join(f"[{line}]" for line in text_of(separator=" ").splitlines()) + "]\n",
        ("brackets",),
    ),
    "JSON": ("[" + ",".join(f"[{line}]" for line in text_of(separator=", ").splitlines()) + "]", ("brackets",)),
    "named x, y": (
        "x,y,T\n" + "".join(f"{x},{y},{CELSIUS[y, x]}\n" for y in range(HEIGHT) for x in range(WIDTH)),
        ("x, y, T",),
    ),
    "named row, column": (
        "row;col;temp\n" + "".join(f"{y};{x};{CELSIUS[y, x]}\n" for x in range(WIDTH) for y in range(HEIGHT)),
        ("row, col, temp",),
    ),
}


@pytest.mark.parametrize(("text", "notes"), DRESSES.values(), ids=DRESSES)
def test_a_dress_that_can_only_be_one_thing_is_taken_off_and_noted(text: str, notes: tuple[str, ...]) -> None:
    for encoding in ("utf-8", "latin-1"):
        matrix = parse_matrix(text.encode(encoding), where="a.csv")
        assert np.array_equal(matrix.celsius, CELSIUS)
        for note in notes:
            assert note in " | ".join(matrix.notes)


@pytest.mark.parametrize("torn", ['"4"59.50', '45"9.50"', '"45"."9"', '4"5"', '-"4"5.0'])
def test_quotation_marks_inside_a_number_tear_it(torn: str) -> None:
    lines = text_of(separator=";").splitlines()
    cells = lines[3].split(";")
    lines[3] = ";".join([*cells[:2], torn, *cells[3:]])
    with pytest.raises(DataError):
        read("\n".join(lines) + "\n")


def test_a_ramp_is_no_count() -> None:
    for ramp in (
        np.arange(100.0).reshape(10, 10),
        np.add.outer(np.arange(8.0), np.arange(9.0)),
        np.arange(12.0).reshape(4, 3),
    ):
        assert np.array_equal(read(text_of(ramp, form="%d"), unit="C"), ramp)
        assert np.array_equal(read(text_of(ramp, form="%.2f"), unit="C"), ramp)


def test_a_chinese_header_is_a_header() -> None:
    assert np.array_equal(read("温度数据,℃\n".encode("gbk") + text_of(separator=",").encode()), CELSIUS)


PLACES = "".join(f"{x},{y},{CELSIUS[y, x]:.2f}\n" for y in range(HEIGHT) for x in range(WIDTH))
DOUBTFUL = {
    "x, y, T without names": (
        PLACES,
        "columns have no names",
        f"{HEIGHT}x{WIDTH} if the first column is x, {WIDTH}x{HEIGHT}",
    ),
    "x, y, T without names, cut": (PLACES[:-40], "columns have no names|cut off", ""),
    "x, y, T with holes": ("x,y,T\n" + PLACES[: PLACES.index("\n", 800) + 1], "holes", ""),
    "rows counted from elsewhere": (
        "".join(f"{n + 100};{line}\n" for n, line in enumerate(PLAIN.splitlines())),
        "counts upwards",
        f"{HEIGHT}x{WIDTH}",
    ),
    "columns counted, rows not": (
        f";{COUNT}\n" + "".join(f"21.5;{line}\n" for line in PLAIN.splitlines()),
        "no column of row numbers",
        "",
    ),
    "a frame's number and time in every line": (
        "".join(f"1;0.033;{line}\n" for line in PLAIN.splitlines()),
        "one number, far from all",
        "1 in every line",
    ),
    "numbers above": ("0.98;20.0;1.0\n" + PLAIN, "unequal length", "3: '0.98;20.0;1.0'"),
    "two matrices beside one another in height": (PLAIN + "\n" + text_of(CELSIUS[:, :8]), "not alike", "12x16, 12x8"),
    "commas everywhere": (
        text_of(separator=",").replace(".", ","),
        "separators or decimal",
        f"{HEIGHT}x{WIDTH} with decimal commas, {HEIGHT}x{2 * WIDTH} without",
    ),
    "one number a line": (text_of(separator="\n"), "only one number", f"{HEIGHT * WIDTH} lines"),
    "some with a unit": (text_of(form="%.2fC").replace("C", "", WIDTH), "with a unit, others without", ""),
    "UTF-16 without a mark": ("\0".join(PLAIN) + "\0", "binary", ""),
}


@pytest.mark.parametrize(("text", "what", "found"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_could_be_two_things_is_refused(text: str, what: str, found: str) -> None:
    assert found in str(refuse(text, what).found)


BY_SHAPE = {
    "commas everywhere": (text_of(separator=",").replace(".", ","), CELSIUS),
    "whole numbers": (text_of(np.rint(CELSIUS), ",", "%d"), np.rint(CELSIUS)),
    "one number a line": (text_of(separator="\n"), CELSIUS),
    "one number a line, decimal commas": (text_of(separator="\n", end="\r\n").replace(".", ","), CELSIUS),
    "x, y, T": (PLACES, CELSIUS),
    "y, x, T": ("".join(f"{y};{x};{CELSIUS[y, x]}\n" for x in range(WIDTH) for y in range(HEIGHT)), CELSIUS),
    "a frame's number and time": ("".join(f"1;0.033;{line}\n" for line in PLAIN.splitlines()), CELSIUS),
    "settings on top": ("0.98;20.0;1.0\n" + PLAIN, CELSIUS),
    "what needs no shape": (PLAIN, CELSIUS),
}


@pytest.mark.parametrize(("text", "celsius"), BY_SHAPE.values(), ids=BY_SHAPE)
def test_the_shape_chooses_where_lines_can_be_two_things(text: str, celsius: np.ndarray) -> None:
    assert np.array_equal(read(text, shape=(HEIGHT, WIDTH)), celsius)
    if text != PLAIN:
        with pytest.raises(DataError):
            read(text, shape=(HEIGHT + 1, WIDTH))


@pytest.mark.parametrize("separator", [";", " ", ",", "\t"])
@pytest.mark.parametrize("cell", ["---", "n/a", ">160.0", "<-20", "null"])
def test_a_cell_for_a_pixel_without_a_temperature_is_missing_and_noted(cell: str, separator: str) -> None:
    text = text_of(separator=separator)
    matrix = parse_matrix(text.replace(f"{CELSIUS[5, 5]:.2f}", cell, 1).encode())
    assert np.array_equal(np.isnan(matrix.celsius), CELSIUS[5, 5] == CELSIUS)
    assert np.array_equal(matrix.celsius[:5], CELSIUS[:5])
    assert f"1 cells without a value, such as '{cell}', read as missing" in matrix.notes


@pytest.mark.parametrize("cell", ["-", "**", "na", "#REF!", "> 160", "--5"])
def test_a_cell_that_may_be_a_torn_number_is_refused(cell: str) -> None:
    with pytest.raises(DataError, match=r"not a number|unequal|no temperature|words"):
        read(PLAIN.replace(f"{CELSIUS[5, 5]:.2f}", cell, 1))


def test_a_line_drawn_under_a_title_is_no_row_and_a_row_of_dashes_is_refused() -> None:
    assert np.array_equal(read(f"Export\n-----\n{PLAIN}====\n"), CELSIUS)
    refuse(";".join(["---"] * WIDTH) + "\n" + PLAIN, "not a number")


# --- units --------------------------------------------------------------------------

UNITS = {
    "K": (CELSIUS + 273.15, "%.2f", "kelvin"),
    "F": (CELSIUS * 9 / 5 + 32, "%.4f", "Fahrenheit"),
    "cK": (np.rint(CELSIUS * 100 + 27315), "%d", "hundredths of a kelvin"),
    "mK": (np.rint(CELSIUS * 1000 + 273150), "%d", "thousandths of a kelvin"),
    "cC": (np.rint(CELSIUS * 100), "%d", "hundredths of a degree Celsius"),
}


@pytest.mark.parametrize("unit", UNITS)
def test_another_unit_is_named_and_converted_exactly_when_told(unit: str) -> None:
    numbers, form, name = UNITS[unit]
    for separator in (";", ","):
        text = text_of(numbers, separator, form)
        error = refuse(text, name)
        assert f'unit="{unit}"' in str(error.hint)
        matrix = parse_matrix(text.encode(), unit=unit)  # type: ignore[arg-type]
        assert np.array_equal(matrix.centi, np.rint(CELSIUS * 100))
        assert name in " ".join(matrix.notes)
        if unit != "F":
            assert np.array_equal(matrix.celsius, CELSIUS)  # to the last bit: 304.15 K are 31 degC
        assert np.array_equal(read(text, unit="C"), np.round(numbers, 4))


def test_raw_counts_need_a_calibration() -> None:
    text = text_of(CELSIUS * 10 + 13000, ",", "%d")
    error = refuse(text, "raw counts")
    assert "calibration" in str(error.hint)
    with pytest.raises(DataError, match="no temperatures") as caught:
        read(text, unit="raw")
    assert "calibration" in str(caught.value.expected)
    counts = np.floor(CELSIUS * 10 + 13000)
    assert np.allclose(read(text, unit="raw", calibration=lambda raw: (raw - 13000) / 10), (counts - 13000) / 10)
    assert refuse(text_of(CELSIUS * 6, ";", "%d"), "raw counts")


def test_a_unit_between_two_is_shown_as_both() -> None:
    assert refuse(text_of(CELSIUS * 10 + 2731.5, ";", "%d"), "hundredths of a degree Celsius or tenths of a kelvin")


STATED = {
    "Unit: K": CELSIUS + 273.15,
    "Temperature unit;\xb0F": CELSIUS * 9 / 5 + 32,
    "units = kelvin": CELSIUS + 273.15,
    "Temperature [K]": CELSIUS + 273.15,
    "Unit: \xb0C": CELSIUS,
}


@pytest.mark.parametrize("header", STATED)
def test_a_unit_that_the_file_states_is_taken_and_noted(header: str) -> None:
    text = f"{header}\n{text_of(STATED[header], form='%.5f')}"
    matrix = parse_matrix(text.encode())
    assert np.allclose(matrix.celsius, CELSIUS, atol=1e-5)
    assert any(note.startswith("unit stated") for note in matrix.notes)


def test_a_stated_unit_that_cannot_be_is_refused() -> None:
    seen = f"{CELSIUS.min():.2f} to {CELSIUS.max():.2f}"
    assert refuse(f"Unit: K\n{PLAIN}", "not kelvin").found == seen
    assert refuse(text_of(CELSIUS, form="%.2fK"), "not kelvin").found == seen
    kelvin = refuse(f"Unit: C\n{text_of(CELSIUS + 273.15)}", "look like kelvin")
    assert str(kelvin.expected).endswith("as the file states")
    assert refuse(f"Unit: C\nUnit: K\n{PLAIN}", "more than one unit").found == "C, K"


def test_dead_pixels_do_not_hide_the_unit() -> None:
    kelvin = CELSIUS + 273.15
    kelvin[0, 0] = 0.0
    assert 'unit="K"' in str(refuse(text_of(kelvin), "look like kelvin").hint)
    with pytest.raises(ValueError, match="unknown unit"):
        read(PLAIN, unit="R")
