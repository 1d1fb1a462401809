"""The options that several commands share, with one help text and one environment variable each."""

import re
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.core.recipe import CHOICES
from alexnet_cli.core.recipes import PRESETS, original


class Device(str, Enum):
    """Where to compute."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


class Precision(str, Enum):
    """The arithmetic of the network."""

    AUTO = "auto"
    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP64 = "fp64"


class Shuffle(str, Enum):
    """In which order an epoch meets the training pictures."""

    ONCE = "once"
    FULL = "full"
    BLOCK = "block"


class Crops(str, Enum):
    """How many views of a picture are averaged."""

    TEN = "10"
    ONE = "1"


PresetName = Enum("PresetName", {name.upper(): name for name in PRESETS}, type=str)  # type: ignore[misc]
Schedule = Enum("Schedule", {name.upper(): name for name in CHOICES["schedule"]}, type=str)  # type: ignore[misc]
PICTURE_ENDINGS = (".png", ".svg", ".pdf")
SPLITS = ("train", "val", "test")
DEFAULT_RECIPE = PresetName(original().name)


def from_recipe(field: str) -> str:
    """Write the default that an option takes from the recipe, for its help: one value, or one per recipe."""
    values = {name: getattr(preset(), field) for name, preset in PRESETS.items()}
    if len(set(values.values())) == 1:
        return f"{_spoken(next(iter(values.values())))}, the recipe's"
    usual = values[original().name]
    others = "".join(f", {_spoken(value)} for {name}" for name, value in values.items() if value != usual)
    return f"{_spoken(usual)}{others}"


def _spoken(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _also_global(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> bool:
    """Let `alexnet --quiet train` and `alexnet train --quiet` mean the same."""
    return value or bool(context.find_root().params.get(parameter.name or ""))


def check_checkpoint_every(value: str) -> str:
    """Accept minutes ("10", "0.5") or steps ("500steps")."""
    text = value.strip()
    minutes = re.fullmatch(r"\d+(\.\d+)?|\.\d+", text)
    steps = re.fullmatch(r"(\d+) ?steps?", text)
    if (minutes and float(text) > 0) or (steps and int(steps[1]) > 0):
        return f"{steps[1]}steps" if steps else text
    raise typer.BadParameter(f"{value!r} is neither minutes, such as 10, nor steps, such as 500steps")


def check_splits(value: str) -> str:
    """Accept one split or several, with commas between."""
    names = ["val" if name.strip() == "validation" else name.strip() for name in value.split(",")]
    unknown = [name for name in names if name not in SPLITS]
    if unknown or len(set(names)) < len(names):
        raise typer.BadParameter(f"{value!r}, expected some of {', '.join(SPLITS)}, each once, with commas between")
    return ",".join(names)


def check_picture(value: Path | None) -> Path | None:
    """Accept the name of a picture that can be drawn."""
    if value is not None and value.suffix.lower() not in PICTURE_ENDINGS:
        raise typer.BadParameter(f"{str(value)!r}, expected a name that ends in {', '.join(PICTURE_ENDINGS)}")
    return value


QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress and no notes; results, warnings and errors remain.", callback=_also_global),
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", envvar="ALEXNET_DEBUG", help="Show the traceback of an error.", callback=_also_global),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
DataOption = Annotated[Path, typer.Option("--data", envvar="ALEXNET_DATA", help="Folder that `alexnet prepare` wrote.")]
RunsOption = Annotated[Path, typer.Option("--runs", envvar="ALEXNET_RUNS", help="Folder of the training runs.")]
DeviceOption = Annotated[
    Device, typer.Option("--device", envvar="ALEXNET_DEVICE", help="Where to compute; auto takes a GPU where there is one.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        envvar="ALEXNET_WORKERS",
        min=1,
        help="Pictures decoded at the same time.",
        show_default="one for each processor",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="Arithmetic; auto is bf16 where the hardware has it natively, else fp32."),
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Views in one pass through the network, at most.")]
CropsOption = Annotated[
    Crops | None,
    typer.Option(
        "--crops",
        help="Views averaged: ten (five without mirroring), or the centre alone.",
        show_default=f"{original().test_crops}, the recipe's of the weights",
    ),
]
WEIGHTS_HELP = "Weights file, a run or its name, a name of alexnet weights list, or hf://owner/name."
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help=WEIGHTS_HELP,
        show_default="the best of the newest run",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a download or an upload.")]
RECIPE_HELP = "original: the authors' net #145; the others: see alexnet recipes."
