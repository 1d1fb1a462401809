"""What a user names as weights, brought to this machine where it is elsewhere: public names, and files on the Hub.

Core resolves files, runs and what is in the cache; only here is the user asked, because only here is a terminal.
"""

import sys
from pathlib import Path

import typer

from alexnet_cli.cli.render import is_terminal
from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.hub import SCHEME, fetch, parse_reference
from alexnet_cli.core.public_weights import PUBLIC_WEIGHTS, PublicWeights, original_path, weights_path
from alexnet_cli.core.reports import Reporter


def bring(argument: str | None, runs: Path, reporter: Reporter, *, yes: bool, ask: bool = True) -> str | None:
    """Return an argument that `resolve_weights` understands without the network: as it was given, or a path.

    yes: download without a question. ask: whether there may be one; without yes it takes a terminal.
    Raises CheckpointError when public weights are not here and may not be downloaded, and what their download raises.
    """
    if argument is None:
        return None
    if argument.startswith(SCHEME):
        return str(fetch(parse_reference(argument), reporter))
    if argument not in PUBLIC_WEIGHTS or Path(argument).exists() or (runs / argument).exists():
        return argument
    entry = PUBLIC_WEIGHTS[argument]
    if weights_path(entry).is_file():
        return argument
    if not original_path(entry).is_file():
        agree_to_download(entry, entry.remote.url, yes=yes, ask=ask)
    from alexnet_cli.core.pull import pull

    return str(pull(entry, reporter=reporter))


def agree_to_download(entry: PublicWeights, url: str, *, yes: bool, ask: bool = True) -> None:
    """Return when the user wants the download; raise typer.Abort when not, CheckpointError when nobody can be asked.

    Raises AlexNetError, before any question, where what came could not be read.
    """
    if original_path(entry).suffix == ".onnx":
        from alexnet_cli.core.onnx_reader import require_onnx

        require_onnx()
    if yes:
        return
    if not (ask and is_terminal(sys.stdin)):
        raise CheckpointError(
            f"{entry.name} is not here, and there is no terminal to ask", hint=f"alexnet weights pull {entry.name} --yes"
        )
    typer.confirm(f"{entry.name} is not here: download {entry.megabytes} MB from {url}?", abort=True, err=True)
