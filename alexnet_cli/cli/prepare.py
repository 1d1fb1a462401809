"""`alexnet prepare`: a source of pictures becomes stores."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import DebugOption, QuietOption, WorkersOption
from alexnet_cli.cli.render import duration, print_facts, print_table, size
from alexnet_cli.core.recipe import STORED_SIZE

if TYPE_CHECKING:
    from alexnet_cli.core.prepare import PrepareSummary


class Format(str, Enum):
    """What a record holds."""

    JPEG = "jpeg"
    RAW = "raw"


class Resize(str, Enum):
    """How a picture becomes a square."""

    SHORT_SIDE = "short-side"
    WARP = "warp"


class SourceKind(str, Enum):
    """What a source is: the keys of `core.sources.KINDS`, which are not imported here to start fast."""

    ARCHIVES = "archives"
    KAGGLE = "kaggle"
    PARQUET = "parquet"
    IMAGENET = "imagenet"
    FOLDERS = "folders"
    TORCHVISION = "torchvision"


class OnError(str, Enum):
    """What to do about a picture that cannot be read."""

    SKIP = "skip"
    STOP = "stop"


def _check_classes(value: str | None) -> str | None:
    if value is not None and not [name for name in value.split(",") if name.strip()]:
        raise typer.BadParameter(f"{value!r} is neither a number nor a list of class ids with commas between")
    return value


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="Folder of ImageNet or other pictures in one of the kinds of --source, or torchvision:NAME."
    ),
]
OutOption = Annotated[Path, typer.Option("--out", envvar="ALEXNET_DATA", help="Folder to write.")]
KindOption = Annotated[
    SourceKind | None,
    typer.Option("--source", help="What SOURCE is, where it is not to be recognised.", show_default="recognised by looking"),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="jpeg: small; raw: nothing to decode, 196,608 bytes each, 267 GB for ImageNet.")
]
SizeOption = Annotated[int, typer.Option("--size", min=8, max=256, help="Side of the stored squares; 32 for the recipe tiny.")]
ResizeOption = Annotated[
    Resize,
    typer.Option(
        "--resize",
        help="short-side: it becomes --size and the centre is kept; warp: the whole is pressed into the square, as for bvlc.",
    ),
]
QualityOption = Annotated[int, typer.Option("--quality", min=1, max=100, help="JPEG quality.")]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="So many classes, drawn by --seed, or a list of their ids with commas between.",
        show_default="all",
        callback=_check_classes,
    ),
]
PerClassOption = Annotated[
    int | None, typer.Option("--per-class", min=1, help="At most so many training pictures of each class.", show_default="all")
]
HoldoutOption = Annotated[
    float | None,
    typer.Option(
        "--holdout",
        min=0.0001,
        max=0.9,
        help="Share of each class's training pictures that becomes val, where SOURCE has none.",
        show_default="none",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many pictures of each split.", show_default="all")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the records' order and of what is drawn.")]
OnErrorOption = Annotated[
    OnError, typer.Option("--on-error", help="A picture that cannot be read: count, list and skip it, or stop.")
]
MaxRejectedOption = Annotated[
    int | None,
    typer.Option("--max-rejected", min=0, help="Fail when more pictures than this cannot be read.", show_default="any number"),
]
VerifyOption = Annotated[
    bool, typer.Option("--verify-archives", help="Compare the official archives with their published MD5 sums first.")
]
DownloadsOption = Annotated[
    Path, typer.Option("--downloads", envvar="ALEXNET_DOWNLOADS", help="Where torchvision's data sets are, or go.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace an earlier output of prepare; files of others are never deleted.")
]


def prepare(
    source: SourceArgument,
    out: OutOption = Path("data"),
    kind: KindOption = None,
    format: FormatOption = Format.JPEG,
    quality: QualityOption = 95,
    side: SizeOption = STORED_SIZE,
    resize: ResizeOption = Resize.SHORT_SIDE,
    workers: WorkersOption = None,
    classes: ClassesOption = None,
    per_class: PerClassOption = None,
    holdout: HoldoutOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    on_error: OnErrorOption = OnError.SKIP,
    max_rejected: MaxRejectedOption = None,
    verify: VerifyOption = False,
    downloads: DownloadsOption = Path("downloads"),
    force: ForceOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Store pictures as squares of 256x256, with their mean image.

    ImageNet is taken as it comes: the official archives, extracted folders, Kaggle's layout, parquet shards; and so are other
    folders of class folders. Of each picture the shorter side becomes 256, and the centre is kept. An interrupted run continues
    when the same command is repeated; a finished one is left as it is.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core import prepare as core
        from alexnet_cli.core.splits import Selection

        summary = core.prepare(
            source,
            out,
            kind=kind.value if kind else None,
            selection=Selection(_classes(classes), per_class, holdout),
            format=format.value,
            quality=quality,
            size=side,
            resize=resize.value.replace("-", "_"),  # type: ignore[arg-type]
            workers=workers,
            limit=limit,
            seed=seed,
            force=force,
            on_error=on_error.value,
            max_rejected=max_rejected,
            verify=verify,
            downloads=downloads,
            reporter=reporter,
        )
        _print(summary)


def _classes(value: str | None) -> tuple[str, ...] | int | None:
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    return int(names[0]) if len(names) == 1 and names[0].isdecimal() else names


def _print(summary: "PrepareSummary") -> None:
    rows = [
        (name, f"{split.records + split.rejected:,}", f"{split.records:,}", f"{split.rejected:,}", size(split.bytes))
        for name, split in summary.splits.items()
    ]
    facts: list[tuple[str, object]] = [("store", summary.out), ("classes", f"{summary.classes:,}")]
    if summary.rejected_file:
        facts.append(("rejected", f"listed with reasons in {summary.rejected_file}"))
    if summary.images:
        facts.append(("time", f"{duration(summary.seconds)}, {summary.images_per_second:,.0f} pictures/s"))
    print_facts(facts)
    print()
    print_table(("split", "read", "written", "rejected", "size"), rows)
