"""`alexnet weights`: what others have trained and published, by name."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.given_weights import agree_to_download
from alexnet_cli.cli.options import DebugOption, JsonOption, QuietOption, YesOption
from alexnet_cli.cli.render import print_facts, print_json, print_table
from alexnet_cli.core.public_weights import ENTRIES, PublicWeights, cache_folder, named, original_path, weights_path
from alexnet_cli.core.reports import Reporter

weights = typer.Typer(
    name="weights", help="Weights that others have published, by name.", no_args_is_help=True, rich_markup_mode=None
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name that alexnet weights list shows.")]


@weights.command("list")
def list_weights(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Weights of which to show all.", show_default="all, in short")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """List public weights: accuracy, licence, size, and whether they are here.

    With NAME also address, checksum and where the files lie. Accuracies are the authors' own, in %.
    """
    with running(quiet=quiet, debug=debug):
        chosen = [named(name)] if name else list(ENTRIES)
        if as_json:
            documents = [_document(entry) for entry in chosen]
            print_json(documents[0] if name else {"kind": "weights", "cache": str(cache_folder()), "weights": documents})
        elif name:
            _print_one(chosen[0])
        else:
            print_table(("name", "what it is", "licence", "top-1", "top-5", "size", "here"), [_row(one) for one in chosen], left=3)


@weights.command("pull")
def pull_weights(
    name: NameArgument,
    mean: Annotated[
        Path | None,
        typer.Option("--mean", help="Mean image, such as Caffe's ilsvrc_2012_mean.npy.", show_default="one value a channel"),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="Another place of the same file.", show_default="the authors' own"),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Download public weights, check them, convert them, and print the path of the weights file.

    What is here already is not downloaded again; a download that broke off goes on where it was.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        entry = named(name)
        if not (weights_path(entry).is_file() or original_path(entry).is_file()):
            agree_to_download(entry, source or entry.remote.url, yes=yes)
        from alexnet_cli.core.pull import pull

        convert = _with_mean(mean, reporter) if mean else None
        path = pull(entry, convert=convert, url=source, again=mean is not None, reporter=reporter)
        reporter.finish()
        print_json(_document(entry)) if as_json else print(path)


@weights.command("remove")
def remove_weights(name: NameArgument, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """Delete what was downloaded and converted of public weights."""
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.pull import remove

        entry = named(name)
        reporter.note(f"{name} is removed" if remove(entry) else f"nothing of {name} was here")


def _with_mean(mean: Path, reporter: Reporter) -> Any:
    from alexnet_cli.core.foreign import load_foreign

    return partial(load_foreign, mean=mean, reporter=reporter)


def _document(entry: PublicWeights) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "top1_accuracy": round(entry.top1 / 100, 5),
        "top5_accuracy": round(entry.top5 / 100, 5),
        "views": entry.views,
        "licence": entry.licence,
        "url": entry.remote.url,
        "digest": entry.remote.digest,
        "bytes": entry.remote.num_bytes,
        "path": str(weights_path(entry)),
        "here": weights_path(entry).is_file(),
    }


def _row(entry: PublicWeights) -> tuple[str, ...]:
    accuracies = (f"{entry.top1:g}", f"{entry.top5:g}")
    return entry.name, entry.title, entry.licence, *accuracies, f"{entry.megabytes} MB", _here(entry)


def _here(entry: PublicWeights) -> str:
    return "yes" if weights_path(entry).is_file() else "no"


def _print_one(entry: PublicWeights) -> None:
    print_facts(
        [
            ("weights", entry.name),
            ("what it is", entry.title),
            ("accuracy", f"top-1 {entry.top1:g} %, top-5 {entry.top5:g} %, {entry.views}, by its authors"),
            ("licence", entry.licence),
            ("size", f"{entry.remote.num_bytes:,} bytes" if entry.remote.num_bytes else f"about {entry.megabytes} MB"),
            ("address", entry.remote.url),
            ("checksum", entry.remote.digest),
            ("original", original_path(entry)),
            ("converted", weights_path(entry)),
            ("here", _here(entry)),
        ]
    )
