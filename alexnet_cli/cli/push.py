"""`alexnet push`: a weights file becomes a model on the Hugging Face Hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import WEIGHTS_HELP, DebugOption, QuietOption, RunsOption, YesOption
from alexnet_cli.cli.render import is_terminal, size
from alexnet_cli.core.errors import AlexNetError


def push(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=WEIGHTS_HELP)],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Repository, owner/name; it is made where there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository for your own eyes alone.")] = False,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence on the card, as the Hub spells it: apache-2.0.", show_default="none")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", help="Name, on the card, of the data set that was tested on.", show_default="validation pictures"
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    yes: YesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Publish weights on the Hugging Face Hub, with a card of what they are.

    Afterwards they are hf://REPO for every --weights. Needs alexnet-cli[hub] and a login: hf auth login, or HF_TOKEN.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core import hub

        hub.require_login()
        from alexnet_cli.core import checkpoint
        from alexnet_cli.core.model_card import write_card

        path = checkpoint.resolve_weights(bring(weights, runs, reporter, yes=yes), runs)
        card = write_card(checkpoint.load_weights(path), repo, licence=licence, dataset=dataset)
        _agree_to_push(path, repo, private=private, yes=yes)
        reporter.note(f"weights: {path} ({size(path.stat().st_size)})")
        print(hub.push(path, repo, card, private=private, reporter=reporter))


def _agree_to_push(path: Path, repo: str, *, private: bool, yes: bool) -> None:
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise AlexNetError(f"{repo} is not written to unasked, and there is no terminal to ask", hint="add --yes")
    eyes = "private where it is new" if private else "public where it is new"
    typer.confirm(f"push {path} ({size(path.stat().st_size)}) to {repo}, {eyes}?", abort=True, err=True)
