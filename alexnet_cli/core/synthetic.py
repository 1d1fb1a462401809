"""Training on made-up pictures, to see how fast it goes: every part of a step, but no store, no test and no file."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from alexnet_cli.core.batches import Batch
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.devices import settle
from alexnet_cli.core.health import LossWatch
from alexnet_cli.core.meeting import leave_ranks
from alexnet_cli.core.pace import StopRequest
from alexnet_cli.core.ranks import Ranks, join_torchrun, plan_ranks, run_among_others, run_together
from alexnet_cli.core.recipes import original
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.schedule import rates_at
from alexnet_cli.core.step import step_on
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train import require_trainable
from alexnet_cli.core.train_job import Job, SyntheticResult, TrainOptions
from alexnet_cli.core.train_state import TrainState, new_state
from alexnet_cli.core.views import Colours, draw_views

NUM_CLASSES = 1000
STEPS = 50  # where nobody says how many
WARM_UP = 3  # steps that are not counted: the first compiles, the next ones find their memory
BATCHES = 4  # different ones, so that no cache holds them all


def train_synthetic(options: TrainOptions, reporter: Reporter | None = None) -> SyntheticResult:
    """Train on made-up pictures of 1,000 classes, on the ranks of a real training; nothing is written.

    Raises DeviceError, RecipeError, RunError (a loss that is no number).
    """
    reporter = reporter or Reporter()
    ranks, precision = plan_ranks(options.gpus, options.towers, options.device, options.precision, place_from())
    require_trainable(options.recipe or original(), ranks)
    job = Job(options, options.recipe or original(), options.seed or 0, RunFolder(Path()), False, precision)
    with StopRequest(reporter.warn).watching() as stop:
        return _run(job, ranks, reporter, stop)


def _run(job: Job, ranks: Ranks, reporter: Reporter, stop: StopRequest) -> SyntheticResult:
    if ranks.place:
        try:
            return run_among_others(synthetic_rank, job, join_torchrun(ranks), reporter, stop)
        finally:
            leave_ranks()
    if ranks.world > 1:
        return run_together(synthetic_rank, job, ranks, reporter, stop)
    return synthetic_rank(job, Layout(device=ranks.devices[0]), reporter, stop)


def synthetic_rank(job: Job, layout: Layout, reporter: Reporter, stop: StopRequest) -> SyntheticResult:
    """Train on one rank; the images of all ranks count."""
    settle(job.precision, layout.device)
    state = _state(job, layout)
    if not compile_problem(layout.device):
        state.network.compile_normalisation()
    steps = (job.options.limit_steps or STEPS) + WARM_UP
    losses = LossWatch(layout, steps)
    rates = rates_at(job.recipe, 0, steps)  # the beginning's throughout: later ones freeze layers
    reporter.start("train on made-up pictures", steps, "steps")
    began = 0.0
    for batch in _batches(job, layout, steps):
        if state.step == WARM_UP:
            losses.read(state.step)  # waits for the device
            began = time.perf_counter()
        drawn = draw_views(job.recipe, job.seed, state.step, job.recipe.batch_size)
        losses.add(*step_on(state, batch, drawn, rates))
        reporter.advance(1)
        if layout.total(torch.tensor([float(stop.signal)])).item():
            break
    loss, _ = losses.read(state.step)
    counted = state.step - WARM_UP
    seconds = time.perf_counter() - began if counted > 0 else 0.0
    reporter.finish()
    rate = counted * job.recipe.batch_size / seconds if counted > 0 else 0.0
    return SyntheticResult(
        max(0, counted), seconds, rate, loss, layout.world, layout.towers, job.precision.name, str(layout.device)
    )


def _state(job: Job, layout: Layout) -> TrainState:
    """Return a network that begins, for pictures of any colour."""
    dtype = job.precision.dtype
    parts = (
        torch.full((3, job.recipe.stored_size, job.recipe.stored_size), 127.5),
        torch.tensor([120.0, 40.0, 20.0]),
        torch.eye(3),
    )
    colours = Colours(*(part.to(layout.device, dtype) for part in parts))
    return new_state(job.recipe, NUM_CLASSES, job.precision, colours, layout, job.seed)


def _batches(job: Job, layout: Layout, steps: int) -> Iterator[Batch]:
    """Yield this rank's share of batches of noise, from page-locked memory where there is a GPU."""
    size, side = job.recipe.batch_size, job.recipe.input_size
    generator = torch.Generator().manual_seed(job.seed)
    own = len(layout.share(size))
    made = []
    for _ in range(BATCHES):
        images_BHWC = torch.randint(0, 256, (own, side, side, 3), dtype=torch.uint8, generator=generator)
        labels_B = torch.randint(0, NUM_CLASSES, (own,), generator=generator)
        made.append((images_BHWC.pin_memory() if layout.device.type == "cuda" else images_BHWC, labels_B))
    for step in range(steps):
        yield Batch(*made[step % BATCHES], size, range(size))
