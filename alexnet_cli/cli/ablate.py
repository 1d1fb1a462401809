"""`alexnet ablate`: recipes trained alike, and what each change costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.command import SIGNALLED, running
from alexnet_cli.cli.options import (
    CropsOption,
    DataOption,
    DebugOption,
    Device,
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    QuietOption,
    RunsOption,
    WorkersOption,
    check_splits,
)
from alexnet_cli.cli.render import print_json, print_table, three_digits
from alexnet_cli.cli.settings import resolve
from alexnet_cli.cli.train_options import CheckpointEveryOption
from alexnet_cli.core.recipes import PRESETS
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from alexnet_cli.core.ablate import AblateOptions, Ablation, Effect, Summary

GO_ON = "stopped; the same command again goes on where this one was"
DEFAULT_RECIPES = "original,one-gpu,no-lrn,no-overlap,no-color-noise,no-dropout"  # what the paper measured of one network


def _check_recipes(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    unknown = [name for name in names if name not in PRESETS]
    if unknown or len(set(names)) < len(names):
        raise typer.BadParameter(f"{value!r}, expected some of {', '.join(PRESETS)}, each once, with commas between")
    return ",".join(names)


RecipesOption = Annotated[
    str,
    typer.Option(
        "--recipes", help="Recipes, with commas between; the others are compared with the first.", callback=_check_recipes
    ),
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each recipe, with seeds from 0 on.")]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Passes over the training set, of every recipe.", show_default="each recipe's")
]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Pictures of a step; changes no rate.", show_default="each recipe's")
]
LearningRateOption = Annotated[
    float | None, typer.Option("--learning-rate", min=0, help="Initial rate of the weights.", show_default="each recipe's")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Any field, in every recipe; repeatable.", show_default="none"),
]
GpusOption = Annotated[int, typer.Option("--gpus", min=1, help="Ranks of each training, as `alexnet train` has them.")]
TowersOption = Annotated[
    int | None,
    typer.Option("--towers", min=1, max=2, help="1: both towers on each GPU.", show_default="2, a tower on each GPU of a pair"),
]
SplitOption = Annotated[
    str, typer.Option("--split", help="train, val or test, or several with commas between, to test on.", callback=check_splits)
]


def ablate(
    recipes: RecipesOption = DEFAULT_RECIPES,
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    seeds: SeedsOption = 1,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    assignments: SetOption = None,
    split: SplitOption = "val",
    crops: CropsOption = None,
    gpus: GpusOption = 1,
    towers: TowersOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.AUTO,
    workers: WorkersOption = None,
    checkpoint_every: CheckpointEveryOption = "10",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train several recipes alike and compare their errors.

    Each training is a run ablate-RECIPE-SEED, tested with its last weights. Ctrl-C saves and stops; the same command again goes
    on, and trains and tests nothing twice. Errors and differences to the first recipe, which are taken seed by seed, are means and
    sample standard deviations over the seeds.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        fields = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
        chosen = {name: resolve(name, fields=fields, assignments=assignments or ()).recipe for name in recipes.split(",")}
        from alexnet_cli.core.ablate import AblateOptions
        from alexnet_cli.core.train_job import TrainOptions

        common = TrainOptions(
            data=data,
            runs=runs,
            gpus=gpus,
            towers=towers,
            device=device.value,
            precision=precision.value,
            workers=workers,
            checkpoint_every=checkpoint_every,
        )
        options = AblateOptions(common, chosen, seeds, tuple(split.split(",")), int(crops.value) if crops else None)
        ablation = _measure(options, reporter)
        print_json(_document(ablation, data, split)) if as_json else _print(ablation)


def _measure(options: "AblateOptions", reporter: Reporter) -> "Ablation":
    from alexnet_cli.core.ablate import ablate as measure

    with going_on(reporter):
        ablation = measure(options, reporter)
    exit_if_stopped(ablation.stopped_by, reporter)
    return ablation


@contextmanager
def going_on(reporter: Reporter) -> Iterator[None]:
    """Say how to go on after a Ctrl-C that came in a test, or a second time in a training."""
    try:
        yield
    except KeyboardInterrupt:
        reporter.warn(GO_ON)
        raise


def exit_if_stopped(signal: int, reporter: Reporter) -> None:
    """End the command where a signal has stopped a training, which has saved, and say how to go on."""
    if signal:
        reporter.warn(GO_ON)
        raise typer.Exit(SIGNALLED + signal)


def _document(ablation: "Ablation", data: Path, split: str) -> dict[str, Any]:
    return {"kind": "ablation", "data": str(data), "split": split, "recipes": [asdict(effect) for effect in ablation.effects]}


def _print(ablation: "Ablation") -> None:
    top_k = ablation.effects[0].scores[0].top_k
    header = ("recipe", "top-1 error, %", f"top-{top_k} error, %", "difference, points", "parameters", "images/s")
    published = ["published", *(effect.published or "-" for effect in ablation.effects)]
    rows = [header, *(_figures(effect) for effect in ablation.effects)]
    width = max(map(len, published))  # texts, in a column of numbers
    head, *lines = [(*row, text.ljust(width)) for row, text in zip(rows, published, strict=True)]
    print_table(head, lines)


def _figures(effect: "Effect") -> tuple[str, ...]:
    speed = "-" if effect.images_per_second is None else three_digits(effect.images_per_second)
    return effect.name, _error(effect.top1), _error(effect.top5), _difference(effect), f"{effect.parameters:,}", speed


def _error(error: "Summary", sign: str = "") -> str:
    spread = "" if error.spread is None else f" ± {100 * error.spread:.2f}"
    return f"{100 * error.mean:{sign}.2f}{spread}"


def _difference(effect: "Effect") -> str:
    if effect.top1_change is None or effect.top5_change is None:
        return "-"
    return f"{_error(effect.top1_change, '+')} / {_error(effect.top5_change, '+')}"
