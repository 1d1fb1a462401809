"""How coloured the kernels of two towers are, as a picture: of trained networks, and over the epochs of a training.

It must not import torch. Legend: N kernels, C channels, H, W.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.plot import cut, new_figure
from alexnet_cli.core.specialisation import NOISE_SHARE, Comparison, Specialisation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Blue and vermilion, which the colour-blind and grey print can tell apart; the towers also differ in their marks.
COLOURS, MARKS = {"a": "#0072b2", "b": "#d55e00"}, {"a": "o", "b": "s"}
DOTS_PER_INCH = 200
ASIDE, ABOVE = 0.09, 0.019  # as near two points come: of the way from a column to the next, and of the share
BLANK = 2  # pixels between two kernels


def draw_specialisation(
    networks: Sequence[tuple[str, Specialisation]], kernels_NCHW: NDArray[np.float32] | None = None
) -> "Figure":
    """Draw the share of each kernel, a column for each tower with its median and quartiles: hollow where it is mostly noise.

    networks: name and what was measured. kernels_NCHW: those of the only network, RGB, drawn beside it from the least to the
    most coloured; None where there are several. Raises AlexNetError where matplotlib is not installed.
    """
    width = 9.5 if kernels_NCHW is not None else max(5.0, 2.0 + 1.7 * len(networks))
    figure = new_figure((width, 5.0))
    halves: Any = None if kernels_NCHW is None else figure.subfigures(1, 2, width_ratios=(1, 1.1), wspace=0.03)
    axes = figure.add_subplot() if halves is None else halves[0].add_subplot()
    for place, (_, found) in enumerate(networks):
        for column, (tower, shares, learned) in enumerate(_by_tower(found)):
            _draw_tower(axes, 2.6 * place + column, tower, shares, learned)
    _draw_scale(axes)
    _name_columns(axes, networks)
    _draw_legend(axes, len(networks), any(not found.learned_N.all() for _, found in networks))
    if kernels_NCHW is not None:
        _draw_swatches(halves[1], kernels_NCHW, networks[0][1])
    return figure


def draw_emergence(epochs: Sequence[int], comparisons: Sequence[Comparison], name: str) -> "Figure":
    """Draw the median of each tower over the epochs of a training, with the band between its quartiles.

    name: of the run. Raises AlexNetError where matplotlib is not installed.
    """
    figure = new_figure((8.0, 4.8))
    axes = figure.add_subplot()
    alone: dict[str, Any] = {"marker": "o"} if len(epochs) == 1 else {}  # a line through one point is nothing
    for tower, style in (("a", "-"), ("b", "--")):
        spreads = [getattr(comparison, tower) for comparison in comparisons]
        low, middle, high = (
            [getattr(spread, part) for spread in spreads] for part in ("lower_quartile", "median", "upper_quartile")
        )
        axes.fill_between(epochs, low, high, color=COLOURS[tower], alpha=0.2, linewidth=0)
        axes.plot(epochs, middle, color=COLOURS[tower], linestyle=style, linewidth=2, label=f"tower {tower}", **alone)
    _draw_scale(axes)
    axes.set_xlabel("epoch (0: before the first step)")
    axes.set_xlim(min(epochs), max(epochs) if len(epochs) > 1 else min(epochs) + 1)
    axes.locator_params(axis="x", integer=True)
    axes.set_title(f"{cut(name)}: medians, and bands between the quartiles", fontsize=11, parse_math=False)
    axes.legend(frameon=False, loc="best")
    return figure


def _by_tower(found: Specialisation) -> list[tuple[str, NDArray[np.float64], NDArray[np.bool_]]]:
    """Return each tower's name, shares and which are learned, without kernels of zeros."""
    halves = zip("ab", np.split(found.shares_N, 2), np.split(found.learned_N, 2), strict=True)
    return [(tower, shares[np.isfinite(shares)], learned[np.isfinite(shares)]) for tower, shares, learned in halves]


