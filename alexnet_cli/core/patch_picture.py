"""Units' strongest patches as a picture, beside them what of each drives the unit, as in Zeiler and Fergus' figure 2.

It must not import torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from alexnet_cli.core.letters import Font, load_font
from alexnet_cli.core.plot import short_name

if TYPE_CHECKING:
    from alexnet_cli.core.patches import UnitPatches

WIDTH = 2400  # pixels of the picture, or not much more: a page's 5.5 inches at 436 dots each
LEAST_SIDE = 48  # pixels of a patch, below which there is little to see: many units make a wider picture
WIDEST = 2.4  # a picture is at most so many times as wide as high, and at least as wide as high, where that can be
LINE, BETWEEN_HALVES, BETWEEN_UNITS = 2, 0.08, 0.3  # gaps: pixels between patches; the others in sides of a patch
# Height of letters: in sides of a patch, in shares of the picture's width, which are 7 points across a page's 5.5 inches, and in
# pixels at least.
LETTER, LARGEST_LETTER, LEAST_LETTER = 0.4, 7 / 72 / 5.5, 12
PAPER, INK, GROUND, EMPTY = "white", "black", 0, 128

Pixels = NDArray[np.uint8]


def draw_patches(units: "Sequence[UnitPatches]", *, columns: int | None = None, labels: bool = True) -> Image.Image:
    """Draw each unit's patches in a square, the strongest first, and left of them, in the same order, what drives the unit.

    units: one or more, of one layer. columns: units in a row, None for a picture that is wider than high, but not much. labels:
    the number above each unit, or the class that it stands for. Small patches are enlarged by repeating pixels. RGB.
    Source: Zeiler and Fergus 2014, figure 2.
    """
    first = units[0].patches[0]
    across = math.ceil(math.sqrt(max(len(one.patches) for one in units)))
    halves = 1 if first.attribution is None else 2
    columns = min(columns or _columns(len(units), halves), len(units))
    sheet = _sheet(columns, halves, across, first.pixels.shape[0], [_label(one) for one in units] if labels else [])
    rows = math.ceil(len(units) / columns)
    picture = Image.new("RGB", (columns * sheet.unit[0] + sheet.gap, rows * sheet.unit[1] + sheet.gap), PAPER)
    for index, one in enumerate(units):
        row, column = divmod(index, columns)
        _draw_unit(picture, sheet, one, (sheet.gap + column * sheet.unit[0], sheet.gap + row * sheet.unit[1]))
    return picture


@dataclass(frozen=True)
class _Sheet:
    """Sizes in pixels.

    side: of a patch. across: patches in a row of a square. square: its side. gap: between units. between: between a unit's halves.
    title: height of the label's line. unit: from the corner of one unit to that of the next, (horizontal, vertical).
    """

    side: int
    across: int
    square: int
    gap: int
    between: int
    title: int
    unit: tuple[int, int]
    font: Font


def _columns(count: int, halves: int) -> int:
    """Return how many units stand in a row: as few empty places as can be, and then about half again as wide as high."""

    def cost(columns: int) -> tuple[bool, int, float]:
        rows = math.ceil(count / columns)
        shape = columns * halves / rows
        return not 1 <= shape <= WIDEST, rows * columns - count, abs(math.log(shape / 1.5))

    return min(range(1, count + 1), key=cost)


def _sheet(columns: int, halves: int, across: int, size: int, labels: Sequence[str]) -> _Sheet:
    around = (halves - 1) * BETWEEN_HALVES + BETWEEN_UNITS
    side = max(LEAST_SIDE, int(WIDTH / columns / (halves * across + around)))
    side = max(1, side // size) * size if side >= size else side
    square = across * (side + LINE) + LINE
    gap, between = round(BETWEEN_UNITS * side), round(BETWEEN_HALVES * side)
    wide = halves * square + (halves - 1) * between + gap
    letter = max(LEAST_LETTER, round(min(LETTER * side, LARGEST_LETTER * (columns * wide + gap))))
    title = round(1.4 * letter) if labels else 0
    unit = (wide, square + title + gap)
    return _Sheet(side, across, square, gap, between, title, unit, load_font(letter, labels))


def _draw_unit(picture: Image.Image, sheet: _Sheet, one: "UnitPatches", corner: tuple[int, int]) -> None:
    left, top = corner
    if sheet.title:
        text = _fitted(_label(one), sheet)
        ImageDraw.Draw(picture).text((left, top + sheet.title * 0.4), text, INK, sheet.font, "lm")
    driving = [patch.attribution for patch in one.patches if patch.attribution is not None]
    for tiles in [driving, [patch.pixels for patch in one.patches]] if driving else [[patch.pixels for patch in one.patches]]:
        picture.paste(_square(tiles, sheet), (left, top + sheet.title))
        left += sheet.square + sheet.between


def _label(one: "UnitPatches") -> str:
    return short_name(one.name) or f"{one.unit}"


def _square(tiles: Sequence[Pixels], sheet: _Sheet) -> Image.Image:
    """Lay tiles in rows with thin black lines around them; where there are none, it is grey."""
    square = Image.new("RGB", (sheet.square, sheet.square), (GROUND,) * 3)
    empty = Image.new("RGB", (sheet.side, sheet.side), (EMPTY,) * 3)
    for index in range(sheet.across**2):
        y, x = (LINE + place * (sheet.side + LINE) for place in divmod(index, sheet.across))
        square.paste(_to_side(tiles[index], sheet.side) if index < len(tiles) else empty, (x, y))
    return square


def _to_side(tile: Pixels, side: int) -> Image.Image:
    """Repeat pixels as often as they fit, or shrink."""
    picture = Image.fromarray(tile)
    return picture.resize((side, side), Image.Resampling.NEAREST if side >= tile.shape[0] else Image.Resampling.LANCZOS)


def _fitted(text: str, sheet: _Sheet) -> str:
    """Cut a text so that it does not reach the next unit's."""
    room = sheet.unit[0] - sheet.gap
    while len(text) > 1 and sheet.font.getlength(text) > room:
        text = f"{text[:-2].rstrip()}…"
    return text
