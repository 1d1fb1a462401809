"""Measure how fast batches come out of a store, against FFCV's loader and torchvision's ImageFolder, and print Markdown.

All read the same pictures from a warm cache, in random order, and give crops of 224x224, half of them mirrored: ours and FFCV's
of stored pictures of 256x256, torchvision's of the original files. Each has a process of its own, which waits while another
is measured. They are measured in turns; a ratio is the median of the turns' ratios. FFCV lives in an environment of its own:
--ffcv names its Python.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from alexnet_cli.core.batches import stored_batches
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.store import Store
from benchmarks.__main__ import machine
from benchmarks.photographs import make_source
from benchmarks.prepare import versions

OURS = ("JPEG store", "raw store")
FILES = "torchvision ImageFolder, original files"
# What ours is compared with, and the ratio that is wanted of the JPEG and of the raw store.
PEERS: dict[str, tuple[str, str, float]] = {
    "FFCV, JPEG file, crop of its batch": ("jpeg", "crop-of-batch", 1.2),
    "FFCV, JPEG file, crop compiled into its pipeline": ("jpeg", "crop-compiled", 1.2),
    "FFCV, JPEG file, CenterCropRGBImageDecoder": ("jpeg", "centre", 1.2),
    "FFCV, raw file, crop of its batch": ("raw", "crop-of-batch", 1.2),
    "FFCV, raw file, crop compiled into its pipeline": ("raw", "crop-compiled", 1.2),
    "FFCV, raw file, CenterCropRGBImageDecoder": ("raw", "centre", 3.0),
}
WANTED_OF_FILES = {"JPEG store": 4.0, "raw store": 8.0}
WARM_UP = 1  # turn that is not measured: pages are mapped, FFCV compiles
TURN_SECONDS = 2.0  # the first epoch after a wait is slow, and an epoch of so few pictures short


class Loader:
    """A process that reads an epoch whenever it is asked to."""

    def __init__(self, command: Sequence[str]) -> None:
        # The limits that the caller's environment sets to threads are not meant for what is measured here.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )

    def epoch(self) -> list[float]:
        """Return what the process prints of one epoch: images per second, and of ours the memory in MB."""
        assert self._process.stdin and self._process.stdout
        print("go", file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {' '.join(map(str, self._process.args))} ended with {self._process.wait()}")  # type: ignore[arg-type]
        return [float(word) for word in line.split()]

    def turn(self) -> float:
        """Return the images per second of as many epochs as fill a turn."""
        seconds_per_image: list[float] = []
        began = time.perf_counter()
        while not seconds_per_image or time.perf_counter() - began < TURN_SECONDS:
            seconds_per_image.append(1 / self.epoch()[0])
        return len(seconds_per_image) / sum(seconds_per_image)

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def make_files(place: Path, ffcv: str | None, workers: int) -> None:
    """Make the stores of the source's pictures, and FFCV's files of the very pixels of the raw one."""
    prepare(str(place / "source"), place / "jpeg", format="jpeg", workers=workers)
    prepare(str(place / "source"), place / "raw", format="raw", workers=workers)
    if ffcv is None:
        return
    with stored_batches([Store(place / "raw" / "train")], batch_size=128, workers=workers) as batches:
        np.save(place / "squares.npy", np.concatenate([batch.images_BHWC.numpy() for batch in batches]))
    script = str(Path(__file__).with_name("ffcv_squares.py"))
    outputs = [str(place / "jpeg.ffcv"), str(place / "raw.ffcv")]
    command = [ffcv, script, str(place / "squares.npy"), *outputs, str(workers)]
    subprocess.run(command, check=True, capture_output=True)


def commands(place: Path, ffcv: str | None, batch_size: int, workers: int) -> dict[str, list[str]]:
    """Return the command of each loader by its name."""
    module, last = [sys.executable, "-m", "benchmarks.our_loader"], [str(batch_size), str(workers)]
    found = {
        OURS[0]: [*module, str(place / "jpeg" / "train"), "store", *last],
        OURS[1]: [*module, str(place / "raw" / "train"), "store", *last],
    }
    if ffcv:
        script = str(Path(__file__).with_name("ffcv_loader.py"))
        for name, (format, way, _) in PEERS.items():
            found[name] = [ffcv, script, str(place / f"{format}.ffcv"), way, *last]
    return {**found, FILES: [*module, str(place / "source" / "train"), "folder", *last]}


def compare(loaders: dict[str, Loader], repeats: int) -> None:
    """Print the table: the rates, measured in turns, and how many times as fast ours are."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for repeat in range(-WARM_UP, repeats):
        for name, loader in loaders.items():
            rate = loader.turn()
            if repeat >= 0:
                rates[name].append(rate)
    print("| what | images/s | lowest to highest | ours is faster by | wanted |\n|---|---|---|---|---|")
    for name, values in rates.items():
        ratios, wanted = ratios_of(name, rates)
        print(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} to {max(values):,.0f} | {ratios} | {wanted} |")


