"""Measure whole training against the bare step, say where a step's time goes and how near it is to the machine's limits.

    python -m benchmarks.training [--pictures FOLDER] [--device cuda] [--precision bf16] [--batch-size 128]

Everything is measured in one run, in turns, and printed as Markdown. The bare step is forward, backward and update on one batch
that lies ready; whole training reads a store, brings its crops to the device and makes views of them. --pictures: photographs to
make the stores of, else generated ones. The peer of the step is torchvision's network, of `python -m benchmarks`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.background import BackgroundWriter
from alexnet_cli.core.batches import Batch, training_batches
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.devices import Precision, choose_device, choose_precision, settle
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original
from alexnet_cli.core.resume import ResumeState, save_resume
from alexnet_cli.core.schedule import rates_at
from alexnet_cli.core.step import step_on
from alexnet_cli.core.store import Store
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train_state import TrainState, new_state, take_state, train_step
from alexnet_cli.core.views import Colours, draw_views
from benchmarks.__main__ import NUM_CLASSES, machine, torchvision_step
from benchmarks.photographs import jpeg, photographs, resized

WARM_UP, COUNTED = 3, 6  # steps of a turn: two batches have been read ahead when it begins
STORES: tuple[Literal["raw", "jpeg"], ...] = ("raw", "jpeg")
KINDS = {
    "convolutions": ("convolution", "conv2d"),
    "matrix products": ("addmm", "mm", "matmul", "bmm", "linear"),
    "pooling": ("pool",),
    "normalisation": ("compiled", "triton", "_responsenorm"),
    "update": ("sgd", "_foreach", "optimizer"),
}
MATRIX = 4096  # side of the square matrices that the limit of arithmetic is measured with
COPY = 256 << 20  # bytes
Step = Callable[[], object]


@dataclass
class Bench:
    """What all measurements share: a network in training, and the device and precision it is on."""

    state: TrainState
    recipe: Recipe
    device: torch.device
    precision: Precision

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, step: Step) -> float:
        """Return the seconds of one call, to the end of the device's work."""
        self.wait()
        began = time.perf_counter()
        step()
        self.wait()
        return time.perf_counter() - began


def begin(device: torch.device, precision: Precision, batch_size: int) -> Bench:
    """Build the network as `alexnet train` does."""
    settle(precision, device)
    recipe = replace(original(), batch_size=batch_size)
    parts = (torch.full((3, 256, 256), 127.5), torch.tensor([120.0, 40.0, 20.0]), torch.eye(3))
    colours = Colours(*(part.to(device, precision.dtype) for part in parts))
    state = new_state(recipe, NUM_CLASSES, precision, colours, Layout(device=device), 0)
    if not compile_problem(device):
        state.network.compile_normalisation()
    return Bench(state, recipe, device, precision)


def bare_step(bench: Bench) -> Step:
    """Return the step on one batch of views that lies ready."""
    size = bench.recipe.batch_size
    generator = torch.Generator().manual_seed(0)
    views_BCHW = torch.randn(size, 3, 224, 224, generator=generator) * 60
    views_BCHW = views_BCHW.to(bench.device, bench.precision.dtype, memory_format=torch.channels_last)
    labels_B = torch.randint(0, NUM_CLASSES, (size,), generator=generator).to(bench.device)
    rates = rates_at(bench.recipe, 0, 1_000_000)
    return lambda: train_step(bench.state, views_BCHW, labels_B, rates)


def turn_of_step(bench: Bench, step: Step) -> float:
    """Return the seconds of a step, of some in a row."""
    for _ in range(WARM_UP):
        step()
    return bench.seconds(lambda: [step() for _ in range(COUNTED)]) / COUNTED


def turn_of_training(bench: Bench, store: Store, workers: int, epoch: int) -> float:
    """Return the seconds of a step that reads its batch from a store, of some in a row; the first ones' were read before."""
    rates, pin = rates_at(bench.recipe, 0, 1_000_000), bench.device.type == "cuda"
    drawn = draw_views(bench.recipe, 0, epoch, len(store))
    with training_batches(store, bench.recipe, seed=0, epoch=epoch, workers=workers, pin=pin) as batches:
        for batch in islice(batches, WARM_UP):
            step_on(bench.state, batch, drawn, rates)
        return bench.seconds(lambda: _steps(bench, islice(batches, COUNTED), drawn, rates)) / COUNTED


