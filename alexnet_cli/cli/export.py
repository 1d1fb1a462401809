"""`alexnet export`: weights for other programs."""

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import WEIGHTS_HELP, DebugOption, JsonOption, QuietOption, RunsOption, YesOption
from alexnet_cli.cli.render import print_json
from alexnet_cli.core.errors import AlexNetError


class Format(str, Enum):
    """What is written."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"


def export(
    weights: Annotated[
        str | None,
        typer.Argument(metavar="WEIGHTS", help=WEIGHTS_HELP, show_default="the best of the newest run"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="alexnet.onnx, or alexnet.pt2 for torch-export")
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", help="onnx: one plain graph; torch-export: a program for PyTorch alone.")
    ] = Format.ONNX,
    bake_preprocessing: Annotated[
        bool,
        typer.Option(
            "--bake-preprocessing",
            help="Take stored squares, uint8 (batch, 256, 256, 3), RGB: centre, mean and scale are part of the graph.",
        ),
    ] = False,
    logits: Annotated[bool, typer.Option("--logits", help="Give the scores before the softmax, not probabilities.")] = False,
    runs: RunsOption = Path("runs"),
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write weights as a network for other programs.

    It scores batches of any size. Without --bake-preprocessing it takes what the network sees: float32 (batch, 3, 224, 224), mean
    removed. ONNX files carry the recipe, the mean and the classes, and come back by `alexnet import`.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core import checkpoint

        path = checkpoint.resolve_weights(bring(weights, runs, reporter, yes=yes), runs)
        reporter.note(f"weights: {path}")
        out = out or Path("alexnet.onnx" if format is Format.ONNX else "alexnet.pt2")
        if out.exists() and out.samefile(path):
            raise AlexNetError(f"{out} is the file to be read", hint=f"alexnet export {shlex.quote(str(path))} --out another.onnx")
        loaded = checkpoint.load_weights(path)
        if format is Format.ONNX:
            from alexnet_cli.core.onnx_writer import write_onnx

            write_onnx(out, loaded, bake_preprocessing=bake_preprocessing, logits=logits)
        else:
            from alexnet_cli.core.program import write_program

            write_program(out, loaded, bake_preprocessing=bake_preprocessing, logits=logits)
        document = {"out": str(out), "format": format.value, "weights": str(path), "recipe": loaded.recipe.name}
        print_json({**document, "bytes": out.stat().st_size}) if as_json else print(out)
