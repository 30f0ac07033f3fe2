"""Where the body is in a matrix, where the burned-in marker is, and copies that hide one or the other.

Found by temperature alone: the torso by Otsu's threshold (IEEE Trans. SMC 9, 1979) between room and
skin, the marker (a small cold patch stuck to the skin below the breasts) by a black top-hat. Masks
are bool (height, width); every length is a share of the height, so that all frame sizes work alike.
Where a matrix of degrees is NaN, nothing is known: such a pixel is neither torso nor room nor marker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Celsius = npt.NDArray[np.floating]

_COARSE_ROWS = 120  # the marker is looked for at this many rows: its size is 8 to 20 of them
_MARKER_REACH = 0.17  # no marker is higher than this share of the frame's height (largest seen: .14)
_MARKER_MINIMUM = 0.03  # and none lower
_MARKER_CONTRAST = 1.8  # degC colder than the skin around it (least seen: 2.9; areolas: about 1)
_UPPER_PART = 0.4  # share of the height: arms, neck and room, never the marker
_RIM = 0.012  # width of the blurred edge around marker and body, share of the height
_WARM = 10.0  # degC
_LEAST_STEP = 4.0  # degC between room and skin; a crop that lies within the body shows less between its two halves
_LEAST_ROOM = 50  # pixels


# --- pixels without a temperature -------------------------------------------------------------------------------------


def missing_pixels(celsius: Celsius) -> Mask:
    """Where a matrix (height, width) in degC holds no temperature: NaN, infinity, and exactly 0 beside warm skin.

    Crops of a region are filled up with zeros. No room is at 0.00 degC while the frame reaches 10 degC and more.
    """
    missing: Mask = ~np.isfinite(celsius)
    if celsius[~missing].size and celsius[~missing].max() > _WARM:
        missing |= celsius == 0
    return missing


def background_of(degrees: Celsius) -> float:
    """What stands in for missing pixels where a number must stand: the frame's own background, degC.

    The median of the room where the frame shows one, else (a crop within the body) the coolest percent of what is
    known. Raises ValueError where nothing is known.
    """
    known = ~np.isnan(degrees)
    if not known.any():
        raise ValueError("no pixel has a temperature")
    torso = torso_mask(degrees)
    for room in (room_mask(torso | ~known), known & ~torso):
        if room.sum() >= _LEAST_ROOM:
            return float(np.median(degrees[room]))
    return float(np.percentile(degrees[known], 1))


def filled(degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A matrix (height, width) in degC with its background where it is NaN; itself where nothing is missing."""
    missing = np.isnan(degrees)
    return np.where(missing, np.round(background_of(degrees), 2), degrees) if missing.any() else degrees


def resize_missing(missing: Mask, shape: tuple[int, int]) -> Mask:
    """``missing`` at another size (rows, columns): a pixel is missing where any of those under it is."""
    import cv2

    share = cv2.resize(missing.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(share > 1e-6)


# --- torso, room and marker -------------------------------------------------------------------------------------------


def torso_mask(celsius: Celsius) -> Mask:
    """Skin against room, bool (H, W): the largest warm region without holes (the marker counts as torso).

    The whole frame where nothing warm stands out, so that it is never empty. Of a frame with missing pixels (NaN) all
    that is known is torso where its warm and its cool part are less than 4 degC apart: a crop that shows no room.
    """
    import cv2

    known = ~np.isnan(celsius)
    if not known.all():
        return _torso_of_part(celsius, known)
    # Otsu's temperature, which best divides the frame in two, from 256 grey levels of every second pixel
    coarse = np.ascontiguousarray(celsius[::2, ::2], dtype=np.float32)
    low, high = float(coarse.min()), float(coarse.max())
    span = max(high - low, 1e-6)
    grey = ((coarse - low) * (255.0 / span)).astype(np.uint8)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    warm = (celsius > low + (level + 0.5) * span / 255.0).astype(np.uint8)
    _, labelled, facts, _ = cv2.connectedComponentsWithStats(warm, connectivity=4)
    if len(facts) < 2:
        return np.ones(celsius.shape, bool)
    torso = labelled == 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))
    return _without_holes(torso)


def _torso_of_part(celsius: Celsius, known: Mask) -> Mask:
    """The same where only some pixels are ``known``: these alone choose the threshold and can be torso."""
    import cv2

    values = celsius[known].astype(np.float32)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    span = max(high - low, 1e-6)
    level, _ = cv2.threshold(((values - low) * (255.0 / span)).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    limit = low + (level + 0.5) * span / 255.0
    warm = values > limit
    if not 0 < warm.sum() < warm.size or np.median(values[warm]) - np.median(values[~warm]) < _LEAST_STEP:
        return known if known.any() else np.ones(celsius.shape, bool)
    with np.errstate(invalid="ignore"):
        body = (known & (celsius > limit)).astype(np.uint8)
    _, labelled, facts, _ = cv2.connectedComponentsWithStats(body, connectivity=4)
    return _without_holes(labelled == 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))) & known


