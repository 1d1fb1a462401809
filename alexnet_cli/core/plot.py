"""Curves of trainings as a picture, and the figures that others draw on: here matplotlib is imported, and only to draw.

But for its types, which others name, and its font, which `letters` looks up.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alexnet_cli.core.curves import Curve, RunCurves
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 500  # of a training curve: about one for two pixels
MOST_MARKERS = 40  # more tests stand too close to be marked one by one
LABELS = {"error": "top-1 error (%)", "loss": "loss (nats)", "top5": "top-5 error (%)"}
TRAIN, VAL = "black", "#d62728"  # shownet.py's black and red
# Okabe and Ito's colours, which the colour-blind can tell apart, less the yellow that white swallows.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
INCHES, DOTS_PER_INCH = (9.0, 5.5), 120
TALL_INCHES = (5.0, 5.5)  # the paper's figure 1 is higher than wide
LONGEST = 26  # letters of a name
PAPER_TOP = 0.75  # and ends at this error


def draw_curves(runs: Sequence[RunCurves], what: str) -> "Figure":
    """Draw training and validation over the epochs, or over the steps while some run is still in its first epoch.

    One run: training black, validation red. Several: a colour for each, training thin and dashed, validation solid.
    what: a key of LABELS, that of the curves. Raises AlexNetError where matplotlib is not installed.
    Source: the authors' shownet.py --show-cost.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    in_epochs = all(run.steps_per_epoch for run in runs)
    for index, run in enumerate(runs):
        unit = run.steps_per_epoch if in_epochs and run.steps_per_epoch else 1
        colours = (TRAIN, VAL) if len(runs) == 1 else (COLOURS[index % len(COLOURS)],) * 2
        _draw_run(axes, run, (unit, 1 if what == "loss" else 100), colours, alone=len(runs) == 1)
    axes.set_xlabel("epoch" if in_epochs else "step")
    axes.set_ylabel(LABELS[what])
    axes.set_title(", ".join(run.name for run in runs) if len(runs) <= 3 else f"{len(runs)} runs")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def draw_training_errors(curves: Sequence[tuple[str, Sequence[float]]], level: float) -> "Figure":
    """Draw the training error of each epoch as the paper's figure 1 does: the first curve solid, the second dashed, all black.

    curves: name and errors, 0-1, from epoch 1 on. level: where the dotted line lies. Raises AlexNetError without matplotlib.
    """
    figure = new_figure(TALL_INCHES)
    axes = figure.add_subplot()
    for (name, errors), style in zip(curves, ("-", "--"), strict=True):
        _draw_curve(axes, _by_epoch(errors), (1, 1), label=name, color="black", linestyle=style, linewidth=1.8)
    axes.axhline(level, color="black", linestyle=":", linewidth=1.0)
    axes.set_xlabel("Epochs")
    axes.set_ylabel("Training error rate")
    axes.set_xlim(0, max(len(errors) for _, errors in curves))
    axes.set_ylim(0, max(PAPER_TOP, *(max(errors) for _, errors in curves)))
    axes.legend(frameon=False, handlelength=3.5)
    return figure


def _by_epoch(errors: Sequence[float]) -> Curve:
    return Curve(np.arange(1, len(errors) + 1, dtype=np.float64), np.array(errors, dtype=np.float64))


def save_figure(figure: "Figure", path: Path, *, dpi: int = DOTS_PER_INCH) -> None:
    """Write a figure as PNG, SVG or PDF by the file's ending, as PNG where it has another; the same figure gives the same bytes."""
    kind = path.suffix.lower()[1:] if path.suffix.lower() in (".svg", ".pdf") else "png"
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    import matplotlib

    # The names of an SVG's parts are drawn at random unless something is given to make them from.
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "alexnet"}):
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # a script that the font lacks: boxes say so
        write_atomically(path, lambda partial: figure.savefig(partial, format=kind, dpi=dpi, metadata=undated))


def svg_of(figure: "Figure") -> str:
    """Return a figure as the text of an SVG file in which letters stay letters; the same figure gives the same text."""
    import matplotlib

    file = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "alexnet"}):
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return file.getvalue()


def short_name(name: str) -> str:
    """Return a class's first name, "tench" of "tench, Tinca tinca", cut where it is long, as the authors' shownet.py does."""
    return cut(name.split(",")[0])


def cut(text: str) -> str:
    """Return a text that can be drawn: no line breaks and the like, and not too long."""
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"


def require_matplotlib(what: str = "curves") -> None:
    """Raise AlexNetError where it is not installed, before long work that ends in a picture."""
    try:
        import matplotlib.backends.backend_agg  # noqa: F401
    except ImportError as error:
        raise AlexNetError(
            f"{what} are drawn by matplotlib, which is not installed", hint="pip install 'alexnet-cli[plot]'"
        ) from error


def new_figure(inches: tuple[float, float] = INCHES, *, layout: Literal["constrained"] | None = "constrained") -> "Figure":
    """Return an empty figure that needs no display; layout: None where its parts are placed by hand.

    Raises AlexNetError where matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout=layout)
    FigureCanvasAgg(figure)  # without pyplot there is no window and no display
    return figure


def _draw_run(axes: "Axes", run: RunCurves, scales: tuple[float, float], colours: tuple[str, str], *, alone: bool) -> None:
    prefix = "" if alone else f"{run.name}, "
    train_style = {"linewidth": 1.0} if alone else {"linewidth": 0.8, "linestyle": (0, (4, 2)), "alpha": 0.7}
    val_style: dict[str, Any] = {"linewidth": 1.8, "drawstyle": "steps-post"}  # a test holds until the next one
    if len(run.val.steps_N) <= MOST_MARKERS:
        val_style |= {"marker": "o", "markersize": 4}
    for curve, what, colour, style in (
        (run.train.binned(MOST_POINTS), "training", colours[0], train_style),
        (run.val, "validation", colours[1], val_style),
    ):
        _draw_curve(axes, curve, scales, label=prefix + what, color=colour, **style)


def _draw_curve(axes: "Axes", curve: Curve, scales: tuple[float, float], **style: Any) -> None:
    if len(curve.steps_N) == 1:
        style = {**style, "marker": "o", "markersize": 4}  # a line through one point is nothing
    if len(curve.steps_N):
        axes.plot(curve.steps_N / scales[0], curve.values_N * scales[1], **style)
