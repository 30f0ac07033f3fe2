"""From facts to one self-contained HTML file; the same facts stand in ``report.json``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from thermocancer.evaluation.report.judgement import Picture
from thermocancer.evaluation.report.notices import ADJUNCT_NOTICE, chance, number, percent, with_interval


def data_uri(png: bytes) -> str:
    """PNG bytes as a ``data:`` address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def render_page(template: str, facts: Mapping[str, Any], pictures: Mapping[str, Picture]) -> str:
    """Fill ``templates/TEMPLATE`` with the facts; everything is escaped, pictures are embedded."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("thermocancer.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "estimate": with_interval,
        "data_uri": data_uri,
        "share": interval_bar,
        "chance": chance,
    }
    return environment.get_template(template).render(**facts, pictures=pictures, notice=ADJUNCT_NOTICE)


def interval_bar(estimate: Mapping[str, Any]) -> dict[str, float]:
    """Positions in percent of an interval drawn on a line from 0 to 1."""
    low = 100 * (estimate["low"] or 0.0)
    high = 100 * (1.0 if estimate["high"] is None else estimate["high"])
    return {
        "left": round(low, 2),
        "width": round(max(high - low, 0.6), 2),
        "dot": round(100 * (estimate["value"] or 0), 2),
    }
