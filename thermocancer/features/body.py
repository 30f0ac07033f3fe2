"""The skin that features are measured on: the torso without the burned-in marker."""

from __future__ import annotations

from thermocancer.data.cohort import FloatArray
from thermocancer.features.thermal import Mask
from thermocancer.thermal.regions import find_marker, torso_mask


def skin_of(celsius: FloatArray) -> Mask:
    """Mask (H, W) of a matrix (H, W) in degC; never empty."""
    torso = torso_mask(celsius)
    marker = find_marker(celsius, torso)
    if marker is None or (torso <= marker.mask).all():
        return torso
    return torso & ~marker.mask
