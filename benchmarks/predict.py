"""Measure `alexnet predict`'s core on many files against the bare network on ready batches: python -m benchmarks.predict --help.

Both score as many views in passes of the same size; ours also reads the files, cuts the views, takes the softmax, sorts and names.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision, choose_device, settle
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.predict import Model
from alexnet_cli.core.recipes import original
from alexnet_cli.core.views import num_views
from benchmarks.__main__ import NUM_CLASSES, machine
from benchmarks.photographs import jpeg, photographs, resized

BATCH_SIZE = 128


def make_weights() -> Weights:
    """Return #145 with its initial weights; what they say takes as long as what trained ones say."""
    network = AlexNet(original(), NUM_CLASSES, seed=0)
    classes = tuple(f"n{index:08}" for index in range(NUM_CLASSES))
    tensors = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return Weights(original(), classes, classes, tensors, torch.full((3, 256, 256), 120.0))


def lay_files(folder: Path, source: Path | None, count: int) -> None:
    """Lay `count` JPEG files of 500x375 or 375x500, quality 90."""
    for index, picture in zip(range(count), photographs(source), strict=False):
        (folder / f"{index:05}.jpg").write_bytes(jpeg(resized(picture, 500, 375), 90))


@torch.no_grad()
def bare_seconds(network: AlexNet, device: torch.device, precision: Precision, pictures: int, views: int) -> float:
    """Return how long the network alone takes for the views of so many pictures, in passes as predict makes them."""
    per_pass = max(1, BATCH_SIZE // views)
    ready_BCHW = torch.randn(per_pass * views, 3, 224, 224).to(device, memory_format=torch.channels_last)
    began = time.perf_counter()
    for first in range(0, pictures, per_pass):
        with precision.autocast(device):
            network(ready_BCHW[: min(per_pass, pictures - first) * views]).float().sum().item()
    return time.perf_counter() - began


def main() -> None:
    """Print machine and table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: auto)")
    parser.add_argument("--precision", default="fp32", help="of the network (default: fp32)")
    parser.add_argument("--pictures", type=int, default=480, help="files (default: 480)")
    parser.add_argument("--crops", type=int, nargs="*", default=[1, 10], choices=[1, 10], help="views averaged (default: 1 10)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each (default: 3)")
    parser.add_argument("--folder", type=Path, help="photographs to make the files of (default: generated ones)")
    arguments = parser.parse_args()
    device, precision = choose_device(arguments.device), Precision(arguments.precision)
    settle(precision, device)
    weights, count = make_weights(), arguments.pictures
    model, network = Model(weights, device, precision), build_network(weights, device, precision)
    print(machine(device), "\n", sep="")
    print("| predict | pictures/s | bare network | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        lay_files(Path(folder), arguments.folder, count)
        for crops in arguments.crops:
            views = num_views(original(), crops)
            model.predict(folder, crops=crops)  # nothing is cold
            ours, bare = [], []
            for _ in range(arguments.repeats):
                began = time.perf_counter()
                answers = sum(1 for _ in model.stream(folder, crops=crops, batch_size=BATCH_SIZE))
                ours.append(time.perf_counter() - began)
                assert answers == count
                bare.append(bare_seconds(network, device, precision, count, views))
            seconds, alone = statistics.median(ours), statistics.median(bare)
            row = f"{count} files, {views} view{'s' * (views > 1)}, {precision.name}, {device}"
            print(f"| {row} | {count / seconds:.1f} | {count / alone:.1f} | {alone / seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
