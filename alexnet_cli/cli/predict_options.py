"""The options of `alexnet predict` alone."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.options import check_picture


class Truth(str, Enum):
    """Where a picture's true class is known from."""

    NONE = "none"
    FOLDER = "folder"


ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Pictures: files, folders, quoted patterns such as '**/*.jpg', http(s) addresses; - is a picture on stdin.",
        show_default="those of --files-from or --data",
    ),
]
FilesFromOption = Annotated[
    str | None,
    typer.Option("--files-from", metavar="FILE", help="List of pictures, one a line; - is stdin.", show_default="none"),
]
NullOption = Annotated[bool, typer.Option("--null", "-0", help="Zero bytes end the names in --files-from, as find -print0 does.")]
PreparedOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder that `alexnet prepare` wrote: take the pictures of its --split.", show_default="none"),
]
SplitOption = Annotated[str, typer.Option("--split", help="Which pictures of --data: train, val or test.")]
TopOption = Annotated[int, typer.Option("--top", min=1, help="How many classes to name.")]
JsonLinesOption = Annotated[bool, typer.Option("--jsonl", help="Print one JSON document a line for each picture.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print a table: path, rank, class, name, probability, truth.")]
TruthOption = Annotated[
    Truth, typer.Option("--truth", help="folder: each picture lies in a folder named like its true class, by id or words.")
]
PanelOption = Annotated[
    Path | None,
    typer.Option(
        "--panel",
        help="Also draw the first 24 pictures with their five most probable classes: .png, .svg or .pdf.",
        callback=check_picture,
        show_default="none",
    ),
]
SubmissionOption = Annotated[
    Path | None,
    typer.Option(
        "--submission",
        metavar="FILE",
        help="Write the five most probable classes in the form of the ImageNet challenge instead of printing; needs --devkit.",
        show_default="none",
    ),
]
DevkitOption = Annotated[
    Path | None,
    typer.Option("--devkit", help="ILSVRC-2012's development kit, a folder or its archive, for --submission.", show_default="none"),
]
