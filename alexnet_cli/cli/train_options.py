"""The options of `alexnet train`, with what each says in the help."""

from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.options import (
    DEFAULT_RECIPE,
    RECIPE_HELP,
    Precision,
    PresetName,
    Schedule,
    Shuffle,
    check_checkpoint_every,
    from_recipe,
)

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
        "--init",
        metavar="FILE|RUN",
        help="Start from trained weights: a file, a run or its name, a public name, or hf://owner/name.",
        show_default="none",
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
