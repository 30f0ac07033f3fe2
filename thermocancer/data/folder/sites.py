"""Breasts and regions that are labelled by themselves: which the table names, and which of them a file shows."""

from __future__ import annotations

from dataclasses import dataclass

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.names import FileIdentity
from thermocancer.data.folder.tables import Row, Table
from thermocancer.data.folder.words import BREAST, bare, names_a_label, side_of
from thermocancer.data.names import plain_text, tokens_of


@dataclass(frozen=True)
class Site:
    """A breast or region that is labelled by itself: its name, its number from 1, and how many there are."""

    name: str
    number: int
    count: int

    def is_of(self, identity: FileIdentity) -> bool:
        """Do the file's words and view name it?"""
        side = side_of(self.name)
        words_say = {side_of(word) for word in identity.words} - {None}  # before the view, which a map may have changed
        shown = words_say or {side_of(identity.view or "")}
        rest = [each.text for each in tokens_of(plain_text(self.name))]
        rest = [each for each in rest if each not in BREAST and not side_of(each) and not names_a_label(each)]
        words = {bare(word) for word in identity.words}
        return (side is None or shown == {side}) and ("".join(rest) in words or words.issuperset(rest))


def site_key(text: str) -> str:
    """What names one breast or region, however it is written."""
    return plain_text(text).strip()


def unfold_sites(table: Table, section: ImportSection) -> tuple[Table, ImportSection]:
    """The table with a line for each breast or region, and one column that names it.

    Of several columns each holds one's label where their names are sides, or nothing else is called a label;
    otherwise they name it together (region and side).
    Raises ConfigError for a column that is not there.
    """
    columns = section.site_columns
    for name in columns:
        table.check_column(name, "import.site_columns")
    if len(columns) < 2:
        return table, section
    named = [each for each in table.columns if each not in columns and names_a_label(each)]
    hold_labels = all(map(side_of, columns)) or (section.label_column is None and not named)
    site, label = "site", ", ".join(columns) if hold_labels else section.label_column
    rows = []
    for row in table.rows:
        if hold_labels:
            others = {name: cell for name, cell in row.cells.items() if name not in columns}
            rows += [
                Row(row.line, {**others, site: name, ", ".join(columns): row.cells.get(name, "")}) for name in columns
            ]
        else:
            words = " ".join(filter(None, (row.cells.get(name, "") for name in columns)))
            rows.append(Row(row.line, {**row.cells, site: words}))
    asked = section.model_copy(update={"site_columns": (site,), "label_column": label})
    return Table(table.path, tuple(dict.fromkeys(name for row in rows for name in row.cells)), tuple(rows)), asked


def sites_of(table: Table, section: ImportSection) -> list[Site]:
    """The breasts or regions that the table names, in the order of their names."""
    names = {site_key(name): name for each in section.site_columns for name in reversed(table.values(each))}
    ordered = [names[key] for key in sorted(names)]
    return [Site(name, number, len(ordered)) for number, name in enumerate(ordered, 1)]
