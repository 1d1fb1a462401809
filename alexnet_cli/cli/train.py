"""`alexnet train`: from prepared pictures to weights."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alexnet_cli.cli.command import SIGNALLED, running
from alexnet_cli.cli.dry_run import show_dry_run
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import DataOption, DebugOption, Device, DeviceOption, QuietOption, RunsOption, WorkersOption, YesOption
from alexnet_cli.cli.render import TerminalReporter, percent, print_facts, three_digits
from alexnet_cli.cli.settings import Settings, resolve
from alexnet_cli.cli.train_options import (
    AutoResumeOption,
    BatchSizeOption,
    CheckpointEveryOption,
    ConfigOption,
    DryRunJsonOption,
    DryRunOption,
    EpochsOption,
    GpusOption,
    InitLayersOption,
    InitOption,
    KeepOption,
    LearningRateOption,
    LimitStepsOption,
    LogEveryOption,
    MirrorOption,
    OverrideOption,
    PrecisionOption,
    PrintConfigOption,
    RecipeOption,
    ResumeOption,
    RunOption,
    ScheduleOption,
    SeedOption,
    SetOption,
    ShuffleOption,
    SyntheticOption,
    TensorboardOption,
    TowersOption,
)
from alexnet_cli.core.run_folder import LATEST, RunFolder
from alexnet_cli.core.torchrun import place_from

if TYPE_CHECKING:
    from alexnet_cli.core.train import TrainOptions, TrainResult


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
    yes: YesOption = False,
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
    _refuse_contradictions(resume, auto_resume, init, init_layers, dry_run=dry_run, synthetic=synthetic, as_json=as_json)
    place = place_from()
    silent = place is not None and place.rank > 0
    with running(quiet=quiet or silent, debug=debug) as reporter:
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
        init = bring(init, runs, reporter, yes=yes and place is None, ask=place is None)  # ranks would meet in the cache
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
            return None if silent else show_dry_run(options, reporter, as_json)
        if synthetic:
            return _try_speed(options, reporter, silent=silent)
        result = train_network(options, reporter)
        if not silent:
            _print(result)
        if result.stopped_by and place is None:  # torchrun would take it for a failure, and start it again
            raise typer.Exit(SIGNALLED + result.stopped_by)


def _refuse_contradictions(
    resume: bool, auto_resume: bool, init: str | None, init_layers: str | None, *, dry_run: bool, synthetic: bool, as_json: bool
) -> None:
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
