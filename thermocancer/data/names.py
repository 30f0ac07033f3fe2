"""What names say: the DMR-IR grammar ``T0276.1.3.S.2015-03-13.00.txt``, and views in people's own words.

``T`` patient ``.`` visit ``.`` view ``.`` protocol ``.`` date ``.`` index ``.txt``; views 1 to 5 are
Frontal, Right45, Right, Left45, Left; protocol S static, D dynamic; index 00 for static files and
00 to 19 for the frontal frames of a dynamic exam.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from thermocancer.workspace import VIEWS

UNKNOWN_DATE = "0000-00-00"
_GRAMMAR = re.compile(r"T(\d{4,9})\.(\d{1,9})\.(\d{1,9})\.([A-Z])\.(\d{4}-\d{2}-\d{2})\.(\d{2,9})\.txt", re.IGNORECASE)
"""Nine digits at most: longer numbers are none of the site's, and would make names that no disk takes."""


@dataclass(frozen=True)
class ThermogramName:
    """What a file name says. ``date`` is None where the name carries none (``0000-00-00``)."""

    patient: int
    visit: int
    view_code: int
    protocol: str
    date: str | None
    index: int

    @property
    def view(self) -> str | None:
        """The view's name, or None for codes outside 1 to 5."""
        return VIEWS[self.view_code - 1] if 1 <= self.view_code <= len(VIEWS) else None

    @property
    def exam(self) -> str:
        """``PATIENT_VISIT``, as in the original study."""
        return f"{self.patient}_{self.visit}"

    @property
    def file_name(self) -> str:
        date = self.date or UNKNOWN_DATE
        return f"T{self.patient:04d}.{self.visit}.{self.view_code}.{self.protocol}.{date}.{self.index:02d}.txt"

    def tree_path(self, label: str) -> str:
        """Where the file stands under ``raw/`` (and, with another suffix, under ``images/``)."""
        if self.protocol == "D":
            return f"Dynamic/{label}/{self.exam}/{self.file_name}"
        return f"Static/{self.view}/{label}/{self.file_name}"


def parse_name(name: str) -> ThermogramName | None:
    """Read a bare file name; None when it is not in the grammar.

    >>> parse_name("T0276.1.3.S.2015-03-13.00.txt").view
    'Right'
    >>> parse_name("M0279.LEFT_MLO.2017-05-04.00.png") is None
    True
    """
    match = _GRAMMAR.fullmatch(name.strip())
    if match is None:
        return None
    patient, visit, view, protocol, date, index = match.groups()
    return ThermogramName(
        int(patient), int(visit), int(view), protocol.upper(), None if date == UNKNOWN_DATE else date, int(index)
    )


def safe_name(path: object) -> str:
    """A file's name as it can be written anywhere: bytes that are no UTF-8 and control characters are escaped.

    >>> safe_name("cafe\\udce9.csv"), safe_name("two\\nlines")
    ('cafe\\\\xe9.csv', 'two\\\\x0alines')
    """

    def escaped(character: str) -> str:
        code = ord(character) - 0xDC00 if "\udc80" <= character <= "\udcff" else ord(character)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return "".join(each if each.isprintable() else escaped(each) for each in str(path))


_JUNK = frozenset({
    "thumbs.db", "desktop.ini", "@eadir", "__macosx", "ehthumbs.db", "$recycle.bin", "lost+found", "icon\r",
    "__pycache__",
})  # fmt: skip


def is_junk(name: str) -> bool:
    """Is a file or folder of this name left by an editor, a file manager or a download?

    >>> [is_junk(name) for name in (".ipynb_checkpoints", "@eaDir", "Thumbs.db", "._1.csv", "~$labels.xlsx", "1.csv")]
    [True, True, True, True, True, False]
    """
    small = name.casefold()
    return small in _JUNK or small.startswith((".", "~$")) or small.endswith((".part", ".partial", ".crdownload", "~"))


