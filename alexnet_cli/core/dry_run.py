"""What a training would take, without one: what it asks of memory and disk is reckoned, and the time of a step is measured.

Nothing is written. The steps measured are those of rank 0 alone, on made-up pictures. Legend: B batch, C channels, H, W, K classes.
"""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from alexnet_cli.core.architecture import LayerRow, layer_table
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.devices import settle
from alexnet_cli.core.evaluate import average_probabilities
from alexnet_cli.core.exchange import Spread, held_tensors, sent_per_step
from alexnet_cli.core.forecast import Course, Duration, Speed, disk_terms, duration, kept_per_picture, memory_terms
from alexnet_cli.core.kernel_history import kept_bytes
from alexnet_cli.core.memory import free_memory, used_memory
from alexnet_cli.core.ranks import Ranks, plan_ranks
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.resume import saved_steps
from alexnet_cli.core.schedule import rates_at
from alexnet_cli.core.session import WEIGHTS_EVERY
from alexnet_cli.core.store import DATA_FILE, Store, open_store, read_stats
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train import plan_job
from alexnet_cli.core.train_job import Job, TrainOptions
from alexnet_cli.core.train_state import TrainState, new_state, train_step
from alexnet_cli.core.views import Colours, draw_views, training_views

WARM_UP = 3  # the first compiles
TIMED, TIMED_AT_MOST = 3, 50
TIMED_SECONDS = 2.0  # at least, as long as that is not too many


@dataclass(frozen=True)
class RankNeed:
    """What one rank holds and sends.

    memory: bytes by purpose. activations: those of them, by layer, of its share of a batch. sent: bytes of a step by kind.
    """

    rank: int
    name: str
    parameters: int
    memory: dict[str, int]
    activations: dict[str, int]
    sent: dict[str, int]


@dataclass(frozen=True)
class StoreFacts:
    """A store that the training reads: its folder, pictures, format and size in bytes, and whether its classes are known."""

    folder: Path
    pictures: int
    format: str
    num_bytes: int
    is_labelled: bool


@dataclass(frozen=True)
class Measured:
    """What steps on made-up pictures took.

    program: bytes that the process had before the network was built, peak: at most, and of a GPU by tensors; None where it
    cannot be known. problem: why nothing is compiled, or "".
    """

    speed: Speed
    program: int | None
    peak: int | None
    problem: str


@dataclass(frozen=True)
class DryRun:
    """What a training would take.

    ranks_here: how many of the ranks are on this machine. disk: bytes of the run's folder by file. free_memory, free_disk: bytes
    now; of a GPU its own; None where it cannot be known. free_for_pictures: bytes of this machine's memory left for the system's
    file cache while the training runs.
    """

    folder: Path
    continued: bool
    recipe: Recipe
    classes: int
    device: str
    spread: Spread
    course: Course
    train: StoreFacts
    val: StoreFacts
    ranks: tuple[RankNeed, ...]
    ranks_here: int
    free_memory: int | None
    free_for_pictures: int | None
    disk: dict[str, int]
    free_disk: int
    measured: Measured
    duration: Duration


def dry_run(options: TrainOptions, reporter: Reporter | None = None) -> DryRun:
    """Find out what a training with these options would take, on this machine and now.

    Raises what `train` would raise before it begins.
    """
    reporter = reporter or Reporter()
    ranks, precision = plan_ranks(options.gpus, options.towers, options.device, options.precision, place_from())
    train, val = (open_store(options.data, split) for split in ("train", "val"))
    read_stats(options.data)
    job = plan_job(options, ranks, precision, reporter)
    recipe, classes = job.recipe, len(train.classes)
    table = layer_table(recipe, classes)
    spread = Spread(ranks.world, ranks.towers, recipe.batch_size, precision.name)
    course = _course(job, train, val)
    needs = tuple(_rank_need(table, spread, rank) for rank in range(ranks.world))
    side = train.size
    free, for_pictures = _free(ranks, needs)
    measured = measure(job, ranks, classes, side, course, reporter)
    return DryRun(
        folder=job.folder.path,
        continued=job.continued,
        recipe=recipe,
        classes=classes,
        device=str(ranks.devices[0]),
        spread=spread,
        course=course,
        train=_store_facts(train),
        val=_store_facts(val),
        ranks=needs,
        ranks_here=len(ranks.devices),
        free_memory=free,
        free_for_pictures=for_pictures,
        disk=disk_terms(
            table,
            spread,
            course,
            side=side,
            keep=options.keep,
            log_every=options.log_every,
            weights_every=WEIGHTS_EVERY,
            kernels=kept_bytes(recipe),
        ),
        free_disk=_free_disk(job.folder.path),
        measured=measured,
        duration=duration(course, measured.speed, spread.replicas),
    )


def _course(job: Job, train: Store, val: Store) -> Course:
    done = saved_steps(job.folder.resume)[0] if job.continued else 0
    tested = len(val) if val.is_labelled else 0
    return Course(len(train), tested, job.recipe.batch_size, job.recipe.epochs, done, job.options.limit_steps)


