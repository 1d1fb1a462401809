"""What a training is asked to do, and what came of it."""

from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.core.devices import Precision
from alexnet_cli.core.initial import ALL, Initial
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.run_folder import RunFolder


@dataclass(frozen=True)
class TrainOptions:
    """What a user asks for.

    recipe, seed: None for `original` and 0, or for what a continued run was started with. run: its name. gpus: ranks, unless
    torchrun has started them. towers: 2 for a tower on each rank of a pair, 1 for both on each; None for 2 where the ranks can be
    paired. precision, workers: as on the command line. override: continue with another recipe or other data than the run was
    started with. limit_steps: the global step after which to stop, without shortening the schedule. checkpoint_every: minutes
    ("10") or steps ("500steps"). keep: states for a resume beside the newest. init: weights to start from, a file, a run or its
    name; init_layers: which layers of them, "all" or such as "conv1-conv5". tensorboard: write its events.
    """

    data: Path
    runs: Path
    run: str | None = None
    recipe: Recipe | None = None
    seed: int | None = None
    gpus: int = 1
    towers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    resume: bool = False
    auto_resume: bool = False
    override: bool = False
    limit_steps: int | None = None
    log_every: int = 20
    checkpoint_every: str = "10"
    keep: int = 1
    init: str | None = None
    init_layers: str = ALL
    tensorboard: bool = False


@dataclass(frozen=True)
class TrainResult:
    """How a training ended: its folder, steps made and planned, the best top-1 error (0-1), and the signal that stopped it or 0."""

    folder: Path
    step: int
    total_steps: int
    best_top1_error: float | None
    stopped_by: int = 0


@dataclass(frozen=True)
class SyntheticResult:
    """How fast a training on made-up pictures went: steps counted, their seconds, images per second of all ranks, last loss."""

    steps: int
    seconds: float
    images_per_second: float
    loss: float
    ranks: int
    towers: int
    precision: str
    device: str


@dataclass(frozen=True)
class Job:
    """Everything that a rank needs to start: options that are settled and can be sent to another process."""

    options: TrainOptions
    recipe: Recipe
    seed: int
    folder: RunFolder
    continued: bool
    precision: Precision
    initial: Initial | None = None