def _steps(bench: Bench, batches: Iterator[Batch], drawn: object, rates: object) -> None:
    for batch in batches:
        step_on(bench.state, batch, drawn, rates)  # type: ignore[arg-type]


def make_stores(folder: Path, pictures: Path | None, count: int) -> dict[str, Store]:
    """Prepare the same pictures as a raw and as a JPEG store."""
    for index, picture in enumerate(islice(photographs(pictures), count)):
        name = "val" if index < 10 else "train"
        place = folder / "source" / name / "ab"[index % 2] / f"{index}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(jpeg(resized(picture, 340, 256), 95))
    for format in STORES:
        prepare(folder / "source", folder / format, format=format)
    return {format: Store(folder / format / "train") for format in STORES}


def checkpoint_delay(bench: Bench, step: Step, folder: Path, repeats: int) -> tuple[float, float]:
    """Return how much longer steps take in all when a checkpoint is taken and written beside them, and the time to write it."""
    delays, written = [], []
    for _ in range(repeats):
        plain = bench.seconds(lambda: [step() for _ in range(COUNTED)])
        with BackgroundWriter() as writer:
            began = time.perf_counter()
            held = bench.seconds(lambda: _with_checkpoint(bench, step, writer, folder))
            writer.finish()
            written.append(time.perf_counter() - began)
        delays.append(held - plain)
    return statistics.median(delays), statistics.median(written)


def _with_checkpoint(bench: Bench, step: Step, writer: BackgroundWriter, folder: Path) -> None:
    snapshot, progress = take_state(bench.state)
    writer.submit(lambda: save_resume(folder, ResumeState(snapshot.on_cpu(), progress), keep=0))
    for _ in range(COUNTED):
        step()


def profiled(bench: Bench, step: Step) -> list[tuple[str, float]]:
    """Return the seconds that a step spends in each kind of work."""
    cuda = bench.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        for _ in range(2):
            step()
        bench.wait()
    sums = dict.fromkeys([*KINDS, "everything else"], 0.0)
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if cuda else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "everything else")
        sums[kind] += microseconds / 1e6 / 2
    return sorted(sums.items(), key=lambda item: -item[1])