def _without_holes(torso: Mask) -> Mask:
    """Fill what the torso encloses, and small notches in its lower edge (a marker that the frame cuts).

    Large holes in the upper part stay: that is the room, seen between a raised arm and the head.
    """
    import cv2

    height, width = torso.shape
    _, labelled, facts, centres = cv2.connectedComponentsWithStats((~torso).astype(np.uint8), connectivity=4)
    left, top, area = facts[:, cv2.CC_STAT_LEFT], facts[:, cv2.CC_STAT_TOP], facts[:, cv2.CC_STAT_AREA]
    inside = (left > 0) & (left + facts[:, cv2.CC_STAT_WIDTH] < width) & (top > 0)
    middle = float(torso.sum(axis=0) @ np.arange(width)) / max(int(torso.sum()), 1)
    off_centre = np.abs(centres[:, 0] - middle) > 0.15 * width
    notch = (top + facts[:, cv2.CC_STAT_HEIGHT] >= height) & ((area > (_MARKER_REACH * height) ** 2) | off_centre)
    room = (centres[:, 1] < _UPPER_PART * height) & (area > 0.001 * torso.size)
    fill = inside & ~notch & ~room
    fill[0] = True  # component 0 is the torso itself
    return np.asarray(fill[labelled], bool)


def room_mask(torso: Mask) -> Mask:
    """Background well away from the body: not torso, nor within 4 % of the height of it. May be empty."""
    import cv2

    reach = _odd(0.08 * torso.shape[0])
    return np.asarray(cv2.dilate(torso.astype(np.uint8), np.ones((reach, reach), np.uint8)) == 0)


@dataclass(frozen=True)
class Marker:
    """The burned-in reference marker: where it is and how much colder than the skin around it, degC."""

    mask: Mask
    contrast: float
    celsius: float


