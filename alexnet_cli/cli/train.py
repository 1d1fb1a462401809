"""`alexnet train`: from prepared pictures to weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alexnet_cli.cli.command import SIGNALLED, running
from alexnet_cli.cli.dry_run import show_dry_run
from alexnet_cli.cli.options import (
    DEFAULT_RECIPE,
    RECIPE_HELP,
    DataOption,
    DebugOption,
    Device,
    DeviceOption,
    Precision,
    PresetName,
    QuietOption,
    RunsOption,
    Schedule,
    Shuffle,
    WorkersOption,
    check_checkpoint_every,
    from_recipe,
)
from alexnet_cli.cli.render import TerminalReporter, percent, print_facts, three_digits
from alexnet_cli.cli.settings import Settings, resolve
from alexnet_cli.core.run_folder import LATEST, RunFolder
from alexnet_cli.core.torchrun import place_from

if TYPE_CHECKING:
    from alexnet_cli.core.train import TrainOptions, TrainResult


# What is not given stays None, so that a configuration file or the recipe can decide.
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", "--name", help="Name of the run; torchrun mistakes --run for its own.", show_default="a new one from date and time"
    ),
]
RecipeOption = Annotated[PresetName | None, typer.Option("--recipe", help=RECIPE_HELP, show_default=DEFAULT_RECIPE.value)]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Passes over the training set.", show_default=from_recipe("epochs"))
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Pictures of a step; changes no rate.", show_default=from_recipe("batch_size")),
]
LearningRateOption = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        min=0,
        help="Initial rate of the weights; the biases' is the recipe's multiple of it.",
        show_default=from_recipe("learning_rate"),
    ),
]
MirrorOption = Annotated[
    bool | None,
    typer.Option(
        "--mirror/--no-mirror",
        help="Show pictures mirrored too, in training and testing; not for digits or text.",
        show_default=from_recipe("mirror"),
    ),
]
ScheduleOption = Annotated[
    Schedule | None,
    typer.Option(
        "--schedule",
        help="When the rates drop. events: the recipe's own; quarters: the authors' later one; plateau: where the validation error "
        "stops improving; milestones: after epochs given by --set milestones=[30,60].",
        show_default=from_recipe("schedule"),
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Any field of the recipe, as --print-config shows it, such as lrn_k=1 or layer_rates.conv1=0.1; repeatable.",
        show_default="none",
    ),
]
GpusOption = Annotated[
    int,
    typer.Option(
        "--gpus",
        min=1,
        help="2: a tower on each; 4, 6, 8: copies of such pairs, which share every batch. With --device cpu in as many processes; "
        "under torchrun its number of processes counts.",
    ),
]
TowersOption = Annotated[
    int | None,
    typer.Option(
        "--towers",
        min=1,
        max=2,
        help="1: both towers on each GPU, which share every batch; any number of GPUs.",
        show_default="2, a tower on each GPU of a pair",
    ),
]
OverrideOption = Annotated[
    bool, typer.Option("--override", help="Continue although the recipe or the data are not those that the run began with.")
]
KeepOption = Annotated[
    int,
    typer.Option(
        "--keep", min=0, help="Older checkpoints kept beside the newest; a damaged one is passed over for the one before."
    ),
]
ShuffleOption = Annotated[
    Shuffle | None,
    typer.Option(
        "--shuffle",
        help="Order of the pictures: one for all epochs, a new one for each, or that by blocks of neighbours, for slow disks.",
        show_default=from_recipe("shuffle"),
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        help="Arithmetic; auto is bf16 where the hardware has it natively, else fp32.",
        show_default=Precision.AUTO.value,
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random draw.", show_default="0")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run named, or the latest.")]
AutoResumeOption = Annotated[
    bool, typer.Option("--auto-resume", help="Start, or continue where there is something: repeat the command unchanged.")
]
LimitStepsOption = Annotated[
    int | None,
    typer.Option("--limit-steps", min=1, help="Stop after this step of the run; the schedule stays.", show_default="none"),
]
LogEveryOption = Annotated[int, typer.Option("--log-every", min=1, help="Steps between two lines of metrics.jsonl.")]
CheckpointEveryOption = Annotated[
    str,
    typer.Option(
        "--checkpoint-every",
        metavar="MINUTES|STEPSsteps",
        help="Time between two savings: 10 is minutes, 500steps is steps.",
        callback=check_checkpoint_every,
    ),
]
InitOption = Annotated[
    str | None,
    typer.Option(
        "--init", metavar="FILE|RUN", help="Start from trained weights: a file, or a run or its name.", show_default="none"
    ),
]
InitLayersOption = Annotated[
    str | None,
    typer.Option(
        "--init-layers",
        help="Layers taken from --init, such as conv1-conv5 or conv1,conv2; the others start anew.",
        show_default="all, but for an fc8 of other classes",
    ),
]
TensorboardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write events too, for: tensorboard --logdir runs; needs alexnet-cli[tensorboard].")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with fields of the recipe, such as a run's recipe.toml.", show_default="none"),
]
SyntheticOption = Annotated[
    bool,
    typer.Option(
        "--synthetic", help="Train on made-up pictures of 1,000 classes to measure the speed; needs no data and writes nothing."
    ),
]
PrintConfigOption = Annotated[bool, typer.Option("--print-config", help="Print the resolved recipe as TOML and exit.")]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Write nothing; say what the training would take: memory, disk, bytes exchanged, time."),
]
DryRunJsonOption = Annotated[bool, typer.Option("--json", help="Print what --dry-run finds as one JSON document.")]


def train(
    data: DataOption = Path("data"),
    runs: RunsOption = Path("runs"),
    run: RunOption = None,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    mirror: MirrorOption = None,
    shuffle: ShuffleOption = None,
    schedule: ScheduleOption = None,
    assignments: SetOption = None,
    gpus: GpusOption = 1,
    towers: TowersOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    resume: ResumeOption = False,
    auto_resume: AutoResumeOption = False,
    override: OverrideOption = False,
    limit_steps: LimitStepsOption = None,
    log_every: LogEveryOption = 20,
    checkpoint_every: CheckpointEveryOption = "10",
    keep: KeepOption = 1,
    init: InitOption = None,
    init_layers: InitLayersOption = None,
    tensorboard: TensorboardOption = False,
    config: ConfigOption = None,
    synthetic: SyntheticOption = False,
    print_config: PrintConfigOption = False,
    dry_run: DryRunOption = False,
    as_json: DryRunJsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train the network on prepared pictures.

    --dry-run says beforehand what it will take. Ctrl-C once saves and stops; --resume goes on. Flags and --set count before
    --config, and --config before --recipe. Also under torchrun, on one machine or several: torchrun --nproc-per-node 2 -m
    alexnet_cli train ...
    """
    if resume and auto_resume:
        raise typer.BadParameter("--resume and --auto-resume exclude each other: the first demands a run, the second may start one")
    if init is not None and resume:
        raise typer.BadParameter("--init and --resume exclude each other: a run that is continued has its weights already")
    if init_layers is not None and init is None:
        raise typer.BadParameter("--init-layers needs the weights to take them from: --init FILE or RUN")
    if dry_run and synthetic:
        raise typer.BadParameter(
            "--dry-run and --synthetic exclude each other: the one foretells a training on data, the other needs none"
        )
    if as_json and not dry_run:
        raise typer.BadParameter("--json is for --dry-run: a training keeps its figures in metrics.jsonl")
    place = place_from()
    with running(quiet=quiet or (place is not None and place.rank > 0), debug=debug) as reporter:
        fields: dict[str, object] = dict(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, mirror=mirror)
        fields |= {"shuffle": shuffle.value if shuffle else None, "schedule": schedule.value if schedule else None}
        begun = _own_recipe(runs, run) if (resume or auto_resume) and not (config or recipe) else None
        asked_for_seed = seed is not None or config is not None or begun is not None
        chosen = {"seed": seed, "precision": precision.value if precision else None}
        settings = resolve(
            recipe.value if recipe else None, config=config or begun, fields=fields, assignments=assignments or (), run=chosen
        )
        if print_config:
            return _print_config(settings)
        from alexnet_cli.core.train import TrainOptions
        from alexnet_cli.core.train import train as train_network

        options = TrainOptions(
            data=data,
            runs=runs,
            run=run,
            recipe=settings.recipe,
            seed=settings.seed if asked_for_seed else None,
            gpus=gpus,
            towers=towers,
            device=device.value,
            precision=settings.precision,
            workers=workers,
            resume=resume,
            auto_resume=auto_resume,
            override=override,
            limit_steps=limit_steps,
            log_every=log_every,
            checkpoint_every=checkpoint_every,
            keep=keep,
            init=init,
            init_layers="all" if init_layers is None else init_layers,
            tensorboard=tensorboard,
        )
        if dry_run:
            return None if place is not None and place.rank > 0 else show_dry_run(options, reporter, as_json)
        if synthetic:
            return _try_speed(options, reporter, silent=place is not None and place.rank > 0)
        result = train_network(options, reporter)
        if place is None:
            _print(result)
            if result.stopped_by:
                raise typer.Exit(SIGNALLED + result.stopped_by)
        elif place.rank == 0:
            _print(result)  # and no failure, whatever stopped it: torchrun would start it again


