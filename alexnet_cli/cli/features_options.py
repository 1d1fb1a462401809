"""The options of `alexnet features` and `alexnet similar`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.options import check_picture


class Views(str, Enum):
    """Which views of a picture are described."""

    CENTRE = "centre"
    TEN = "ten"


class Dtype(str, Enum):
    """The type of numbers."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class Index(str, Enum):
    """How the nearest are searched."""

    EXACT = "exact"
    FAISS = "faiss"


SourcesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="Pictures: files, folders, quoted patterns, http(s) addresses; - is a picture on stdin; or a store's folder.",
        show_default="those of --files-from or --data",
    ),
]
QueriesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUERY",
        help="Pictures: files, folders, quoted patterns, http(s) addresses; - is a picture on stdin; or a store's folder.",
        show_default="those of --files-from",
    ),
]
LayerOption = Annotated[
    str | None, typer.Option("--layer", help="Layer whose values describe a picture.", show_default="the last hidden one, fc7")
]
FeaturesOutOption = Annotated[
    Path, typer.Option("--out", help="File to write: .npy (with .csv and .json beside it), .npz, .safetensors (.csv) or .parquet.")
]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Type of the numbers.")]
ViewsOption = Annotated[Views, typer.Option("--views", help="The centre alone, or the mean over the ten of a test.")]
StoreSplitOption = Annotated[str, typer.Option("--split", help="Which pictures of --data: train, val or test.")]
NeighboursOption = Annotated[int, typer.Option("--top", min=1, help="How many pictures to name.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Take the first queries only, so many.", show_default="all")
]
ExcludeSelfOption = Annotated[
    bool, typer.Option("--exclude-self", help="Leave out the query itself, and copies of it, where --split holds them.")
]
IndexOption = Annotated[
    Index, typer.Option("--index", help="exact: every picture is measured; faiss: by an index kept beside the features.")
]
KeptDtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Type in which the store's features are kept.")]
SimilarOutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Also draw the first 24 queries and what is most alike to them: .png, .svg or .pdf.",
        callback=check_picture,
        show_default="not drawn",
    ),
]
CsvSimilarOption = Annotated[bool, typer.Option("--csv", help="Print a table with a row for each picture named.")]
