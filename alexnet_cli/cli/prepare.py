"""`alexnet prepare`: pictures in class folders become stores."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import DebugOption, QuietOption, WorkersOption
from alexnet_cli.cli.render import duration, print_facts, size

if TYPE_CHECKING:
    from alexnet_cli.core.prepare import PrepareSummary


class Format(str, Enum):
    """What a record holds."""

    JPEG = "jpeg"
    RAW = "raw"


class OnError(str, Enum):
    """What to do about a picture that cannot be read."""

    SKIP = "skip"
    STOP = "stop"


def prepare(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="Folder with train/, val/ (or validation/) and perhaps test/, of class folders."),
    ],
    out: Annotated[Path, typer.Option("--out", envvar="ALEXNET_DATA", help="Folder to write.")] = Path("data"),
    format: Annotated[
        Format, typer.Option("--format", help="jpeg: small; raw: nothing to decode, 196,608 bytes each.")
    ] = Format.JPEG,
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="JPEG quality.")] = 95,
    workers: WorkersOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many pictures of each split.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the order of the records and of --limit's choice.")] = 0,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="A picture that cannot be read: count, list and skip it, or stop.")
    ] = OnError.SKIP,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier output of prepare; files of others are never deleted.")
    ] = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Store pictures at 256x256, with their mean image.

    Of each picture the shorter side becomes 256, and the centre is kept. An interrupted run continues when the same command
    is repeated; a finished one is left as it is.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core import prepare as core

        summary = core.prepare(
            source,
            out,
            format=format.value,
            quality=quality,
            workers=workers,
            limit=limit,
            seed=seed,
            force=force,
            on_error=on_error.value,
            reporter=reporter,
        )
        _print(summary)


def _print(summary: "PrepareSummary") -> None:
    facts: list[tuple[str, object]] = [("store", summary.out), ("classes", f"{summary.classes:,}")]
    for name, split in summary.splits.items():
        rejected = f", {split.rejected:,} rejected" if split.rejected else ""
        facts.append((name, f"{split.records:,} pictures, {size(split.bytes)}{rejected}"))
    if summary.rejected_file:
        facts.append(("rejected", f"listed with reasons in {summary.rejected_file}"))
    if summary.images:
        facts.append(("time", f"{duration(summary.seconds)}, {summary.images_per_second:,.0f} pictures/s"))
    print_facts(facts)
