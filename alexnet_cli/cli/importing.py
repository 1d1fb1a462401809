"""`alexnet import`: weights of other programs as a weights file."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import DebugOption, JsonOption, QuietOption
from alexnet_cli.cli.render import is_terminal, print_json
from alexnet_cli.core.errors import CheckpointError

if TYPE_CHECKING:
    from alexnet_cli.core.checkpoint import Weights


def import_weights(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="ONNX, .caffemodel, torchvision's .pth, or safetensors with its names.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Weights file to write.")] = Path("weights.safetensors"),
    mean: Annotated[
        Path | None,
        typer.Option(
            "--mean",
            help="Mean of the training pictures, Caffe's .binaryproto or a .npy.",
            show_default="the means by channel that its authors publish",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes",
            help="Text with a class a line, id and name, in the order of the outputs.",
            show_default="ILSVRC-2012's, for 1,000 outputs",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --out without a question.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a weights file of another program's AlexNet.

    BVLC's AlexNet and CaffeNet as ONNX or .caffemodel, torchvision's as .pth or safetensors, and what `alexnet export` wrote.
    The kind of the file is told by its content. What evaluate, predict and filters then do is what that network wants: channel
    order, mean, normalisation and sizes become fields of the recipe. A file that is there already is replaced only when a terminal
    answers yes, or with --force.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.checkpoint import holds, save_weights
        from alexnet_cli.core.foreign import load_foreign

        if out.exists() and file.exists() and out.samefile(file):
            raise CheckpointError(
                f"{out} is the file to be read", hint=f"alexnet import {shlex.quote(str(file))} --out another.safetensors"
            )
        weights = load_foreign(file, mean=mean, classes=classes, reporter=reporter)
        if force or not out.exists():
            save_weights(out, weights)
        elif not holds(out, weights):
            _agree_to_replace(out)
            save_weights(out, weights)
        print_json(_document(out, file, weights)) if as_json else print(out)


def _agree_to_replace(out: Path) -> None:
    if not is_terminal(sys.stdin):
        raise CheckpointError(f"{out} is there already and holds something else", hint="choose another --out, or add --force")
    typer.confirm(f"{out} is there already and holds something else: replace it?", abort=True, err=True)


def _document(out: Path, file: Path, weights: "Weights") -> dict[str, Any]:
    parameters = sum(value.numel() for value in weights.tensors.values())
    return {
        "weights": str(out),
        "source": str(file),
        "recipe": weights.recipe.to_dict(),
        "classes": len(weights.classes),
        "parameters": parameters,
    }
