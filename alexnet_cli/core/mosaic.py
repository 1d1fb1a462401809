"""Many small pictures of one size as one: rows of tiles in blocks, such as the towers', enlarged by repeating pixels.

It knows nothing of networks, and must not import torch.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.letters import Font, load_font
from alexnet_cli.core.plot import new_figure, require_matplotlib, save_figure

Tile = NDArray[np.uint8]  # (h, w, 3)

COLUMNS, GAP, BLOCK_GAP = 16, 1, 3  # the paper's figure 3; gaps in pixels before the enlargement
LEAST_WIDTH = 1000  # pixels of the picture, which a screen shows whole
PAGE_INCHES = (5.5, 9.0)  # the text of a NIPS paper
POINTS, LEAST_POINTS = 7.0, 5.0  # of letters where the picture is as wide as the page
LEAST_LETTER = 11  # pixels, below which no screen shows them well
INK = (235, 235, 235)
MOST_PIXELS = 80_000_000  # of a picture; larger ones are opened by few programs, and with a warning by Pillow


def draw_mosaic(
    blocks: Sequence[Sequence[Tile]],
    *,
    columns: int = COLUMNS,
    gap: int = GAP,
    block_gap: int = BLOCK_GAP,
    scale: int | None = None,
    labels: Sequence[Sequence[str]] | None = None,
    titles: Sequence[str] | None = None,
    row_names: Sequence[Sequence[str]] | None = None,
) -> Image.Image:
    """Lay tiles in rows, block below block, with black between them; pixels are repeated, never blended.

    blocks: uint8 (h, w, 3), RGB, all of one size; at least one tile, and a block without any is left out. gap, block_gap: black
    pixels between tiles and between blocks, before the enlargement. scale: how often a pixel is repeated each way; None for the
    smallest number that makes the tiles LEAST_WIDTH wide or more. labels: a text under each tile, as blocks; titles: one above
    each block; row_names: one to the left of each row, by block. Where a text is wider than its tile, the tiles stand further
    apart. Returns an RGB picture. Raises AlexNetError where it would be too large.
    """
    tile = next(tile for block in blocks for tile in block)
    layout = lay_out(
        [len(block) for block in blocks],
        (tile.shape[0], tile.shape[1]),
        columns=columns,
        gap=gap,
        block_gap=block_gap,
        scale=scale,
        labels=labels,
        titles=titles,
        row_names=row_names,
    )
    picture = Image.new("RGB", layout.size)
    top = 0
    for index, block in enumerate(block for block in blocks if len(block)):
        _draw_block(picture, top, block, layout.grid, layout.texts, index)
        top += layout.grid.height(len(block)) + layout.between
    return picture


@dataclass(frozen=True)
class Layout:
    """Where the tiles of a mosaic lie, and what is written beside them. size: of the picture, (horizontal, vertical)."""

    size: tuple[int, int]
    between: int
    grid: "_Grid"
    texts: "_Texts"


def lay_out(
    counts: Sequence[int],
    tile: tuple[int, int],
    *,
    columns: int = COLUMNS,
    gap: int = GAP,
    block_gap: int = BLOCK_GAP,
    scale: int | None = None,
    labels: Sequence[Sequence[str]] | None = None,
    titles: Sequence[str] | None = None,
    row_names: Sequence[Sequence[str]] | None = None,
) -> Layout:
    """Return where `draw_mosaic` puts blocks of so many tiles of that size, (vertical, horizontal), before there are any.

    Raises AlexNetError where the picture would be too large.
    """
    shown = [index for index, count in enumerate(counts) if count]
    texts = _Texts(
        [labels[index] if labels else () for index in shown],
        [titles[index] if titles else "" for index in shown],
        [row_names[index] if row_names else () for index in shown],
    )
    grid = _grid(tile, min(columns, max(counts)), gap, scale, texts)
    between = max(0, block_gap - 2 * gap) * grid.scale  # each block has its own black edge
    width, height = grid.width(), sum(grid.height(counts[index]) for index in shown) + between * (len(shown) - 1)
    if width * height > MOST_PIXELS:
        raise AlexNetError(
            f"the picture would have {width:,} x {height:,} pixels, expected {MOST_PIXELS:,} at most",
            hint="draw fewer tiles, or enlarge them less",
        )
    return Layout((width, height), between, grid, texts)


def save_mosaic(picture: Image.Image, path: Path, *, sharp: bool = True) -> None:
    """Write a picture as PNG, or as SVG or PDF where the path ends so; the same picture gives the same bytes.

    As large as fits the text of a paper, 5.5 by 9 inches; no pixel is blended with its neighbours, nor compressed with a loss.
    sharp: whether an SVG asks its viewer not to blend pixels either, which leaves letters and photographs ragged where it shows
    fewer than there are. Raises AlexNetError where it cannot be written, or where PDF is wanted and matplotlib is not installed.
    """
    width, height = picture.size
    dpi = max(width / PAGE_INCHES[0], height / PAGE_INCHES[1])
    if path.suffix.lower() == ".svg":
        write_atomically(path, lambda partial: partial.write_text(_svg(picture, dpi, sharp=sharp), encoding="utf-8"))
    elif path.suffix.lower() == ".pdf":
        figure = new_figure((width / dpi, height / dpi), layout=None)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        # "none" keeps the pixels as they are in the file, for a viewer to enlarge.
        axes.imshow(np.asarray(picture), interpolation="none", aspect="auto").set_clip_on(False)
        save_figure(figure, path, dpi=math.ceil(dpi))
    else:
        write_atomically(path, lambda partial: picture.save(partial, format="PNG", dpi=(dpi, dpi)))


def _svg(picture: Image.Image, dpi: float, *, sharp: bool) -> str:
    """Return an SVG file of one picture and nothing else."""
    file = BytesIO()
    picture.save(file, format="PNG")
    width, height = picture.size
    style = ' style="image-rendering:crisp-edges;image-rendering:pixelated"' if sharp else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1"'
        f' width="{72 * width / dpi:.4f}pt" height="{72 * height / dpi:.4f}pt" viewBox="0 0 {width} {height}">\n'
        f'<image width="{width}" height="{height}"{style}'
        f' xlink:href="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"/>\n</svg>\n'
    )


def prepare_to_save(path: Path) -> None:
    """Raise AlexNetError where `save_mosaic` would want matplotlib in vain, before long work that ends in a picture."""
    if path.suffix.lower() == ".pdf":
        require_matplotlib("PDF pictures")


def columns_for(counts: Sequence[int], *, shape: float = 2.2) -> int:
    """Return how many tiles, of blocks of so many square ones, stand in a row, for a picture so many times as wide as high.

    Rather another shape than many empty places.
    """

    def cost(columns: int) -> float:
        rows = [math.ceil(count / columns) for count in counts]
        # A block of one row may be shorter than another's; only a last row that breaks off looks wrong.
        empty = sum(-count % columns for count, of_block in zip(counts, rows, strict=True) if of_block > 1)
        return abs(math.log(columns / sum(rows) / shape)) + 5 * empty / (sum(rows) * columns)

    return min(range(1, max(counts) + 1), key=cost)


@dataclass(frozen=True)
class _Texts:
    """What is written, by block: labels under the tiles, a title above them, names to the left of the rows."""

    labels: Sequence[Sequence[str]]
    titles: Sequence[str]
    row_names: Sequence[Sequence[str]]

    def under(self) -> list[str]:
        return [text for block in self.labels for text in block if text]

    def beside(self) -> list[str]:
        return [text for block in self.row_names for text in block if text]


@dataclass(frozen=True)
class _Grid:
    """Where everything of a block lies, in pixels of the picture: sizes are (vertical, horizontal)."""

    columns: int
    scale: int
    tile: tuple[int, int]
    pitch: tuple[int, int]
    edge: int
    left: int
    above: int
    widest_title: int
    line: int
    font: Font

    def width(self) -> int:
        return self.left + self.edge + max(self.columns * self.pitch[1], self.widest_title)

    def height(self, count: int) -> int:
        return self.above + math.ceil(count / self.columns) * self.pitch[0] + self.edge

    def place(self, index: int) -> tuple[int, int]:
        """Return the top left corner of a tile, which is in the middle of its column."""
        row, column = divmod(index, self.columns)
        aside = (self.pitch[1] - self.tile[1] - self.edge) // 2
        return self.above + self.edge + row * self.pitch[0], self.left + self.edge + column * self.pitch[1] + aside


def _grid(size: tuple[int, ...], columns: int, gap: int, scale: int | None, texts: _Texts) -> _Grid:
    narrow = columns * (size[1] + gap) + gap
    scale = scale or math.ceil(LEAST_WIDTH / narrow)
    cell = ((size[0] + gap) * scale, (size[1] + gap) * scale)
    font, line = _font(narrow * scale, cell[1], texts)
    widest = max((_width(font, text) + line // 2 for text in texts.under()), default=0)
    return _Grid(
        columns=columns,
        scale=scale,
        tile=(size[0] * scale, size[1] * scale),
        pitch=(cell[0] + (line if texts.under() else 0), max(cell[1], widest)),
        edge=gap * scale,
        left=max((_width(font, text) + line // 2 for text in texts.beside()), default=0),
        above=line if any(texts.titles) else 0,
        widest_title=max(_width(font, title) for title in texts.titles),
        line=line,
        font=font,
    )


def _font(width: int, cell: int, texts: _Texts) -> tuple[Font, int]:
    """Return a font for a picture of that width, and a line's height: smaller, but not too small, where labels ask for it."""
    by_points, written = width / PAGE_INCHES[0] / 72, [*texts.under(), *texts.beside(), *texts.titles]
    size, least = (max(LEAST_LETTER, round(by_points * points)) for points in (POINTS, LEAST_POINTS))
    font = load_font(size, written)
    while size > least and any(_width(font, text) + _line(size) // 2 > cell for text in texts.under()):
        size -= 1
        font = load_font(size, written)
    return font, _line(size)


def _line(size: int) -> int:
    return round(1.4 * size)


def _width(font: Font, text: str) -> int:
    return math.ceil(font.getlength(text))


def _draw_block(picture: Image.Image, top: int, tiles: Sequence[Tile], grid: _Grid, texts: _Texts, index: int) -> None:
    pen = ImageDraw.Draw(picture)
    for place, tile in enumerate(tiles):
        y, x = grid.place(place)
        picture.paste(Image.fromarray(tile.repeat(grid.scale, axis=0).repeat(grid.scale, axis=1)), (x, top + y))
    for place, label in enumerate(texts.labels[index]):
        y, x = grid.place(place)
        pen.text((x + grid.tile[1] / 2, top + y + grid.tile[0] + grid.line / 2), label, INK, grid.font, "mm")
    for row, name in enumerate(texts.row_names[index]):
        y, _ = grid.place(row * grid.columns)
        pen.text((grid.left / 2, top + y + grid.tile[0] / 2), name, INK, grid.font, "mm")
    if texts.titles[index]:
        pen.text((grid.left + grid.edge, top + grid.edge + grid.above / 2), texts.titles[index], INK, grid.font, "lm")
