"""Pictures with what the network makes of them, as in the paper's figure 4, left; `plot` knows matplotlib, this the layout.

It must not import torch.
"""

import math
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from alexnet_cli.core.plot import cut, new_figure, require_matplotlib, save_figure, short_name

if TYPE_CHECKING:
    from alexnet_cli.core.predict import Prediction

MOST_PICTURES, BARS = 24, 5
COLUMNS, MANY, MORE_COLUMNS = 4, 12, 6  # four rows of six still fit a page
# Inches: four columns are as wide as the text of a NIPS paper.
SIDE, GAP, CAPTION, BAR = 1.30, 0.10, 0.19, 0.135
CAPTION_POINTS, BAR_POINTS = 7.5, 6.5
DOTS_PER_INCH = 300
# Of Okabe and Ito's colours, which the colour-blind can tell apart, light enough for black letters; the truth is bold too.
TRUE, OTHER, EDGE = "#f0a860", "#b3d7f0", "#555555"


def prepare_to_draw() -> None:
    """Raise AlexNetError where matplotlib is not installed, before the work whose end it would spoil."""
    require_matplotlib("pictures")


def draw_panel(predictions: "Sequence[Prediction]", path: Path) -> None:
    """Draw pictures, each above its true class or else its name, and the bars of its five most probable classes.

    In rows of four, or of six where there are more than twelve. predictions: those that carry an image, MOST_PICTURES at most.
    path: .png, .svg or .pdf; its ending decides. A bar is as long as its class is probable; that of the true class is orange and
    bold. Raises AlexNetError as `save_figure`.
    Source: paper, figure 4, left.
    """
    columns = min(COLUMNS if len(predictions) <= MANY else MORE_COLUMNS, len(predictions))
    rows = math.ceil(len(predictions) / columns)
    cell = (SIDE + GAP, SIDE + CAPTION + BARS * BAR + 2 * GAP)
    inches = (columns * cell[0] + GAP, rows * cell[1] + GAP)
    figure = new_figure(inches, layout=None)
    for index, prediction in enumerate(predictions):
        row, column = divmod(index, columns)
        left, top = GAP + column * cell[0], inches[1] - GAP - row * cell[1]
        _draw_picture(_axes(figure, inches, left, top - SIDE, SIDE), prediction)
        _draw_bars(_axes(figure, inches, left, top - SIDE - CAPTION - BARS * BAR, BARS * BAR), prediction)
    save_figure(figure, path, dpi=DOTS_PER_INCH)


def _axes(figure: Any, inches: tuple[float, float], left: float, bottom: float, height: float) -> Any:
    width, whole = inches
    return figure.add_axes((left / width, bottom / whole, SIDE / width, height / whole))


def _draw_picture(axes: Any, prediction: "Prediction") -> None:
    axes.imshow(prediction.image, interpolation="antialiased", aspect="equal")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.5, color=EDGE)
    known = prediction.truth is not None
    text = short_name(prediction.truth.name) if prediction.truth else cut(PurePath(prediction.path).name)
    middle = -CAPTION / SIDE / 2
    style = {"fontweight": "bold"} if known else {"fontstyle": "italic", "color": EDGE}
    axes.text(0.5, middle, text, transform=axes.transAxes, ha="center", va="center", size=CAPTION_POINTS, parse_math=False, **style)


def _draw_bars(axes: Any, prediction: "Prediction") -> None:
    truth = prediction.truth.class_id if prediction.truth else None
    for place, one in enumerate(prediction.predictions[:BARS]):
        true = one.class_id == truth
        axes.barh(place, one.probability, height=0.86, color=TRUE if true else OTHER, linewidth=0)
        axes.text(
            0.02,
            place,
            short_name(one.name),
            va="center_baseline",
            size=BAR_POINTS,
            parse_math=False,
            fontweight="bold" if true else "normal",
        )
    axes.set(xlim=(0, 1), ylim=(BARS - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.5, color=EDGE)