def _rank_need(table: tuple[LayerRow, ...], spread: Spread, rank: int) -> RankNeed:
    pictures = spread.computed(rank)
    return RankNeed(
        rank=rank,
        name=spread.name(rank),
        parameters=sum(held_tensors(table, spread, rank)),
        memory=memory_terms(table, spread, rank),
        activations={layer: kept * pictures for layer, kept in kept_per_picture(table, spread, rank).items()},
        sent=sent_per_step(table, spread, rank),
    )


def _store_facts(store: Store) -> StoreFacts:
    num_bytes = (store.folder / DATA_FILE).stat().st_size
    return StoreFacts(store.folder, len(store), store.format, num_bytes, store.is_labelled)


def _free(ranks: Ranks, needs: tuple[RankNeed, ...]) -> tuple[int | None, int | None]:
    """Return the free memory where the ranks' tensors go, and what is left of this machine's for pictures."""
    machine = free_memory()
    if ranks.devices[0].type == "cuda":
        return torch.cuda.mem_get_info(ranks.devices[0])[0], machine
    here = sum(sum(need.memory.values()) for need in needs[: len(ranks.devices)])
    return machine, None if machine is None else max(0, machine - here)


def _free_disk(folder: Path) -> int:
    """Return the bytes that are free where a run's folder is or would be; those of its own files count as free."""
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    own = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    return shutil.disk_usage(place).free + own


# Measuring -------------------------------------------------------------------------------------------------------------------


class LoneLayout(Layout):
    """One rank without the others: what it would get from them is zero at once, and nothing is sent."""

    def swap(self, outgoing: Tensor, incoming: Tensor, kind: str) -> None:
        """Receive zeros."""
        incoming.zero_()

    def send(self, values: Tensor, kind: str) -> None:
        """Send nothing."""

    def receive(self, values: Tensor) -> None:
        """Receive zeros."""
        values.zero_()

    def sum_over_replicas(self, values: Tensor) -> None:
        """Add nothing."""


def measure(job: Job, ranks: Ranks, classes: int, side: int, course: Course, reporter: Reporter) -> Measured:
    """Time steps and a test's passes of rank 0 on made-up pictures of the real shape, once everything is compiled.

    side: of the stored pictures. On a processor it has as many threads as in a training.
    """
    device = ranks.devices[0]
    settle(job.precision, device)
    problem = compile_problem(device)
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, threads // len(ranks.devices)))
    try:
        program = used_memory()  # the compiler included
        layout = LoneLayout(0, ranks.world, device, towers=ranks.towers)
        colours = Colours(
            *(part.to(device, job.precision.dtype) for part in (torch.full((3, side, side), 128.0), torch.ones(3), torch.eye(3)))
        )
        state = new_state(job.recipe, classes, job.precision, colours, layout, job.seed)
        if not problem:
            state.network.compile_normalisation()
        reporter.note("measuring some steps on made-up pictures; the first ones compile")
        step = _seconds(_training_step(state, classes, course), device, WARM_UP)
        peak = _peak(device)
        if not course.test_pictures:
            return Measured(Speed(step), program and program[0], peak, problem)
        count = min(job.recipe.batch_size, -(-course.test_pictures // layout.replicas))
        tested = _seconds(_test_pass(state, count, side), device, 1)
        return Measured(Speed(step, tested, count), program and program[0], peak, problem)
    finally:
        torch.set_num_threads(threads)


def _training_step(state: TrainState, classes: int, course: Course) -> Callable[[], object]:
    """Return what makes one step of this rank's share of a batch, from uint8 crops on."""
    recipe, layout = state.network.recipe, state.layout
    share = max(1, len(layout.replica_share(recipe.batch_size)))
    crops_BHWC = torch.randint(0, 256, (share, recipe.input_size, recipe.input_size, 3), dtype=torch.uint8)
    labels_B = torch.randint(0, classes, (share,)).to(layout.device)
    drawn = draw_views(recipe, state.seed, 0, share)
    rates = rates_at(recipe, min(course.done, course.total_steps - 1), course.total_steps)

    def step() -> None:
        views_BCHW = training_views(crops_BHWC, drawn, state.colours, recipe, rates.colour_noise)
        train_step(state, views_BCHW, labels_B, rates, share=share / recipe.batch_size)

    return step


def _test_pass(state: TrainState, count: int, side: int) -> Callable[[], object]:
    """Return what scores the centres of so many pictures."""
    images_BHWC = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8)
    network, mean_CHW = state.network, state.colours.mean_CHW
    return lambda: average_probabilities(network, images_BHWC, mean_CHW, network.recipe, 1, state.precision)


def _seconds(action: Callable[[], object], device: torch.device, warm_up: int) -> float:
    """Return the mean time of an action, waited for, once it has been done `warm_up` times."""
    last = 0.0
    for _ in range(warm_up):
        last = _time(action, 1, device)
    count = min(max(TIMED, math.ceil(TIMED_SECONDS / max(last, 1e-6))), TIMED_AT_MOST)
    return _time(action, count, device) / count


def _time(action: Callable[[], object], count: int, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in range(count):
        action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - start


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    used = used_memory()
    return used[1] if used and device.type == "cpu" else None