def view_code(view: str) -> int:
    """The DMR code of a view's name (1 Frontal ... 5 Left)."""
    return VIEWS.index(view) + 1


# --- Views in people's own words --------------------------------------------------------------------------------------

_WORDS = {
    "front": "front frontal frontale frente anterior ant ventral face vorne vorn",
    "right": "right rt direita direito dir derecha derecho der dcha droite droit destra destro rechts",
    "left": "left lt esquerda esquerdo esq izquierda izquierdo izq izda gauche sinistra sinistro links",
    "oblique": "oblique obl obliqua obliquo oblicua oblicuo schrag",
    "lateral": "lateral laterale lat perfil profile profil seitlich",
    "back": "back posterior dorsal costas espalda",
    "": "view vista side lado",
}
_MEANING = {word: meaning for meaning, words in _WORDS.items() for word in words.split()}
_CODES = {
    "f": "front", "r": "right", "l": "left", "rl": "right lateral", "ll": "left lateral", "ro": "right oblique",
    "lo": "left oblique",
}  # fmt: skip
_OF_A_SIDE = {"right", "left", "oblique", "lateral"}
ANGLES = frozenset({"15", "30", "45", "60", "75", "90", "120", "135", "150", "180"})
"""Numbers beside the word of a side that may be degrees; our views have 45 or 90."""

_DEGREES = re.compile(r"(?<!\d)(\d{1,3})[ _-]?(?:deg(?:rees?)?|grad(?:os|us|i)?|graus?|\u00b0)(?![^\W\d_])")
"""A number that is said to be an angle."""

NO_VIEW = "none"
"""In a view map: files with this word are not taken."""

LEFT_OUT, NO_SIDE = "the view map leaves it out", "neither left nor right"
"""Two problems that a view may have."""


class Token(NamedTuple):
    """A run of letters or of digits, and where it stands."""

    text: str
    start: int
    end: int


