"""What the logs of trainings say, as arrays: figures of the steps and of the tests over the course of a training (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import RunError
from alexnet_cli.core.metrics import read_rows
from alexnet_cli.core.run_folder import LATEST, RunFolder

# What can be drawn: the figure of a step's row, if it has it, and that of an epoch's row.
FIGURES = {"error": ("top1_error", "val_top1_error"), "loss": ("loss", "val_loss"), "top5": (None, "val_top5_error")}


@dataclass(frozen=True)
class Curve:
    """Values at steps of a training, in their order."""

    steps_N: NDArray[np.float64]
    values_N: NDArray[np.float64]

    def binned(self, most: int) -> "Curve":
        """Return means over equally long parts of the steps, at most so many; unchanged where there are no more values."""
        if len(self.steps_N) <= most:
            return self
        edges = np.linspace(self.steps_N.min(), self.steps_N.max(), most + 1)
        bins_N = np.clip(np.searchsorted(edges, self.steps_N, side="right") - 1, 0, most - 1)
        counts = np.bincount(bins_N, minlength=most)
        sums = [np.bincount(bins_N, weights=values_N, minlength=most) for values_N in (self.steps_N, self.values_N)]
        return Curve(*(part[counts > 0] / counts[counts > 0] for part in sums))


@dataclass(frozen=True)
class RunCurves:
    """One figure of one run: on the batches that it trained on, and on val.

    steps_per_epoch: None before the first epoch is over, as the log does not tell it earlier.
    """

    name: str
    train: Curve
    val: Curve
    steps_per_epoch: float | None


def find_run(run: str, runs: Path) -> RunFolder:
    """Return a run by its name or its folder, a link such as latest resolved. Raises RunError."""
    for path in (runs / run, Path(run)):
        if RunFolder(path).metrics.is_file():
            return RunFolder(path.resolve())
    names = sorted(path.parent.name for path in runs.glob("*/metrics.jsonl") if path.parent.name != LATEST)
    hint = f"runs there: {', '.join(names)}" if names else "train one, or name their folder by --runs"
    raise RunError(f"no run {run} in {runs}: expected a folder with metrics.jsonl", hint=hint)


def read_curves(folder: RunFolder, what: str) -> RunCurves:
    """Read a figure, a key of FIGURES, from a run's log, which may still grow. Raises RunError where it has none."""
    of_step, of_epoch = FIGURES[what]
    train: list[tuple[float, float]] = []
    val: list[tuple[float, float]] = []
    steps_per_epoch = None
    for row in read_rows(folder.metrics):
        kind = row.get("kind")
        if kind == "step" and of_step:
            _add(train, row, of_step)
        elif kind == "epoch":
            _add(val, row, of_epoch)
            steps_per_epoch = row["step"] / row["epoch"] if row.get("epoch") and row.get("step") else steps_per_epoch
    if not train and not val:
        raise RunError(
            f"{folder.metrics} has no row with {' or '.join(name for name in (of_step, of_epoch) if name)}",
            hint="wait until --log-every steps are made" if of_step else "wait until the first epoch is over",
        )
    return RunCurves(folder.path.name, _curve(train), _curve(val), steps_per_epoch)


def _add(points: list[tuple[float, float]], row: dict[str, Any], figure: str) -> None:
    if isinstance(row.get("step"), int) and isinstance(row.get(figure), int | float):
        points.append((row["step"], row[figure]))


def _curve(points: list[tuple[float, float]]) -> Curve:
    steps_N, values_N = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return Curve(steps_N, values_N)


# The error of whole epochs ---------------------------------------------------------------------------------------------------


def training_errors(folder: RunFolder, num_images: int, batch_size: int) -> tuple[float, ...]:
    """Return each whole epoch's mean top-1 error over the pictures that it trained on, 0-1, as the network was when it met them.

    A run without a log has no epochs. Raises RunError for one that has not logged every step.
    Source: the authors' shownet.py too draws for training the errors of what was trained on.
    """
    if not folder.metrics.is_file():
        return ()
    sizes = [min(batch_size, num_images - first) for first in range(0, num_images, batch_size)]
    rows = [row for row in read_rows(folder.metrics) if row.get("kind") == "step"]
    if [row["step"] for row in rows] != list(range(1, len(rows) + 1)):
        raise RunError(
            f"{folder.metrics} does not have every step", hint="train with --log-every 1, or name another folder by --runs"
        )
    errors = [row["top1_error"] for row in rows]
    epochs = [errors[first : first + len(sizes)] for first in range(0, len(errors) - len(sizes) + 1, len(sizes))]
    return tuple(sum(error * size for error, size in zip(epoch, sizes, strict=True)) / num_images for epoch in epochs)


def first_epoch_at(errors: Sequence[float], level: float) -> int | None:
    """Return the first epoch, counted from 1, whose error is at the level or below; None where none is."""
    return next((epoch for epoch, error in enumerate(errors, start=1) if error <= level), None)
