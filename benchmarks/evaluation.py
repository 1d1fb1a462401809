"""Measure ten-crop evaluation from a store against plain loops over torchvision's alexnet with transforms.TenCrop.

    python -m benchmarks.evaluation [--pictures FOLDER] [--count 256] [--device cpu] [--precision bf16]

All answer about the same pictures: ours from a JPEG store of 256x256; the loops from JPEG files, which they open by Pillow, cut by
TenCrop, turn into tensors one by one and pass through torchvision's network. The plain loop takes the original files, one after
the other: Resize, TenCrop, a pass of ten views. Two others are given what the store and the batches give ours: files that are
256x256 already, and passes of as many views. Weights are random. Printed as Markdown: pictures per second, in turns, medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.devices import Precision, choose_device, choose_precision, settle
from alexnet_cli.core.evaluate import evaluate
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.recipes import original
from alexnet_cli.core.store import Store
from benchmarks.__main__ import NUM_CLASSES, machine
from benchmarks.photographs import jpeg, photographs, resized

VIEWS = 120  # of a batch of the loop, and at most of a pass of ours
MEAN, STDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def ours(store: Store, device: torch.device, precision: Precision) -> Callable[[], object]:
    """Return a whole evaluation of the store by net #145 with random weights of 1,000 classes."""
    recipe, names = original(), tuple(f"{number:04}" for number in range(NUM_CLASSES))
    tensors = {name: value.detach() for name, value in AlexNet(recipe, NUM_CLASSES, seed=0).named_parameters()}
    weights = Weights(recipe, names, names, tensors, torch.full((3, 256, 256), 120.0))
    network = build_network(weights, device, precision, cast=True)
    if not compile_problem(device):
        network.compile_normalisation(tests=True)  # as `alexnet evaluate` does for many pictures
    store.classes = store.words = names
    return lambda: evaluate(
        network, weights.mean, [store], classes=names, device=device, precision=precision, batch_size=VIEWS, crops=10
    )


def loop(files: list[Path], pictures_per_pass: int, device: torch.device, precision: Precision) -> Callable[[], object]:
    """Return a loop over files, of so many pictures a pass."""
    network: nn.Module = torchvision.models.alexnet(num_classes=NUM_CLASSES)
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STDEV)])
    views = transforms.Compose(
        [
            transforms.Resize(256),  # of which nothing is left to do where the file is 256x256
            transforms.CenterCrop(256),
            transforms.TenCrop(224),
            transforms.Lambda(lambda crops: torch.stack([to_tensor(c) for c in crops])),
        ]
    )

    @torch.no_grad()
    def run() -> Tensor:
        named = []
        for first in range(0, len(files), pictures_per_pass):
            batch = torch.cat([views(Image.open(file).convert("RGB")) for file in files[first : first + pictures_per_pass]])
            with precision.autocast(device):
                logits = network(batch.to(device, memory_format=torch.channels_last))
            named.append(torch.softmax(logits.float(), dim=1).unflatten(0, (-1, 10)).mean(dim=1).topk(5).indices)
        return torch.cat(named).cpu()

    return run


def lay_out(folder: Path, pictures: Iterator[Image.Image], count: int) -> tuple[list[Path], list[Path]]:
    """Write the pictures as original files and as files of 256x256; return both, the latter in class folders of two splits."""
    originals, squares = [], []
    for index, picture in enumerate(islice(pictures, count)):
        originals.append(folder / "originals" / f"{index:06}.jpg")
        for path in (
            originals[-1],
            *(folder / "source" / split / "ab"[index % 2] / f"{index:06}.jpg" for split in ("train", "val")),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(picture if path == originals[-1] else resized(picture, 256, 256), 95))
        squares.append(path)
    return originals, squares


def main() -> None:
    """Print machine and table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of photographs (default: generated pictures)")
    parser.add_argument("--count", type=int, default=240, help="pictures (default: 240)")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: auto)")
    parser.add_argument("--precision", default="bf16", help="auto, fp32, tf32, bf16 (default: bf16)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (default: 5)")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    settle(precision, device)
    print(f"{machine(device)}; {precision.name}, {arguments.count} pictures\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals, squares = lay_out(folder, photographs(arguments.pictures), arguments.count)
        prepare(folder / "source", folder / "data")
        turns = {
            "alexnet evaluate": ours(Store(folder / "data/val", sequential=True), device, precision),
            "plain loop: torchvision's alexnet, Resize, TenCrop, one picture a pass": loop(originals, 1, device, precision),
            "the same, from files of 256x256": loop(squares, 1, device, precision),
            f"the same, from files of 256x256, {VIEWS} views a pass": loop(squares, VIEWS // 10, device, precision),
        }
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        for turn in range(arguments.repeats + 1):
            for name, run in turns.items():
                began = time.perf_counter()
                run()
                if turn:  # the first warms up
                    seconds[name].append(time.perf_counter() - began)
    print("| ten views of each picture | images/s | lowest to highest | ours is faster by | wanted |\n|---|---|---|---|---|")
    own = seconds["alexnet evaluate"]
    for row, (name, times) in enumerate(seconds.items()):
        speeds = sorted(arguments.count / one for one in times)
        ratio = f"{statistics.median(other / ours for ours, other in zip(own, times, strict=True)):.2f}" if row else ""
        wanted = ">= 1.5" if row == 1 else ""
        print(f"| {name} | {statistics.median(speeds):.1f} | {speeds[0]:.1f} to {speeds[-1]:.1f} | {ratio} | {wanted} |")


if __name__ == "__main__":
    main()
