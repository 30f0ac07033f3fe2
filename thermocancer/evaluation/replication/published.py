"""The original study's result tables, as printed and with ours beside them.

Source: the thesis on DMR-IR thermograms (2024) that this toolkit reproduces, tables 3 to 8. Percentages are
as printed; n, TP, FN, FP and TN are reconstructed from them and match every row. Eleven results are
printed; table 5 has a column each for three and for five views, with equal figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from thermocancer.errors import ConfigError
from thermocancer.evaluation.report.page import PHANTOM_NOTICE
from thermocancer.files import Json
from thermocancer.kinds import NETWORK, SEQUENCE, SVM
from thermocancer.workspace import VIEWS

Protocol = Literal["thesis", "grouped-cv"]
PROTOCOLS: tuple[Protocol, ...] = ("thesis", "grouped-cv")
"""How each row is made again: as the original was, and by patient."""

# --- as printed -------------------------------------------------------------------------------------------------------

THREE_VIEWS = ("Frontal", "Right", "Left")
"""Our reading of the study's three-view form, which it does not spell out."""


@dataclass(frozen=True)
class PublishedRow:
    """One printed row. ``cohort`` names the exams it was made on; percentages as printed."""

    name: str
    title: str
    cohort: Literal["frontal", "five", "dynamic"]
    variant: Literal["v1", "v2"] | None
    views: tuple[str, ...]
    model: str
    precision: float
    sensitivity: float
    accuracy: float
    f1: float
    tp: int
    fn: int
    fp: int
    tn: int

    @property
    def table(self) -> int:
        return int(self.name[1])

    @property
    def n(self) -> int:
        return self.tp + self.fn + self.fp + self.tn


FRONTAL = ("Frontal",)
ROWS: tuple[PublishedRow, ...] = (
    PublishedRow("T3-v1", "AE v1, frontal, SVM", "frontal", "v1", FRONTAL, SVM, 87.5, 84.9, 90.0, 86.2, 28, 5, 4, 53),
    PublishedRow("T3-v2", "AE v2, frontal, SVM", "frontal", "v2", FRONTAL, SVM, 87.9, 87.9, 91.1, 87.9, 29, 4, 4, 53),
    PublishedRow("T4-3", "AE v1, 3 views, SVM", "five", "v1", THREE_VIEWS, SVM, 92.0, 76.7, 89.2, 83.6, 23, 7, 2, 51),
    PublishedRow("T4-5", "AE v1, 5 views, SVM", "five", "v1", VIEWS, SVM, 92.3, 80.0, 90.4, 85.7, 24, 6, 2, 51),
    PublishedRow("T5-3", "AE v2, 3 views, SVM", "five", "v2", THREE_VIEWS, SVM, 92.3, 80.0, 90.4, 85.7, 24, 6, 2, 51),
    PublishedRow("T5-5", "AE v2, 5 views, SVM", "five", "v2", VIEWS, SVM, 92.3, 80.0, 90.4, 85.7, 24, 6, 2, 51),
    PublishedRow("T6-3", "AE v1, 3 views, network", "five", "v1", THREE_VIEWS, NETWORK,
                 83.3, 83.3, 87.95, 83.3, 25, 5, 5, 48),
    PublishedRow("T6-5", "AE v1, 5 views, network", "five", "v1", VIEWS, NETWORK,
                 86.7, 86.7, 90.4, 86.7, 26, 4, 4, 49),
    PublishedRow("T7-3", "AE v2, 3 views, network", "five", "v2", THREE_VIEWS, NETWORK,
                 85.7, 80.0, 87.95, 82.8, 24, 6, 4, 49),
    PublishedRow("T7-5", "AE v2, 5 views, network", "five", "v2", VIEWS, NETWORK,
                 96.0, 80.0, 91.6, 87.3, 24, 6, 1, 52),
    PublishedRow("T8", "sequence network, LSTM 24", "dynamic", None, FRONTAL, SEQUENCE,
                 88.9, 85.7, 90.8, 87.3, 24, 4, 3, 45),
)  # fmt: skip
ROW_NAMES = tuple(row.name for row in ROWS)
SAME_PRINTED_ROW = {"T5-5": "T5-3"}
"""Results that are printed with the same figures."""

TARGETS = {"precision": (93, 2), "sensitivity": (85, 3), "accuracy": (95, 3), "f1": (92, 4)}
"""The figures that are printed, and what the study set out to reach: percent and tolerance.

No row meets precision and sensitivity together.
"""


def reaches_target(name: str, value: float | None) -> bool | None:
    """Does a figure (0 to 1) reach the study's target, its tolerance granted? None where there is no figure.

    >>> reaches_target("precision", 0.923), reaches_target("sensitivity", 0.80)
    (True, False)
    """
    aim, tolerance = TARGETS[name]
    return None if value is None else round(100 * value, 2) >= aim - tolerance


SOURCE = "original study (2024), tables 3 to 8; counts reconstructed from the printed percentages"


def chosen_rows(names: Sequence[str]) -> tuple[PublishedRow, ...]:
    """The rows asked for, in the order of the tables; all where none is named. Raises ConfigError."""
    unknown = [name for name in names if name not in ROW_NAMES]
    if unknown:
        raise ConfigError(
            f"there is no published row {unknown[0]!r}", where="--rows", expected=", ".join(ROW_NAMES),
            hint="for example: reproduce --rows T3-v1,T7-5",
        )  # fmt: skip
    return tuple(row for row in ROWS if not names or row.name in names)