def plain_text(text: str) -> str:
    """Small letters without accents: what names and cells are compared by."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each))


def tokens_of(plain: str) -> list[Token]:
    return [Token(match[0], *match.span()) for match in re.finditer(r"[^\W\d_]+|\d+", plain)]


@dataclass(frozen=True)
class ViewFound:
    """The view that a text names. ``problem`` says why its words make none; ``spans`` are where they stand."""

    view: str | None
    problem: str = ""
    spans: tuple[tuple[int, int], ...] = ()


class ViewWords:
    """Reads views word by word, as the names of one folder write them.

    A number beside the word of a side is an angle where all such numbers of the folder may be degrees
    (``Right_45``, ``right 90``), and a number of its own where they may not (``Left_44``). ``mapped`` are a
    user's own words with their views, or ``none``.
    """

    def __init__(self, texts: Iterable[str] = (), mapped: Mapping[str, str] | None = None) -> None:
        self._mapped = [
            (re.compile(rf"(?<![^\W_]){re.escape(plain_text(word))}(?![^\W_])"), view)
            for word, view in sorted((mapped or {}).items(), key=lambda each: -len(each[0]))
        ]
        behind, before = set(), set()
        for text in texts:
            tokens = tokens_of(plain_text(text))
            for first, second in itertools.pairwise(tokens):
                if first.end < second.start:
                    behind |= {second.text} if second.text.isdigit() and _of_a_side(first.text) else set()
                    before |= {first.text} if first.text.isdigit() and _of_a_side(second.text) else set()
        self._angles_behind, self._angles_before = behind <= ANGLES, bool(before) and before <= ANGLES

    def find(self, text: str) -> ViewFound:
        """The view that ``text`` names.

        >>> words = ViewWords(["7_Right-45", "8_Left-90"])
        >>> [words.find(name).view for name in ("7_Right-45", "obl_left", "TLL45_V2", "Lateral Direita", "IR_12")]
        ['Right45', 'Left45', 'Left45', 'Right', None]
        >>> words.find("right60").problem, words.find("45 deg left").view, words.find("0deg").view
        ('an angle of 60 degrees', 'Left45', 'Frontal')
        """
        text = plain_text(text.replace("\u00ba", "\u00b0"))  # the ordinal sign, which Iberian keyboards have
        for pattern, view in self._mapped:
            if match := pattern.search(text):
                problem = LEFT_OUT if view == NO_VIEW else ""
                return ViewFound(None if problem else view, problem, (match.span(),))
        stated = list(_DEGREES.finditer(text))
        said: set[str] = {"front" for match in stated if int(match[1]) == 0}
        angles = {match[1]: match.span() for match in stated if int(match[1])}
        tokens = tokens_of(_DEGREES.sub(lambda match: " " * len(match[0]), text))
        spans = [match.span() for match in stated]
        for number, token in enumerate(tokens):
            before, behind = tokens[number - 1] if number else None, tokens[number + 1 : number + 2]
            meaning = _meaning(token.text)
            if not meaning:
                code = _CODES.get(token.text) or _CODES.get(token.text.removeprefix("t")) or ""
                attached = [each.text for each in behind if each.start == token.end]
                alone = not attached and (before is None or before.end < token.start)
                meaning = code if alone or attached in (["45"], ["90"]) else ""
            words = set(meaning.split())
            if not words:
                continue
            said |= words
            spans.append((token.start, token.end))
            for other, fits in ((behind[0] if behind else None, self._angles_behind), (before, self._angles_before)):
                if other is not None and other.text in ANGLES and words & _OF_A_SIDE:
                    gap = max(other.start - token.end, token.start - other.end)
                    if gap == 0 or (fits and gap <= 2):
                        angles[other.text] = (other.start, other.end)
                        break
        return _combined(said, angles, (*spans, *angles.values()))


@functools.lru_cache(maxsize=4096)
def _meaning(word: str) -> str:
    """What a word says of a view, also where two or three are written as one (``oblleft``); empty for nothing."""
    if word in _MEANING:
        return _MEANING[word]
    for cut in range(2, len(word) - 2):
        first, second = word[:cut], word[cut:]
        if first in _MEANING and (second in _MEANING or _meaning(second)):
            return f"{_MEANING[first]} {_meaning(second)}".strip()
    return ""


def _of_a_side(word: str) -> bool:
    return bool(_OF_A_SIDE & set((_meaning(word) or _CODES.get(word, "")).split()))


def _combined(said: set[str], angles: Iterable[str], spans: tuple[tuple[int, int], ...]) -> ViewFound:
    """One view of all that a name says, or why there is none."""
    angle, *more = [*sorted(angles), ""]
    sides = sorted(said & {"right", "left"})
    problem = ""
    if "back" in said:
        problem = "a view from behind"
    elif more and angle and more[0]:
        problem = f"two angles, {angle} and {more[0]} degrees"
    elif angle not in ("", "45", "90"):
        problem = f"an angle of {angle} degrees"
    elif len(sides) == 2:
        problem = "left and right at once"
    elif not sides and (angle or said & {"oblique", "lateral"}):
        problem = NO_SIDE
    elif sides and "front" in said and "oblique" not in said and angle != "45":
        problem = f"frontal and {sides[0]} at once"
    elif "oblique" in said and (angle == "90" or ("lateral" in said and not angle)):
        problem = "oblique and lateral at once"
    if problem or not said:
        return ViewFound(None, problem, spans)
    if not sides:
        return ViewFound("Frontal" if "front" in said else None, "", spans)
    oblique = angle == "45" or "oblique" in said
    return ViewFound(sides[0].capitalize() + ("45" if oblique else ""), "", spans)


_ANY_NAME = ViewWords()


def view_in_name(stem: str) -> str | None:
    """The view that a free file name speaks of, read by itself.

    >>> view_in_name("exam7_left45"), view_in_name("Frontal-2"), view_in_name("scan")
    ('Left45', 'Frontal', None)
    """
    return _ANY_NAME.find(stem).view
