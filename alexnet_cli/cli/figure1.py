"""`alexnet figure1`: the paper's figure 1, ReLU against tanh."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.ablate import exit_if_stopped, going_on
from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import (
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
)
from alexnet_cli.cli.render import percent, print_facts, print_json
from alexnet_cli.cli.settings import resolve
from alexnet_cli.cli.train_options import CheckpointEveryOption
from alexnet_cli.core.recipes import tiny

if TYPE_CHECKING:
    from alexnet_cli.core.figure1 import Figure1, Learning

TINY = tiny()
PAPER = "six times as many epochs with tanh, on CIFAR-10 (P figure 1)"


def _check_rates(value: str) -> str:
    try:
        rates = [float(part) for part in value.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise typer.BadParameter(f"{value!r}, expected numbers above 0, each once, with commas between")
    return value


def _check_rate(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value}, expected a number above 0")
    return value


RatesOption = Annotated[
    str,
    typer.Option("--rates", help="Learning rates that each activation tries, with commas between.", callback=_check_rates),
]
ReluRateOption = Annotated[
    float | None,
    typer.Option("--relu-rate", help="Learning rate of ReLU.", callback=_check_rate, show_default="the best of --rates"),
]
EpochsOption = Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training set.")]
SearchEpochsOption = Annotated[
    int, typer.Option("--search-epochs", min=1, help="The rate with the lowest training error after so many goes on.")
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures of a step.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of recipe tiny; repeatable.", show_default="none"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
OutOption = Annotated[Path, typer.Option("--out", help="PNG file to write.")]
TanhRateOption = Annotated[
    float | None,
    typer.Option("--tanh-rate", help="Learning rate of tanh.", callback=_check_rate, show_default="the best of --rates"),
]


def figure1(
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    epochs: EpochsOption = TINY.epochs,
    rates: RatesOption = "0.0003,0.001,0.003,0.01,0.03,0.1",
    search_epochs: SearchEpochsOption = 3,
    relu_rate: ReluRateOption = None,
    tanh_rate: TanhRateOption = None,
    batch_size: BatchSizeOption = TINY.batch_size,
    assignments: SetOption = None,
    seed: SeedOption = 0,
    out: OutOption = Path("figure1.png"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.AUTO,
    workers: WorkersOption = None,
    checkpoint_every: CheckpointEveryOption = "10",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the paper's figure 1: training errors with ReLU (solid) and tanh (dashed).

    Trains recipe tiny on pictures of 32x32, made by "alexnet prepare torchvision:CIFAR10 --size 32" for example, without any
    regularisation, and says when each first has a training error of 25 %. The training error is the mean over an epoch's
    steps. Each activation has the best learning rate of a few. Ctrl-C saves and stops; the same
    command again goes on. Needs alexnet-cli[plot].
    """
    with running(quiet=quiet, debug=debug) as reporter:
        fields = {
            "epochs": epochs,
            "batch_size": batch_size,
            "activation": TINY.activation,
            "learning_rate": TINY.learning_rate,
        }
        recipe = resolve("tiny", fields=fields, assignments=assignments or ()).recipe
        from alexnet_cli.core.figure1 import LEVEL, Activation, Figure1Options
        from alexnet_cli.core.figure1 import figure1 as measure
        from alexnet_cli.core.plot import draw_training_errors, require_matplotlib, save_figure
        from alexnet_cli.core.train_job import TrainOptions

        require_matplotlib()
        common = TrainOptions(
            data=data,
            runs=runs,
            seed=seed,
            device=device.value,
            precision=precision.value,
            workers=workers,
            checkpoint_every=checkpoint_every,
        )
        tried = [float(rate) for rate in rates.split(",")]
        chosen: dict[Activation, list[float]] = {
            "relu": [relu_rate] if relu_rate else tried,
            "tanh": [tanh_rate] if tanh_rate else tried,
        }
        with going_on(reporter):
            result = measure(Figure1Options(common, recipe, chosen, search_epochs), reporter)
        exit_if_stopped(result.stopped_by, reporter)
        names = {"relu": "ReLU", "tanh": "tanh"}
        save_figure(draw_training_errors([(names[one.activation], one.errors) for one in result.learnings], LEVEL), out)
        print_json(_document(result, data, out)) if as_json else _print(result, out)


def _document(result: "Figure1", data: Path, out: Path) -> dict[str, Any]:
    curves = [asdict(learning) for learning in result.learnings]
    return {"kind": "figure1", "data": str(data), "figure": str(out), "ratio": result.ratio, "curves": curves}


def _print(result: "Figure1", out: Path) -> None:
    ratio = "not known: one did not reach 25 %" if result.ratio is None else f"tanh took {result.ratio:.1f} times as many epochs"
    facts = [*((learning.activation, _facts(learning)) for learning in result.learnings), ("ratio", ratio)]
    print_facts([*facts, ("paper", PAPER), ("figure", out)])


def _facts(learning: "Learning") -> str:
    reached = f"25 % training error in epoch {learning.reached}" if learning.reached else "never at 25 % training error"
    return f"{reached}, {percent(learning.errors[-1])} after {len(learning.errors)}, learning rate {learning.learning_rate:g}"