def _draw_tower(axes: "Axes", column: float, tower: str, shares: NDArray[np.float64], learned: NDArray[np.bool_]) -> None:
    colour = COLOURS[tower]
    places = column + _beside_each_other(shares)
    style: dict[str, Any] = {"s": 13, "marker": MARKS[tower], "linewidths": 0.8, "edgecolors": colour, "zorder": 3}
    axes.scatter(places[learned], shares[learned], facecolors=colour, **style)
    axes.scatter(places[~learned], shares[~learned], facecolors="white", **style)
    low, middle, high = np.percentile(shares, (25, 50, 75))
    # Behind the points, and wider than they ever stand.
    axes.fill_between([column - 0.43, column + 0.43], low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
    axes.plot([column - 0.43, column + 0.43], [middle, middle], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2)


def _beside_each_other(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far from its column's middle each point stands: as near as it can without touching one, while there is room."""
    offsets = np.zeros(len(shares))
    order = np.argsort(shares, kind="stable")
    tried = [sign * ASIDE * steps for steps in range(int(0.4 / ASIDE) + 1) for sign in (1, -1)]
    for number, point in enumerate(order):
        near = [other for other in order[:number] if shares[point] - shares[other] < ABOVE]
        free = (offset for offset in tried if all(abs(offset - offsets[other]) >= ASIDE / 2 for other in near))
        offsets[point] = next(free, tried[number % len(tried)])
    return offsets


def _draw_scale(axes: "Axes") -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("share of a kernel's energy that is colour")
    axes.axhline(NOISE_SHARE, color="#555555", linestyle=":", linewidth=1.2, zorder=0)
    axes.annotate(
        "noise\n(2/3)",
        (1, NOISE_SHARE),
        (3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color="#555555",
    )
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.6, zorder=-1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name_columns(axes: "Axes", networks: Sequence[tuple[str, Specialisation]]) -> None:
    columns = [2.6 * place + column for place in range(len(networks)) for column in (0, 1)]
    axes.set_xticks(columns, ["tower a", "tower b"] if len(networks) == 1 else ["a", "b"] * len(networks))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.7, columns[-1] + 0.7)
    for place, (name, found) in enumerate(networks):
        coloured = f"{found.of_all.coloured} is more coloured" if found.of_all.coloured else "no difference"
        text = f"{cut(name)}\n{coloured}\np = {found.of_all.p:.2g}"
        size = 9 if len(networks) == 1 else 7.5
        axes.text(2.6 * place + 0.5, 1.03, text, ha="center", va="bottom", fontsize=size, parse_math=False)


def _draw_legend(axes: "Axes", networks: int, hollow: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    point: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 4.5, "color": "#444444"}
    entries: list[Line2D | Patch] = [Line2D([], [], label="a kernel that has learned" if hollow else "a kernel", **point)]
    if hollow:
        entries.append(Line2D([], [], label="mostly initial noise", markerfacecolor="white", **point))
    entries.append(Line2D([], [], color="#444444", linewidth=2.2, label="median"))
    entries.append(Patch(color="#444444", alpha=0.2, linewidth=0, label="quartiles"))
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.07), "ncols": 2 if networks == 1 else 4}
    axes.legend(handles=entries, frameon=False, fontsize=8, **below)


def _draw_swatches(figure: "SubFigure", kernels_NCHW: NDArray[np.float32], found: Specialisation) -> None:
    """Draw each tower's kernels in the order of their shares, each on a scale of its own whose grey is zero."""
    halves = zip(np.split(kernels_NCHW, 2), np.split(found.shares_N, 2), "ab", (1, 2), strict=True)
    for kernels, shares, tower, place in halves:
        axes = figure.add_subplot(2, 1, place)
        order = np.argsort(shares)  # NaN comes last
        axes.imshow(_mosaic(_to_colours(kernels[order])), interpolation="nearest")
        axes.set_title(f"tower {tower}, from grey to coloured, each on its own scale", fontsize=9, color=COLOURS[tower])
        axes.set_axis_off()


def _to_colours(kernels_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    largest = np.abs(kernels_NCHW).max(axis=(1, 2, 3), keepdims=True)
    return (0.5 + 0.5 * kernels_NCHW / np.where(largest == 0, 1, largest)).astype(np.float32)


def _mosaic(tiles_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay tiles, 0-1, in rows on white."""
    count, _, side, _ = tiles_NCHW.shape
    columns = math.ceil(math.sqrt(3 * count))  # 12 of 48: three times as wide as high
    cell = side + BLANK
    picture = np.ones((math.ceil(count / columns) * cell - BLANK, min(columns, count) * cell - BLANK, 3), np.float32)
    for index, tile in enumerate(tiles_NCHW):
        top, left = (place * cell for place in divmod(index, columns))
        picture[top : top + side, left : left + side] = tile.transpose(1, 2, 0)
    return picture
