"""Synthetic thermograms for the site's replica: a torso before a cool room, sick ones with a warm spot.

Nothing here comes from a person: an ellipse, a gradient and noise, drawn from the file's own name.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from thermocancer.data.names import ThermogramName
from thermocancer.thermal.writing import format_matrix

TURN = {1: 0.0, 2: 0.12, 3: 0.25, 4: -0.12, 5: -0.25}
"""How far each view turns the torso out of the middle, in widths."""


def centi_celsius(name: ThermogramName, label: str, shape: tuple[int, int], salt: int = 0) -> np.ndarray:
    """Hundredths of a degree, uint16 of ``shape``; the same name always gives the same matrix."""
    height, width = shape
    rng = np.random.default_rng([salt, name.patient, name.visit, name.view_code, ord(name.protocol), name.index])
    person = np.random.default_rng([salt, name.patient])
    room, skin = person.uniform(21.0, 23.0), person.uniform(31.5, 33.5)
    spot_x, spot_y = person.choice([0.35, 0.65]), person.uniform(0.4, 0.6)
    y, x = np.mgrid[0:height, 0:width]
    across = x / (width - 1) - 0.5 - TURN.get(name.view_code, 0.0)
    down = y / (height - 1)
    torso = 1.0 / (1.0 + np.exp(((across / 0.33) ** 4 + ((down - 0.55) / 0.62) ** 4 - 1.0) * 12.0))
    warmth = skin + 1.2 * np.cos(across * 7.0) - 1.5 * (down - 0.3) ** 2
    if label == "sick":
        warmth += 2.2 * np.exp(-(((across + 0.5 - spot_x) / 0.07) ** 2 + ((down - spot_y) / 0.09) ** 2))
    if name.protocol == "D":
        warmth -= 1.8 * np.exp(-name.index / 8.0)
    celsius = room + (warmth - room) * torso + rng.normal(0.0, 0.05, shape)
    return np.clip(celsius * 100.0, 1000, 4400).astype(np.uint16)


@lru_cache(maxsize=64)
def matrix_text(
    name: ThermogramName, label: str, shape: tuple[int, int], layout: str = "space2", salt: int = 0
) -> bytes:
    """The file as a camera writes it."""
    return format_matrix(centi_celsius(name, label, shape, salt), layout)
