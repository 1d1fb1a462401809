"""What a user names as pictures, and the network that is to look at them: shared by the commands that look at any pictures."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import typer

from alexnet_cli.cli.command import FAILED
from alexnet_cli.cli.options import Device, Precision
from alexnet_cli.cli.predictions import printable
from alexnet_cli.cli.render import print_error
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from alexnet_cli.core.inputs import Input, Inputs, StoredPictures, Together
    from alexnet_cli.core.predict import Failure, Model
    from alexnet_cli.core.store import Store

STDIN = "-"

Answer = TypeVar("Answer")


def refuse_contradictions(sources: Sequence[str], files_from: str | None, data: Path | None, nothing: str) -> None:
    """Raise a usage error where no picture is named, or in two ways that exclude each other. nothing: what to say of none."""
    if not (sources or files_from is not None or data):
        raise typer.BadParameter(nothing)
    if data and (sources or files_from is not None):
        raise typer.BadParameter("--data and pictures by name exclude each other")
    if files_from == STDIN and STDIN in sources:
        raise typer.BadParameter("standard input is either a picture or the list, not both")


def load_model(weights: str | None, runs: Path, device: Device, precision: Precision, reporter: Reporter) -> "Model":
    """Return the network that is meant, and say which it is."""
    from alexnet_cli.core.checkpoint import resolve_weights
    from alexnet_cli.core.predict import load

    path = resolve_weights(weights, runs)
    reporter.note(f"weights: {path}")
    return load(path, device=device.value, precision=precision.value)


def named_pictures(images: Sequence[str], files_from: str | None, null: bool) -> "Inputs":
    """Return the pictures of files, folders, patterns, addresses and a list."""
    from alexnet_cli.core.inputs import Inputs

    return Inputs(images, files_from, null, _stdin())


def pictures_or_stores(
    sources: Sequence[str], files_from: str | None, null: bool, model: "Model", reporter: Reporter
) -> "Together":
    """Return the same where a folder may also be a store, whose pictures are then meant."""
    from alexnet_cli.core.inputs import Inputs, StoredPictures, Together
    from alexnet_cli.core.store import DATA_FILE, Store

    stdin = _stdin()
    parts: list[Inputs | StoredPictures] = []
    for source in sources:
        if (Path(source) / DATA_FILE).is_file():
            parts.append(stored_pictures(Store(Path(source), sequential=True), model, reporter))
        else:
            parts.append(Inputs([source], stdin=stdin))
    if files_from is not None:
        parts.append(Inputs([], files_from, null, stdin))
    return Together(parts)


def stored_pictures(store: "Store", model: "Model", reporter: Reporter) -> "StoredPictures":
    """Return a store's pictures; raises DataError where they are of another size than the network's."""
    from alexnet_cli.core.batches import require_size, resize_mismatch
    from alexnet_cli.core.inputs import StoredPictures

    recipe = model.weights.recipe
    require_size(store, recipe)
    mismatch = resize_mismatch(store, recipe)
    if mismatch:
        reporter.warn(mismatch)
    return StoredPictures(store)


def with_truth(inputs: "Iterable[Input]", model: "Model") -> "Iterator[Input]":
    """Give pictures the class after which their folder is named."""
    from alexnet_cli.core.folder_truth import from_folders

    return from_folders(inputs, model.weights.classes, model.weights.words)


def _stdin() -> BufferedIOBase:
    """Return standard input with a buffer of its own: Python's end waits for the lock of `sys.stdin`, which a reader may hold."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:  # no real file, as in a notebook
        return cast(BufferedIOBase, sys.stdin.buffer)


class Tally:
    """Names the pictures that cannot be read as they come, and counts all."""

    def __init__(self) -> None:
        self.answered, self.failed = 0, 0

    def answers(self, answers: "Iterable[Answer | Failure]") -> Iterator[Answer]:
        """Return the answers about those that could be read."""
        from alexnet_cli.core.predict import Failure

        for answer in answers:
            if isinstance(answer, Failure):
                self.failed += 1
                print_error(f"{printable(answer.path)}: {printable(answer.reason)}")
            else:
                self.answered += 1
                yield answer

    def end(self) -> None:
        """Exit with a failure where there was any, and say how many where there were several."""
        if self.failed > 1:
            print_error(f"{self.failed:,} of {self.failed + self.answered:,} pictures could not be read")
        if self.failed:
            raise typer.Exit(FAILED)