def _own_recipe(runs: Path, run: str | None) -> Path | None:
    """Return the recipe.toml of the run to be continued, so that `--resume` alone goes on with what the run began with."""
    folder = RunFolder(runs / (run or LATEST))
    return folder.recipe if folder.can_continue else None


def _print_config(settings: Settings) -> None:
    import tomli_w

    print(tomli_w.dumps(settings.to_config()), end="")


def _try_speed(options: "TrainOptions", reporter: TerminalReporter, *, silent: bool) -> None:
    from alexnet_cli.core.synthetic import train_synthetic

    result = train_synthetic(options, reporter)
    if not silent:
        print_facts(
            [
                ("speed", f"{three_digits(result.images_per_second)} images/s, {result.precision} on {result.device}"),
                ("steps", f"{result.steps:,} of {result.seconds / max(result.steps, 1):.3g} s, after those that compile"),
                ("ranks", f"{result.ranks}, {'a tower' if result.towers == 2 else 'both towers'} on each"),
                ("loss", f"{result.loss:.4f}, of noise"),
            ]
        )


def _print(result: "TrainResult") -> None:
    best = "not measured" if result.best_top1_error is None else percent(result.best_top1_error)
    print_facts(
        [
            ("run", result.folder),
            ("steps", f"{result.step:,} of {result.total_steps:,}"),
            ("best top-1 error", best),
        ]
    )
