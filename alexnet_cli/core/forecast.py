"""What a training will take before it is begun: steps, memory of each rank, disk and time (stdlib only).

All of it is reckoned from the layer table and a few sizes; `dry_run` measures what cannot be reckoned, the time of a step.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alexnet_cli.core.architecture import LayerRow
from alexnet_cli.core.exchange import Spread, held_tensors

INDEX_BYTES = 8  # of a place that pooling has chosen
BATCHES_IN_MEMORY = 3  # two are read while one is used
LOG_ROW_BYTES = 340  # a line of metrics.jsonl and its line of metrics.csv, rounded up


@dataclass(frozen=True)
class Course:
    """How long a training is: pictures to learn from and to test on, steps made already, and the last one to be made."""

    pictures: int
    test_pictures: int
    batch_size: int
    epochs: int
    done: int = 0
    limit: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the last one may be of fewer pictures."""
        return -(-self.pictures // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole schedule."""
        return self.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        """The step after which the training stops."""
        return min(self.total_steps, self.limit or self.total_steps)

    @property
    def steps_left(self) -> int:
        """Steps still to be made."""
        return max(0, self.last_step - self.done)

    @property
    def tests_left(self) -> int:
        """Tests still to come: one after each epoch, and one at the end where there was none at all."""
        tests = self.last_step // self.steps_per_epoch - self.done // self.steps_per_epoch
        return max(tests, 0) or int(self.steps_left > 0 and self.done < self.steps_per_epoch)


# Memory ----------------------------------------------------------------------------------------------------------------------


def memory_terms(table: Sequence[LayerRow], spread: Spread, rank: int) -> dict[str, int]:
    """Return the bytes that a rank holds at most in a step, by purpose; the program itself is not among them.

    copies for files: two states at most, of weights and velocities, while they are written; rank 0 gathers both towers' there.
    """
    held = sum(held_tensors(table, spread, rank))
    whole = sum(row.parameters for row in table)
    width = spread.weight_bytes
    terms = {
        "weights": held * width,
        "weights in 16 bits": held * spread.value_bytes if spread.value_bytes < width else 0,
        "gradients": held * width,
        "velocities": held * width,
        "activations": sum(kept_per_picture(table, spread, rank).values()) * spread.computed(rank),
        "gradients of activations": 2 * max(_made(row, spread, rank) for row in table[1:]) * spread.computed(rank),
        "pictures read ahead": BATCHES_IN_MEMORY * spread.read(rank) * math.prod(table[0].output),
        "copies for files": 4 * whole * width if rank == 0 else 0,
    }
    return {name: num_bytes for name, num_bytes in terms.items() if num_bytes}


def _made(row: LayerRow, spread: Spread, rank: int) -> int:
    """Return the bytes of what a layer's weights make of a picture on a rank."""
    return math.prod(row.output) * spread.value_bytes // spread.towers


def kept_per_picture(table: Sequence[LayerRow], spread: Spread, rank: int) -> dict[str, int]:
    """Return the bytes of a picture that a rank keeps from the forward to the backward pass, by layer.

    As PyTorch's autograd does without a compiler, which saves a little of it: the view in the weights' type; the inputs of
    convolutions and products; the outputs of activations, which are the next layer's inputs; inputs and divisors of the
    normalisations; inputs and places of poolings; a byte for each unit that dropout may drop.
    """
    kept = {table[0].name: math.prod(table[0].output) * spread.weight_bytes}
    remembered = False  # whether the layer before keeps what it hands on anyway
    for before, row in itertools.pairwise(table):
        if row is table[-1] and not spread.scores(rank):
            break
        crosses = spread.split and row.crossing > 0
        # Maps are laid out anew for a product, and for a local layer window by window.
        copied = crosses or row.operations[0] == "local" or (row.kernel == 0 and before.pooled[1:] != (1, 1))
        reads = _values_read(before, row) // (1 if crosses or before is table[0] else spread.towers)
        parts = 1 if row is table[-1] else spread.towers
        walk = list(_walk(row, reads, remembered and not copied, spread, parts))
        kept[row.name] = sum(num_bytes for num_bytes, _ in walk)
        remembered = walk[-1][1]
    return kept


def _values_read(before: LayerRow, row: LayerRow) -> int:
    """Return how many numbers a layer reads of a picture, the first one's padded, a local one's window by window.

    Padding that the first convolution adds by itself, as in `tiny`, is never laid out: there this is a little too much.
    """
    channels, height, width = before.pooled
    if row.operations[0] == "local":
        return channels * row.kernel**2 * math.prod(row.output[1:])
    around = sum(row.padding) if before.name == "input" else 0
    return channels * (height + around) * (width + around)


def _walk(row: LayerRow, size: int, remembered: bool, spread: Spread, parts: int) -> Iterator[tuple[int, bool]]:
    """Go through a layer's operations: bytes that each keeps, and whether what it makes is among what is kept.

    size, remembered: of what the layer reads. parts: ranks that share its outputs. A tensor that two operations keep is there
    once.
    """
    for operation in row.operations:
        own = 0 if remembered else size * spread.value_bytes
        remembered = False
        if operation in ("conv", "local", "fc"):
            size = math.prod(row.output) // parts
        elif operation in ("lrn", "spatial"):
            own += size * spread.weight_bytes
        elif operation == "pool":
            size = math.prod(row.pooled) // parts
            own += size * INDEX_BYTES
        elif operation == "dropout":
            own = size
        else:
            own, remembered = size * spread.value_bytes, True
        yield own, remembered


# Disk ------------------------------------------------------------------------------------------------------------------------


def disk_terms(
    table: Sequence[LayerRow],
    spread: Spread,
    course: Course,
    *,
    side: int,
    keep: int,
    log_every: int,
    weights_every: int,
    kernels: int = 0,
) -> dict[str, int]:
    """Return the bytes that a run's folder needs at most, by file; headers of some kilobytes and TensorBoard's events are left out.

    side: of the stored pictures, whose mean goes into both weights files. keep: older states beside the newest. log_every,
    weights_every: steps between two rows of the log, and between two in which each parameter has one, as after each epoch.
    kernels: of the file that is kept of each epoch, 0 where none is.
    """
    parameters = sum(row.parameters for row in table)
    state = 2 * parameters * spread.weight_bytes
    epochs = course.last_step // course.steps_per_epoch + 1
    of_parameters = 2 * (len(table) - 1) * (course.last_step // weights_every + epochs)
    rows = course.last_step // log_every + epochs + of_parameters
    terms = {
        "best and last weights": 2 * 4 * (parameters + 3 * side * side),
        f"{keep + 1} state{'s' * (keep > 0)} for --resume": (keep + 1) * state,
        "a state being written": state,
        "kernels of each epoch": epochs * kernels,
        "log": rows * LOG_ROW_BYTES,
    }
    return {name: num_bytes for name, num_bytes in terms.items() if num_bytes}


# Time ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """What was measured, in seconds: a step, and a pass of a test over `test_batch` pictures; 0 where nothing is tested."""

    step: float
    test_pass: float = 0.0
    test_batch: int = 1


@dataclass(frozen=True)
class Duration:
    """How long a training takes, in seconds: a test, an epoch with its test, all that is left. images_per_second: of all ranks."""

    images_per_second: float
    test: float
    epoch: float
    left: float


def duration(course: Course, speed: Speed, replicas: int = 1) -> Duration:
    """Return how long a training takes if every step and every test is as fast as those that were measured."""
    passes = -(-course.test_pictures // (replicas * speed.test_batch))
    test = passes * speed.test_pass
    epoch = course.steps_per_epoch * speed.step + test
    left = course.steps_left * speed.step + course.tests_left * test
    return Duration(course.batch_size / speed.step, test, epoch, left)
