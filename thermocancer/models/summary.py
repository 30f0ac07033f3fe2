"""A network on paper: a table of its layers with shapes and parameters, and a diagram of it, drawn without graphviz."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

SUFFIX = ".layers.csv"
"""Of the table that stands beside every saved network."""

MOST_DRAWN = 100
"""A network of more layers (a backbone) is one box: nobody reads a diagram of hundreds."""


@dataclass(frozen=True)
class Layer:
    """One line of the table: name, what it is in words, shape without the batch, parameters, whose output it reads."""

    name: str
    kind: str
    output: str
    parameters: int
    after: tuple[str, ...]


def layers_of(model: keras.Model) -> list[Layer]:
    """The layers of a functional Keras model in its own order."""
    found: list[Layer] = []
    made_by: dict[int, str] = {}  # of each tensor of the graph: the layer it comes from
    for layer in model.layers:
        outputs = layer.output if isinstance(layer.output, list) else [layer.output]
        read = () if _is_input(layer) else layer.input
        read = read.values() if isinstance(read, Mapping) else read if isinstance(read, (list, tuple)) else [read]
        after = tuple(dict.fromkeys(made_by[id(each)] for each in read if id(each) in made_by))
        if not after and found and not _is_input(layer):
            after = (found[-1].name,)  # a model within a model knows its own tensors alone
        made_by |= {id(each): layer.name for each in outputs}
        shape = " x ".join(str(size) for size in outputs[0].shape[1:])
        found.append(Layer(layer.name, _in_words(layer), shape, int(layer.count_params()), after))
    return found


def _is_input(layer: keras.Layer) -> bool:
    return type(layer).__name__ == "InputLayer"


def _in_words(layer: keras.Layer) -> str:
    """``Conv2D 3x3 /2, relu``."""
    settings = layer.get_config() if not hasattr(layer, "layers") else {}
    words = type(layer).__name__
    for name, sign in (("kernel_size", ""), ("pool_size", ""), ("strides", "/")):
        value = settings.get(name)
        if isinstance(value, (list, tuple)) and not (name == "strides" and "pool_size" in settings):
            text = "x".join(str(each) for each in dict.fromkeys(value)) if sign else "x".join(map(str, value))
            words += "" if sign and text == "1" else f" {sign}{text}"
    words += f" {settings['rate']:g}" if isinstance(settings.get("rate"), float) else ""
    activation = settings.get("activation")
    return words + (f", {activation}" if isinstance(activation, str) and activation != "linear" else "")


# --- as a file --------------------------------------------------------------------------------------------------------


def table_of(layers: Sequence[Layer]) -> str:
    """The table as CSV; several predecessors are divided by semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(each.name for each in fields(Layer))
    writer.writerows((*astuple(each)[:-1], ";".join(each.after)) for each in layers)
    return text.getvalue()


def read_table(text: str) -> list[Layer]:
    """What ``table_of`` wrote. Raises ValueError or KeyError where it did not."""
    found = []
    for row in csv.DictReader(io.StringIO(text)):
        after = tuple(filter(None, row["after"].split(";")))
        found.append(Layer(row["name"], row["kind"], row["output"], int(row["parameters"]), after))
    return found


# --- as a diagram -----------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, APART, BELOW, TITLE = 210, 46, 14, 20, 26
"""Of a box, between two boxes side by side and one above the other, and of the line above them, in pixels."""

TIP = (
    '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto">'
    '<path d="M0,0 L6,3 L0,6 z" fill="#5c6670"/></marker></defs>'
)


def diagram(title: str, layers: Sequence[Layer]) -> str:
    """An SVG picture: a box a layer with its shape and its parameters, inputs on top, arrows to who reads it."""
    total = sum(each.parameters for each in layers)
    if len(layers) > MOST_DRAWN:
        layers = [Layer(title, f"{len(layers)} layers", layers[-1].output, total, ())]
    depth: dict[str, int] = {}
    for each in layers:
        depth[each.name] = 1 + max((depth[name] for name in each.after), default=-1)
    rows = [[each for each in layers if depth[each.name] == level] for level in range(1 + max(depth.values()))]
    wide = max(len(row) for row in rows) * (WIDTH + APART) - APART
    corner = {}
    for level, row in enumerate(rows):
        left = (wide - len(row) * (WIDTH + APART) + APART) // 2
        for place, each in enumerate(row):
            corner[each.name] = (left + place * (WIDTH + APART), TITLE + level * (HEIGHT + BELOW))
    parts = [f'<text x="0" y="14" font-weight="bold">{escape(title)}: {total:,} parameters</text>']
    boxes = []  # after all arrows, so that none runs through the words of a box
    for each in layers:
        left, top = corner[each.name]
        for name in each.after:
            start = corner[name]
            line = f'x1="{start[0] + WIDTH // 2}" y1="{start[1] + HEIGHT}" x2="{left + WIDTH // 2}" y2="{top}"'
            parts.append(f'<line {line} stroke="#5c6670" marker-end="url(#tip)"/>')
        boxes.append(
            f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#eef3f7" stroke="#1b6ca8"/>'
        )
        counted = f", {each.parameters:,} parameters" if each.parameters else ""
        lines = (f"{each.name}: {each.kind}", f"{each.output}{counted}")
        boxes += [
            f'<text x="{left + 8}" y="{top + 18 + 18 * line}">{escape(words)}</text>'
            for line, words in enumerate(lines)
        ]
    high = TITLE + len(rows) * (HEIGHT + BELOW)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        f'font-family="sans-serif" font-size="10.5" fill="#1f2933">{TIP}{"".join(parts + boxes)}</svg>\n'
    )