def ratios_of(name: str, rates: dict[str, list[float]]) -> tuple[str, str]:
    """Return the ratio of ours to a peer, the median over the turns, and the one wanted; for the original files of both stores."""

    def ratio(ours: str) -> float:
        return statistics.median(our / their for our, their in zip(rates[ours], rates[name], strict=True))

    if name in PEERS:
        format, _, wanted = PEERS[name]
        return f"{ratio(OURS[0] if format == 'jpeg' else OURS[1]):.2f}", f">= {wanted:g}"
    if name == FILES:
        return ", ".join(f"{ratio(ours):.1f} ({ours})" for ours in OURS), ", ".join(
            f">= {WANTED_OF_FILES[ours]:g}" for ours in OURS
        )
    return "", ""


def memory(command: Sequence[str], epochs: int) -> tuple[int, int]:
    """Return the megabytes that a process of ours holds after its second and after its last epoch."""
    loader = Loader(command)
    held = [int(loader.epoch()[1]) for _ in range(epochs)]
    loader.close()
    return held[1], held[-1]


def main() -> None:
    """Print machine, versions, table and memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of photographs to make them from (default: generated ones)")
    parser.add_argument("--ffcv", help="the Python of an environment with ffcv (default: FFCV is left out)")
    parser.add_argument("--count", type=int, default=2048, help="pictures (default: 2048)")
    parser.add_argument("--bytes", type=int, default=110_000, help="of each original file, about (default: 110000)")
    parser.add_argument("--batch-size", type=int, default=128, help="images of a batch (default: 128)")
    parser.add_argument("--workers", type=int, default=2, help="threads of ours and FFCV's, processes of torch's (default: 2)")
    parser.add_argument("--repeats", type=int, default=9, help="turns measured of each (default: 9)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs after which memory is measured (default: 20)")
    arguments = parser.parse_args()
    print(f"{machine(torch.device('cpu'))}; {versions()}\n")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        make_source(place / "source", arguments.pictures, arguments.count, arguments.bytes)
        make_files(place, arguments.ffcv, arguments.workers)
        ways = commands(place, arguments.ffcv, arguments.batch_size, arguments.workers)
        loaders = {name: Loader(command) for name, command in ways.items()}
        for loader in loaders.values():
            stack.callback(loader.close)
        print(f"{arguments.count} pictures, batches of {arguments.batch_size}, {arguments.repeats} turns of each\n", flush=True)
        compare(loaders, arguments.repeats)
        print(f"\nMemory of the process without mapped files, after epoch 2 and epoch {arguments.epochs}:", end="")
        held = [f" {name} {first} and {last} MB" for name in OURS for first, last in [memory(ways[name], arguments.epochs)]]
        print(f"{','.join(held)}.")


if __name__ == "__main__":
    main()
