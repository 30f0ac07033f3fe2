"""Published figures beside ours: one table for the terminal, JSON and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thermocancer.evaluation.replication.deviations import grouped_lines
from thermocancer.evaluation.replication.published import SAME_PRINTED_ROW, SOURCE, TARGETS, PublishedRow
from thermocancer.evaluation.report.page import PHANTOM_NOTICE

FIGURES = ("precision", "sensitivity", "accuracy", "f1")


def table_of(
    rows: Sequence[PublishedRow], results: Mapping[tuple[str, str], dict[str, Any]], *, phantom: bool
) -> dict[str, Any]:
    """The whole comparison.

    ``results`` maps (row, protocol) to ``metrics.json`` with ``made_with`` and ``deviations``, or to
    ``{"failed": why}``.
    """
    lines = []
    for row in rows:
        printed = {name: getattr(row, name) / 100 for name in FIGURES}
        confusion = {"tp": row.tp, "fn": row.fn, "fp": row.fp, "tn": row.tn}
        lines.append(
            {
                "row": row.name,
                "table": row.table,
                "title": row.title,
                "same_printed_row_as": SAME_PRINTED_ROW.get(row.name),
                "published": {**printed, "n": row.n, "confusion": confusion},
                "ours": {
                    protocol: _ours(printed, results[row.name, protocol])
                    for protocol in ("thesis", "grouped-cv")
                    if (row.name, protocol) in results
                },
            }
        )
    return {
        "source": SOURCE,
        "phantom": phantom,
        "targets": {name: list(each) for name, each in TARGETS.items()},
        "rows": lines,
        "verdict": _verdict(lines, phantom),
    }


def _ours(printed: Mapping[str, float], result: dict[str, Any]) -> dict[str, Any]:
    if "failed" in result:
        return result
    kept: dict[str, Any] = {name: result[name] for name in (*FIGURES, "specificity", "auc")}
    for name in FIGURES:
        low, high = result[name]["low"], result[name]["high"]
        inside = None if low is None or high is None else low <= printed[name] <= high
        kept[name] = result[name] | {"published_inside": inside}
    kept |= {name: result[name] for name in ("n", "positives", "confusion", "leaks", "threshold_source")}
    return kept | {name: result[name] for name in ("made_with", "deviations")}


def _verdict(lines: Sequence[dict[str, Any]], phantom: bool) -> dict[str, Any]:
    done = [line for line in lines if "accuracy" in line["ours"].get("thesis", {})]
    inside = [line for line in done if line["ours"]["thesis"]["accuracy"]["published_inside"]]
    both = [line for line in done if "accuracy" in line["ours"].get("grouped-cv", {})]
    printed, made, agreeing = (len({_printed(line) for line in each}) for each in (lines, done, inside))
    sentences = []
    if both:
        drops = [
            line["ours"]["thesis"]["accuracy"]["value"] - line["ours"]["grouped-cv"]["accuracy"]["value"]
            for line in both
        ]
        sentences.append(
            "From the original protocol to one that separates patients, accuracy changes by "
            f"{-sum(drops) / len(drops):+.3f} on average over {len(both)} rows; "
            "the two also choose their thresholds differently."
        )
    sentences.append(
        "The published intervals overlap in every pair of rows: that study's ranking of its ten models is not "
        "established by its data."
    )
    if phantom:
        sentences.insert(
            0, f"{PHANTOM_NOTICE} They stand in columns of their own and are no test of the published claim."
        )
        headline = f"{made} of {printed} printed rows were made again on the phantom."
    else:
        headline = (
            f"{made} of {printed} printed rows were made again; in {agreeing} the published accuracy lies inside "
            "our interval under the original protocol."
        )
    return {"tone": "caution" if phantom else "good", "headline": headline, "sentences": sentences}


def _printed(line: dict[str, Any]) -> str:
    """The printed row that a line belongs to."""
    return str(line["same_printed_row_as"] or line["row"])


def terminal_lines(table: dict[str, Any]) -> list[str]:
    """One line a row: published, then ours under each protocol; then in what ours differ from the original."""
    whose = "phantom" if table["phantom"] else "ours"
    lines = [f"row     published acc/sens/prec   {whose}, thesis              {whose}, grouped-cv"]
    for line in table["rows"]:
        printed = "/".join(f"{100 * line['published'][name]:.1f}" for name in ("accuracy", "sensitivity", "precision"))
        cells = [_cell(line["ours"].get(protocol)) for protocol in ("thesis", "grouped-cv")]
        lines.append(f"{line['row']:<7} {printed:<24} {cells[0]:<27} {cells[1]}")
    differences = grouped_lines(table["rows"], ("thesis", "grouped-cv"))
    return lines + (["unlike the original:", *(f"  {each}" for each in differences)] if differences else [])


def _cell(ours: dict[str, Any] | None) -> str:
    if ours is None:
        return "not asked for"
    if "failed" in ours:
        return "failed"
    figures = (ours[name]["value"] for name in ("accuracy", "sensitivity", "precision"))
    return "/".join("–" if value is None else f"{100 * value:.1f}" for value in figures) + f" (n {ours['n']})"