def limits(bench: Bench) -> tuple[float, float]:
    """Return what this machine does at best: multiply-adds per second of a matrix product, and bytes per second of a copy."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(bench.precision.name, bench.precision.dtype)
    one = torch.randn(MATRIX, MATRIX, device=bench.device).to(dtype)
    source = torch.ones(COPY // 4, device=bench.device)
    target = torch.empty_like(source)
    product = statistics.median(bench.seconds(lambda: one @ one) for _ in range(5))
    copy = statistics.median(bench.seconds(lambda: target.copy_(source)) for _ in range(5))
    return MATRIX**3 / product, 2 * COPY / copy


def least_bytes(bench: Bench) -> int:
    """Return the bytes that a step cannot avoid: weights, gradients and velocities, and every layer's output there and back."""
    width = 2 if bench.precision.name in ("bf16", "fp16") else bench.precision.dtype.itemsize
    weights = sum(parameter.nbytes for parameter in bench.state.network.parameters())
    layers = layer_table(bench.recipe, NUM_CLASSES)
    outputs = sum(_count(row.output) + (_count(row.pooled) if row.pooled != row.output else 0) for row in layers)
    # Forward reads the weights; backward reads them and writes gradients; the update reads three arrays and writes two.
    # An output is written, read by the next layer, read again by backward, and its gradient is written and read.
    return 8 * weights + 5 * outputs * width * bench.recipe.batch_size


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def main() -> None:
    """Print machine and tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of photographs (default: generated pictures)")
    parser.add_argument("--count", type=int, default=0, help="pictures of a store (default: enough for the batches of a turn)")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: auto)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, tf32, bf16 (default: auto)")
    parser.add_argument("--batch-size", type=int, default=128, help="images of a step (default: 128)")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="threads that read (default: one per core)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (default: 3)")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    print(machine(device), "\n", sep="")
    with tempfile.TemporaryDirectory() as name:
        count = arguments.count or arguments.batch_size * (WARM_UP + COUNTED + 1)
        stores = make_stores(Path(name), arguments.pictures, count)
        bench = begin(device, precision, arguments.batch_size)
        step = bare_step(bench)
        print_training(bench, step, stores, arguments.workers, arguments.repeats)
        print_checkpoint(bench, step, Path(name) / "resume", arguments.repeats)
        print_profile(bench, step)
        print_limits(bench, step)


def print_training(bench: Bench, step: Step, stores: dict[str, Store], workers: int, repeats: int) -> None:
    """Print the bare step, whole training from each store, and torchvision's step, in turns."""
    peer = torchvision_step(_peer_images(bench), _peer_labels(bench), bench.precision)
    turns: dict[str, Callable[[int], float]] = {"bare step": lambda turn: turn_of_step(bench, step)}
    for format, store in stores.items():
        turns[f"training from the {format} store"] = partial(turn_of_training, bench, store, workers)
    turns["torchvision.models.alexnet, bare step"] = lambda turn: turn_of_step(bench, peer)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(-1, repeats):
        for name, measure in turns.items():
            elapsed = measure(max(turn, 0))
            if turn >= 0:
                seconds[name].append(elapsed)
    size, bare = bench.recipe.batch_size, seconds["bare step"]
    print(f"| batch {size}, {bench.precision.name} | images/s | of the bare step | wanted |\n|---|---|---|---|")
    wanted = {"training from the raw store": ">= 0.95", "training from the jpeg store": ">= 0.90"}
    for name, times in seconds.items():
        share = statistics.median(one / other for one, other in zip(bare, times, strict=True))
        print(f"| {name} | {size / statistics.median(times):.1f} | {share:.2f} | {wanted.get(name, '')} |", flush=True)
    print()


def _peer_images(bench: Bench) -> Tensor:
    images = torch.randn(bench.recipe.batch_size, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 60
    return images.to(bench.device, memory_format=torch.channels_last)


def _peer_labels(bench: Bench) -> Tensor:
    return torch.randint(0, NUM_CLASSES, (bench.recipe.batch_size,)).to(bench.device)


def print_checkpoint(bench: Bench, step: Step, folder: Path, repeats: int) -> None:
    """Print what a checkpoint costs."""
    one = statistics.median(bench.seconds(step) for _ in range(3))
    delay, written = checkpoint_delay(bench, step, folder, repeats)
    print(
        f"A checkpoint holds {COUNTED} steps up by {delay:.2f} s in all, {delay / one:.2f} of a step; "
        f"it is on the disk after {written:.1f} s.\n",
        flush=True,
    )


def print_profile(bench: Bench, step: Step) -> None:
    """Print where the time of a step goes."""
    rows = profiled(bench, step)
    total = sum(seconds for _, seconds in rows)
    print("| where a step's time goes | ms | share |\n|---|---|---|")
    for kind, seconds in rows:
        print(f"| {kind} | {1000 * seconds:.0f} | {seconds / total:.0%} |")
    print(flush=True)


def print_limits(bench: Bench, step: Step) -> None:
    """Print how near the step is to what the machine can do at best."""
    one = statistics.median(bench.seconds(step) for _ in range(5))
    arithmetic, bandwidth = limits(bench)
    products = 3 * bench.recipe.batch_size * sum(row.multiply_adds for row in layer_table(bench.recipe, NUM_CLASSES))
    moved = least_bytes(bench)
    print("| limit | at best | a step's least | at this speed it takes | share of the step |\n|---|---|---|---|---|")
    for name, best, least, unit in (
        ("arithmetic", arithmetic, products, "G multiply-adds"),
        ("memory", bandwidth, moved, "GB"),
    ):
        seconds = least / best
        print(
            f"| {name} | {best / 1e9:,.0f} {unit}/s | {least / 1e9:,.1f} {unit} | {1000 * seconds:,.1f} ms | {seconds / one:.0%} |"
        )
    print(f"\nThe step: {1000 * one:,.1f} ms.")


if __name__ == "__main__":
    main()
