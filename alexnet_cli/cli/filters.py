"""`alexnet filters`: the learned kernels as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import DebugOption, QuietOption, RunsOption, WeightsOption, YesOption


def filters(
    layer: Annotated[str, typer.Option("--layer", help="Layer to draw.")] = "conv1",
    out: Annotated[Path, typer.Option("--out", help="Picture to write.")] = Path("filters.png"),
    weights: WeightsOption = None,
    runs: RunsOption = Path("runs"),
    yes: YesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw a layer's kernels as a picture.

    Like the paper's figure 3: tower a's above tower b's, on one common scale, nothing blurred.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core import checkpoint
        from alexnet_cli.core.files import write_atomically
        from alexnet_cli.core.filters import draw_filters

        path = checkpoint.resolve_weights(bring(weights, runs, reporter, yes=yes), runs)
        reporter.note(f"weights: {path}")
        picture = draw_filters(checkpoint.load_weights(path), layer)
        write_atomically(out, lambda temporary: picture.save(temporary, format="PNG"))
        print(out)