# --- beside ours ------------------------------------------------------------------------------------------------------

IN_TERMINAL = ("accuracy", "sensitivity", "precision")


def table_of(rows: Sequence[PublishedRow], results: Mapping[tuple[str, str], Json], *, phantom: bool) -> Json:
    """The whole comparison, ``reproduce.json``.

    ``results`` maps (row, protocol) to ``metrics.json`` with ``made_with`` and ``deviations``, or to
    ``{"failed": why}``.
    """
    lines: list[Json] = []
    for row in rows:
        printed = {name: getattr(row, name) / 100 for name in TARGETS}
        reached = {name: reaches_target(name, value) for name, value in printed.items()}
        confusion = {"tp": row.tp, "fn": row.fn, "fp": row.fp, "tn": row.tn}
        found = {protocol: results.get((row.name, protocol)) for protocol in PROTOCOLS}
        lines.append(
            {
                "row": row.name,
                "table": row.table,
                "title": row.title,
                "same_printed_row_as": SAME_PRINTED_ROW.get(row.name),
                "published": {**printed, "n": row.n, "confusion": confusion, "target_reached": reached},
                "ours": {protocol: _ours(printed, each) for protocol, each in found.items() if each is not None},
            }
        )
    return {
        "source": SOURCE,
        "phantom": phantom,
        "targets": {name: list(each) for name, each in TARGETS.items()},
        "rows": lines,
        "verdict": _verdict(lines, phantom),
    }


def _ours(printed: Mapping[str, float], result: Json) -> Json:
    if "failed" in result:
        return result
    ours: Json = {}
    for name, value in printed.items():
        low, high = result[name]["low"], result[name]["high"]
        inside = None if low is None or high is None else low <= value <= high
        reached = reaches_target(name, result[name]["value"])
        ours[name] = result[name] | {"published_inside": inside, "target_reached": reached}
    more = ("specificity", "auc", "n", "positives", "confusion", "leaks", "threshold_source", "made_with", "deviations")
    return ours | {name: result[name] for name in more}


def _verdict(lines: Sequence[Json], phantom: bool) -> Json:
    """What the table says. Never "good": rows side by side judge no model against chance, baseline or shortcuts."""
    done = [line for line in lines if "accuracy" in line["ours"].get("thesis", {})]
    inside = [line for line in done if line["ours"]["thesis"]["accuracy"]["published_inside"]]
    both = [line for line in done if "accuracy" in line["ours"].get("grouped-cv", {})]
    printed, made, agreeing = (len(each) for each in (lines, done, inside))
    sentences = []
    if both:
        accuracies = [[line["ours"][protocol]["accuracy"]["value"] for protocol in PROTOCOLS] for line in both]
        sentences.append(
            "From the original protocol to one that separates patients, accuracy changes by "
            f"{-sum(thesis - honest for thesis, honest in accuracies) / len(both):+.3f} on average over "
            f"{len(both)} rows; the two also choose their thresholds differently."
        )
    sentences.append(
        "The published intervals overlap in every pair of rows: that study's ranking of its ten models is not "
        "established by its data."
    )
    headline = f"{made} of {printed} printed results were made again"
    if phantom:
        headline += " on the phantom."
        apart = "They stand in columns of their own and are no test of the published claim."
        sentences.insert(0, f"{PHANTOM_NOTICE} {apart}")
    else:
        headline += f"; in {agreeing} the published accuracy lies inside our interval under the original protocol."
    return {"tone": "caution" if phantom else "open", "headline": headline, "sentences": sentences}


def terminal_lines(table: Json) -> list[str]:
    """One line a row: published, then ours under each protocol, ``*`` where the study's target is reached; then the
    original's defects that were kept, and in what ours differ from the original."""
    whose = "phantom" if table["phantom"] else "ours"
    lines = [f"row     published acc/sens/prec   {whose}, thesis              {whose}, grouped-cv"]
    for line in table["rows"]:
        published = line["published"]
        printed = "/".join(_marked(published[name], published["target_reached"][name]) for name in IN_TERMINAL)
        cells = [_cell(line["ours"].get(protocol)) for protocol in PROTOCOLS]
        lines.append(f"{line['row']:<7} {printed:<24} {cells[0]:<27} {cells[1]}")
    lines.append("* reaches the study's target, its tolerance granted")
    for title, key in (("defects of the original, kept:", "leaks"), ("unlike the original:", "deviations")):
        said: dict[tuple[str, str], list[str]] = {}
        for protocol in PROTOCOLS:
            for line in table["rows"]:
                for each in line["ours"].get(protocol, {}).get(key, ()):
                    said.setdefault((protocol, each), []).append(line["row"])
        # each once, with the rows that it holds for
        lines += [title] if said else []
        lines += [f"  {protocol}, {', '.join(rows)}: {each}" for (protocol, each), rows in said.items()]
    return lines


def _marked(value: float | None, reached: bool | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}" + ("*" if reached else "")


def _cell(ours: Json | None) -> str:
    if ours is None:
        return "not asked for"
    if "failed" in ours:
        return "failed"
    figures = (_marked(ours[name]["value"], ours[name]["target_reached"]) for name in IN_TERMINAL)
    return "/".join(figures) + f" (n {ours['n']})"
