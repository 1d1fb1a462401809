"""Pictures with those that are most alike to them, as in the paper's figure 4, right. It must not import torch."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.panel import DOTS_PER_INCH, EDGE, TRUE
from alexnet_cli.core.plot import cut, new_figure, save_figure, short_name

if TYPE_CHECKING:
    from alexnet_cli.core.similar import Neighbour, Similar

MOST_NEIGHBOURS = 12  # columns that are drawn
ROWS = 12  # above which a second column of rows begins
# Inches: a query and six neighbours are as wide as the text of a NIPS paper.
SIDE, GAP, APART, CAPTION, BETWEEN = 0.70, 0.06, 0.16, 0.15, 0.35
CAPTION_POINTS = 6.0
LONGEST = 15  # letters that fit below a picture


def draw_similar(found: "Sequence[Similar]", picture: Callable[[int], NDArray[np.uint8]], path: Path) -> None:
    """Draw a row for each query: itself, a gap, and its neighbours, nearest first; below each picture its class.

    found: those that carry an image. picture: of a record, uint8 (H, W, 3). path: .png, .svg or .pdf; its ending decides. Where
    the query's class is known, a neighbour of the same class has an orange frame and bold letters; a query without one has its
    file's name. The query itself among them is named so. Raises AlexNetError as `save_figure`.
    Source: paper, figure 4, right.
    """
    columns = min(MOST_NEIGHBOURS, max(len(similar.neighbours) for similar in found))
    parts = math.ceil(len(found) / ROWS)
    rows = math.ceil(len(found) / parts)
    width = (columns + 1) * (SIDE + GAP) - GAP + APART * bool(columns)
    inches = (2 * GAP + parts * width + (parts - 1) * BETWEEN, 2 * GAP + rows * (SIDE + CAPTION + GAP) - GAP)
    figure = new_figure(inches, layout=None)
    for index, similar in enumerate(found):
        part, row = divmod(index, rows)
        left, bottom = GAP + part * (width + BETWEEN), inches[1] - GAP - row * (SIDE + CAPTION + GAP) - SIDE
        _draw_query(_axes(figure, inches, left, bottom), similar)
        for column, neighbour in enumerate(similar.neighbours[:columns], start=1):
            axes = _axes(figure, inches, left + APART + column * (SIDE + GAP), bottom)
            _draw_neighbour(axes, neighbour, picture(neighbour.record), similar.truth)
    save_figure(figure, path, dpi=DOTS_PER_INCH)


def _axes(figure: Any, inches: tuple[float, float], left: float, bottom: float) -> Any:
    width, height = inches
    return figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))


def _draw_query(axes: Any, similar: "Similar") -> None:
    known = similar.truth_name is not None
    text = short_name(similar.truth_name) if similar.truth_name is not None else PurePath(similar.path).name
    _draw(axes, similar.image, text, {"fontweight": "bold"} if known else {"fontstyle": "italic", "color": EDGE})


def _draw_neighbour(axes: Any, neighbour: "Neighbour", image: NDArray[np.uint8], truth: str | None) -> None:
    same = truth is not None and neighbour.class_id == truth
    style = {"fontweight": "bold"} if same else {}
    _draw(axes, image, *(("itself", {"fontstyle": "italic"}) if neighbour.is_query else (short_name(neighbour.name), style)))
    if same:
        axes.spines[:].set(linewidth=1.6, color=TRUE)


def _draw(axes: Any, image: Any, text: str, style: dict[str, Any]) -> None:
    axes.imshow(image, interpolation="antialiased", aspect="equal")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color=EDGE)
    text = cut(text)
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"
    middle = -CAPTION / SIDE / 2
    axes.text(0.5, middle, text, transform=axes.transAxes, ha="center", va="center", size=CAPTION_POINTS, parse_math=False, **style)
