"""Words and pages: what stands on every output, how figures are written, one self-contained HTML file."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thermocancer.errors import visible
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.runs.run import SERIES, Run
from thermocancer.workspace import LABELS

if TYPE_CHECKING:
    from thermocancer.evaluation.report.judgement import Picture

ADJUNCT_NOTICE = (
    "Research use only. Thermography is not a substitute for mammography and must not be used on its own to "
    "screen for or diagnose breast cancer (FDA safety communication, 25 February 2019)."
)
PHANTOM_NOTICE = (
    "These exams are synthetic: they come from a simulation of heat in tissue. The figures say that the software "
    "works, nothing about people."
)
GENERAL_NOTICE = "Research use only. No output of this program is a diagnosis."


@dataclass(frozen=True)
class Words:
    """What a page calls the two classes, the things that were scored, what a model should see, and what it need not.

    ``notice`` stands on top. A study of class images speaks of its own classes: nobody in it need be sick, and no
    breast be shown.
    """

    negative: str
    positive: str
    things: str = "exams"
    whose: str = "patient"
    seen: str = "disease"
    blind: str = "without looking at a breast"
    notice: str = ADJUNCT_NOTICE
    alike: str = "date and room"
    """In what the exams of matched pairs are alike."""

    @property
    def classes(self) -> tuple[str, str]:
        return self.negative, self.positive

    @property
    def thing(self) -> str:
        """One of the things that were scored."""
        return self.things if self.things == "series" else self.things.removesuffix("s")

    @classmethod
    def of(cls, run: Run) -> Words:
        """Those of a run, by its manifest."""
        names = run.manifest.classes
        if run.reads is not Reads.IMAGES:
            return cls(*names)
        notice = ADJUNCT_NOTICE if names == LABELS else GENERAL_NOTICE
        things = ("series", "patient") if SERIES in run.manifest.outputs else ("images", "group")
        return cls(*names, *things, "what makes the classes", f"without looking at what the {things[0]} show", notice)


THERMOGRAMS = Words(*LABELS)


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal; a dash where it is undefined.

    >>> percent(0.8754)
    '87.5 %'
    """
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with a fixed number of decimals; a dash where it is undefined.

    >>> number(0.91234)
    '0.912'
    """
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(estimate: Json, digits: int = 3) -> str:
    """``0.912 (0.871 to 0.944)``."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return number(value, digits) + ("" if low is None else f" ({number(low, digits)} to {number(high, digits)})")


def chance(value: float) -> str:
    """A p-value, two digits and no false precision.

    >>> chance(0.00002), chance(0.034)
    ('< 0.001', '0.034')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def render_page(template: str, facts: Json, pictures: Mapping[str, Picture]) -> str:
    """Fill ``templates/TEMPLATE`` with the facts; everything is escaped, pictures are embedded."""
    return fill_template(template, facts | {"pictures": pictures})


def fill_template(template: str, facts: Json) -> str:
    """Fill ``templates/TEMPLATE``, a page or Markdown; no value's HTML gets through; a missing fact is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("thermocancer.evaluation", "templates"),
        autoescape=template.endswith(".html"),
        finalize=_without_html if template.endswith(".md") else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=template.endswith(".md"),
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "estimate": with_interval,
        "data_uri": data_uri,
        "share": interval_bar,
        "chance": chance,
    }
    return environment.get_template(template).render(**{"notice": ADJUNCT_NOTICE, "words": THERMOGRAMS} | facts)


def _without_html(value: object) -> object:
    """A value in Markdown, which lets HTML through: no tag begins in it, and no line of its own."""
    if not isinstance(value, str):
        return value
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", visible(value))


def data_uri(picture: bytes) -> str:
    """A PNG, WebP or SVG file as a ``data:`` address, so that the page needs no other file."""
    kind = "webp" if picture[:4] == b"RIFF" else "svg+xml" if picture[:4] == b"<svg" else "png"
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")


def interval_bar(estimate: Json) -> dict[str, float]:
    """Positions in percent of an interval drawn on a line from 0 to 1."""
    low = 100 * (estimate["low"] or 0.0)
    high = 100 * (1.0 if estimate["high"] is None else estimate["high"])
    return {
        "left": round(low, 2),
        "width": round(max(high - low, 0.6), 2),
        "dot": round(100 * (estimate["value"] or 0), 2),
    }
