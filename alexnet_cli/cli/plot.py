"""`alexnet plot`: how trainings went, as a picture."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import DebugOption, QuietOption, RunsOption
from alexnet_cli.core.run_folder import LATEST


class What(str, Enum):
    """What the curves show."""

    ERROR = "error"
    LOSS = "loss"
    TOP5 = "top5"


def plot(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Names or folders of runs to compare.", show_default="the newest run"),
    ] = None,
    what: Annotated[What, typer.Option("--what", help="Top-1 error, loss, or top-5 error, which is measured on val only.")] = (
        What.ERROR
    ),
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("curves.png"),
    runs: RunsOption = Path("runs"),
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the training and validation curves of runs.

    Over the epochs: one run's training black and validation red, several with a colour for each, training dashed and validation
    solid. Of a long training the means of 500 parts are drawn. Needs alexnet-cli[plot].
    """
    with running(quiet=quiet, debug=debug):
        from alexnet_cli.core.curves import find_run, read_curves
        from alexnet_cli.core.plot import draw_curves, save_figure

        curves = [read_curves(find_run(name, runs), what.value) for name in run or [LATEST]]
        save_figure(draw_curves(curves, what.value), out)
        print(out)
