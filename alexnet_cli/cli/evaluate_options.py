"""The options of `alexnet evaluate` alone."""

from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.options import WEIGHTS_HELP, check_picture, check_splits


def _check_tuning(value: str | None) -> str | None:
    return value if value is None else check_splits(value)


WeightsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="WEIGHTS",
        help=f"{WEIGHTS_HELP[:-1]}; several are an ensemble.",
        show_default="the best of the newest run",
    ),
]
SplitsOption = Annotated[
    str, typer.Option("--split", help="train, val or test, or several with commas between.", callback=check_splits)
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels", help="Other labels than the store's: CSV with picture,label, or ReaL's JSON.", show_default="the store's"
    ),
]
RestrictOption = Annotated[
    bool, typer.Option("--restrict-classes", help="Let the network choose among the data's classes alone, if these are fewer.")
]
TuneOption = Annotated[
    str | None,
    typer.Option(
        "--tune-weights",
        metavar="SPLIT",
        help="Search what each member counts on this split.",
        callback=_check_tuning,
        show_default="all count alike",
    ),
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option("--predictions", help="Write the answers about each picture: .csv or .parquet.", show_default="not written"),
]
PerClassOption = Annotated[
    Path | None,
    typer.Option("--per-class", help="Write each class's errors: .csv or .parquet.", show_default="not written"),
]
ConfusionOption = Annotated[
    Path | None,
    typer.Option(
        "--confusion",
        help="Draw what is mistaken for what: .png, .svg or .pdf.",
        show_default="not drawn",
        callback=check_picture,
    ),
]
GpusOption = Annotated[int, typer.Option("--gpus", min=1, help="GPUs to share the pictures among; torchrun's are recognised.")]