def find_marker(celsius: Celsius, torso: Mask) -> Marker | None:
    """The cold patch in the lower part of the torso, or None.

    It must be compact (a rectangle, upright or turned), 3 to 17 % of the height in size, and 1.8 degC
    or more colder than the skin around it.
    """
    import cv2

    missing = np.isnan(celsius)
    if missing.any():  # as warm as the warmest: never a cold patch
        celsius = np.where(missing, np.nanmax(np.where(missing.all(), 0, celsius)), celsius)
    height, width = celsius.shape
    step = max(1, height // _COARSE_ROWS)
    small = cv2.resize(celsius.astype(np.float32), (width // step, height // step), interpolation=cv2.INTER_AREA)
    body = torso[::step, ::step][: small.shape[0], : small.shape[1]]
    deep_inside = cv2.erode(body.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # the body's own edge is cold too
    reach = _odd(_MARKER_REACH * small.shape[0])
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (reach, reach))
    skin = np.where(body, small, np.float32(small[body].max()))  # the room must not look like a cold patch
    depth = cv2.morphologyEx(skin, cv2.MORPH_CLOSE, square) - skin
    depth[~deep_inside] = 0
    depth[: int(_UPPER_PART * small.shape[0])] = 0
    for top, bottom, left, right in _cold_patches(depth):
        marker = _measure_marker(celsius, torso, (top * step, bottom * step, left * step, right * step))
        if marker is not None:
            return marker
    return None


def _cold_patches(depth: npt.NDArray[np.number]) -> list[tuple[int, int, int, int]]:
    """Compact patches of a top-hat image as (top, bottom, left, right), the most striking first."""
    import cv2

    found: list[tuple[float, tuple[int, int, int, int]]] = []
    peak = float(depth.max())
    for level in (0.7 * peak, 0.5 * peak, 0.35 * peak):
        if level < _MARKER_CONTRAST / 2:
            continue
        _, labelled, facts, _ = cv2.connectedComponentsWithStats((depth > level).astype(np.uint8), connectivity=4)
        for number, (left, top, wide, high, area) in enumerate(facts[1:].tolist(), start=1):
            if _is_compact(wide, high, area, len(depth)):
                patch = depth[top : top + high, left : left + wide][
                    labelled[top : top + high, left : left + wide] == number
                ]
                strength = float(patch.mean()) * float(np.sqrt(area)) * min(wide, high) / max(wide, high)
                found.append((strength, (top, top + high, left, left + wide)))
    return [box for _, box in sorted(found, reverse=True)]


def _is_compact(wide: int, high: int, area: int, height: int) -> bool:
    """Is a patch as large as a marker can be, nearly as high as wide, and mostly full (a turned square: half)?"""
    longest = max(wide, high)
    sized = _MARKER_MINIMUM <= longest / height <= _MARKER_REACH + 0.02
    return sized and min(wide, high) >= 0.5 * longest and area >= 0.45 * wide * high


def _measure_marker(celsius: Celsius, torso: Mask, box: tuple[int, int, int, int]) -> Marker | None:
    """Draw a patch's edge at full resolution, half-way between its own temperature and the skin's."""
    import cv2

    height, width = celsius.shape
    margin = max(2, round(0.035 * height))
    top, bottom, left, right = box
    window = np.s_[
        max(top - margin, 0) : min(bottom + margin, height), max(left - margin, 0) : min(right + margin, width)
    ]
    around = torso[window].copy()
    around[top - window[0].start : bottom - window[0].start, left - window[1].start : right - window[1].start] = False
    skin = celsius[window][around]
    high, wide = (bottom - top) // 4, (right - left) // 4
    core = celsius[top + high : bottom - high, left + wide : right - wide]
    if not skin.size or not core.size:
        return None
    warm, cold = float(np.median(skin)), float(np.median(core))
    if warm - cold < _MARKER_CONTRAST:
        return None
    cut = (celsius[window] < (warm + cold) / 2).astype(np.uint8)
    _, labelled, facts, _ = cv2.connectedComponentsWithStats(cut, connectivity=4)
    if len(facts) < 2:
        return None
    largest = 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))
    _, _, mask_width, mask_height, area = facts[largest].tolist()
    if not _is_compact(mask_width, mask_height, area, height):
        return None
    mask = np.zeros((height, width), bool)
    mask[window] = labelled == largest
    return Marker(mask, warm - cold, cold)


def midline(celsius: Celsius, torso: Mask | None = None) -> int:
    """The column that divides a frontal view's body into its two sides.

    The median, over the middle half of the rows, of the torso's centre in each row.
    """
    torso = torso_mask(celsius) if torso is None else torso
    height, width = torso.shape
    middle = torso[height // 4 : 3 * height // 4]
    rows = middle[middle.any(axis=1)]
    if not len(rows):
        return int(width // 2)
    first, last = rows.argmax(axis=1), width - 1 - rows[:, ::-1].argmax(axis=1)
    return int(np.clip(np.median((first + last + 1) / 2), 1, width - 1))


def halves(celsius: Celsius) -> tuple[Mask, Mask]:
    """Torso masks of the image's left and right side of the midline, each bool (H, W)."""
    torso = torso_mask(celsius)
    sides = np.arange(torso.shape[1]) < midline(celsius, torso)
    return torso & sides, torso & ~sides


def torso_only(centi: npt.NDArray[np.uint16], missing: Mask | None = None) -> npt.NDArray[np.uint16]:
    """A matrix (H, W) whose background is one constant (the torso's coolest percent) and whose marker is inpainted.

    What is left is what a model may use: the body, without the blurred rim in which the room shows. ``missing`` (H, W)
    marks pixels without a temperature: they become background too.
    """
    import cv2

    celsius = centi.astype(np.float32) / 100
    if missing is not None:
        celsius[missing] = np.nan
    torso = torso_mask(celsius)
    marker = find_marker(celsius, torso)
    rim = np.ones((_odd(2 * _RIM * len(centi)),) * 2, np.uint8)
    result = centi if marker is None else _without_marker(centi, marker.mask, rim)
    body = cv2.erode(torso.astype(np.uint8), rim) > 0
    coolest = np.percentile(result[body if body.any() else torso][::16], 1)
    return np.where(body, result, np.uint16(coolest))


def _without_marker(centi: npt.NDArray[np.uint16], marker: Mask, rim: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Replace the marker's rectangle and its rim by what surrounds them, weighted by the inverse cube of distance."""
    import cv2

    corners = cv2.boxPoints(cv2.minAreaRect(np.argwhere(marker)[:, ::-1].astype(np.int32)))
    box = cv2.fillConvexPoly(np.zeros(marker.shape, np.uint8), corners.round().astype(np.int32), 1)
    hole = cv2.dilate(np.maximum(box, marker.astype(np.uint8)), rim)
    edge = np.argwhere((cv2.dilate(hole, np.ones((3, 3), np.uint8)) > 0) & (hole == 0)).astype(np.float32)
    inside = np.argwhere(hole)
    squared = ((inside[:, None, :] - edge[None, ::2, :]) ** 2).sum(axis=2, dtype=np.float32)
    weights = squared**-1.5
    known = centi[tuple(edge[::2].astype(int).T)].astype(np.float32)
    result = centi.copy()
    result[tuple(inside.T)] = np.rint(weights @ known / weights.sum(axis=1)).astype(np.uint16)
    return result


def background_only(centi: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """A matrix (H, W) whose torso is one constant, marker and rim included: what a model must not use.

    The constant is the same in every matrix (33 degC), so that only room and framing can be read.
    """
    import cv2

    torso = torso_mask(centi.astype(np.float32) / 100)
    rim = _odd(2 * _RIM * centi.shape[0])
    grown = cv2.dilate(torso.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0
    return np.where(grown, np.uint16(3300), centi)


def _odd(length: float) -> int:
    return max(3, round(length) | 1)
