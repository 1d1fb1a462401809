"""Measure the ratios of docs/benchmarks.md and print them as a Markdown table: `make bench`, or python -m benchmarks --help.

Each pair is measured in turns in one run, and the medians are compared: single times say little on a shared machine.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn

from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.devices import Precision, choose_device, cpu_flags, settle
from alexnet_cli.core.model import AlexNet, dropout_keys
from alexnet_cli.core.optim import UpdateRule
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original
from alexnet_cli.core.schedule import rates_at

NUM_CLASSES = 1000
Step = Callable[[], object]


def our_step(recipe: Recipe, images: Tensor, labels: Tensor, precision: Precision) -> Step:
    """Return one training step of our network: forward, backward, update."""
    network = AlexNet(recipe, NUM_CLASSES, seed=0).to(images.device).to(memory_format=torch.channels_last)
    if not compile_problem(images.device):
        network.compile_normalisation()
    update = UpdateRule(dict(network.named_parameters()), recipe)
    update.set_rates(rates_at(recipe, 0, 1000))
    keys = dropout_keys(network.recipe, 0, 0, images.device)

    def step() -> None:
        with precision.autocast(images.device):
            logits = network(images, keys)
        F.cross_entropy(logits.float(), labels).backward()
        update.step()

    return step


def torchvision_step(images: Tensor, labels: Tensor, precision: Precision) -> Step:
    """Return one training step of torchvision's network under the same conditions, with torch's fused SGD."""
    network: nn.Module = torchvision.models.alexnet(num_classes=NUM_CLASSES)
    network = network.to(images.device).to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005, fused=True)
    scaled = images / 60  # its inputs have a deviation of about 1

    def step() -> None:
        with precision.autocast(images.device):
            logits = network(scaled)
        F.cross_entropy(logits.float(), labels).backward()
        sgd.step()
        sgd.zero_grad(set_to_none=True)

    return step


def timed(step: Step, device: torch.device) -> float:
    """Return the seconds of one call, to the end of the device's work."""
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def in_turns(steps: Sequence[Step], device: torch.device, repeats: int) -> list[float]:
    """Return each step's median seconds, measured alternately after two unmeasured calls."""
    seconds: list[list[float]] = [[] for _ in steps]
    for repeat in range(-2, repeats):
        for step, times in zip(steps, seconds, strict=True):
            elapsed = timed(step, device)
            if repeat >= 0:
                times.append(elapsed)
    return [statistics.median(times) for times in seconds]


def compare_training(precision: Precision, device: torch.device, batch_size: int, repeats: int) -> list[str]:
    """Return one row: our step, without learning-rate schedule or data, against torchvision's."""
    generator = torch.Generator().manual_seed(0)
    images = (torch.randn(batch_size, 3, 224, 224, generator=generator) * 60).to(device, memory_format=torch.channels_last)
    labels = torch.randint(0, NUM_CLASSES, (batch_size,), generator=generator).to(device)
    recipe = replace(original(), batch_size=batch_size)
    settle(precision, device)  # for both
    ours, theirs = in_turns(
        [our_step(recipe, images, labels, precision), torchvision_step(images, labels, precision)], device, repeats
    )
    return [
        f"training step, batch {batch_size}, {precision.name}",
        f"{batch_size / ours:.1f} images/s",
        f"{batch_size / theirs:.1f} images/s (torchvision.models.alexnet)",
        f"{theirs / ours:.2f}",
        ">= 0.5",
    ]


def compare_predict(repeats: int) -> list[str]:
    """Return one row: `alexnet predict` of one picture as a whole process against `import torch` alone."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write_weights(place / "weights.safetensors")
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 533, 3), dtype=np.uint8)).save(place / "picture.jpg")
        ours = [sys.executable, "-m", "alexnet_cli", "predict", str(place / "picture.jpg")]
        commands = [[*ours, "--weights", str(place / "weights.safetensors")], [sys.executable, "-c", "import torch"]]
        steps = [lambda command=command: subprocess.run(command, check=True, capture_output=True) for command in commands]
        predict, torch_alone = in_turns(steps, torch.device("cpu"), repeats)
    return [
        "predict one picture, whole process",
        f"{predict:.2f} s",
        f'{torch_alone:.2f} s (`python -c "import torch"`)',
        f"{predict / torch_alone:.2f}",
        "<= 1.8",
    ]


def _write_weights(path: Path) -> None:
    network = AlexNet(original(), NUM_CLASSES, seed=0)
    classes = tuple(f"n{index:08}" for index in range(NUM_CLASSES))
    tensors = {name: parameter.detach() for name, parameter in network.named_parameters()}
    save_weights(path, Weights(original(), classes, classes, tensors, torch.full((3, 256, 256), 120.0)))


def machine(device: torch.device) -> str:
    """Describe where the figures come from, in one line."""
    names = [line.split(":", 1)[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    vectors = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in cpu_flags()]
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    processor = f"{len(names)} cores of {names[0]} ({', '.join(vectors)})" if names else platform.processor()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{processor}{gpu}; {versions}, {torch.get_num_threads()} threads"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> None:
    """Print machine and table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: auto)")
    parser.add_argument("--precision", nargs="*", default=["fp32", "bf16"], help="of the training step (default: fp32 bf16)")
    parser.add_argument("--batch-size", type=int, default=128, help="images of a step (default: 128)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each (default: 5)")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    print(machine(device), "\n", sep="")
    print("| what | ours | peer | ratio | wanted |\n|---|---|---|---|---|", flush=True)
    for name in arguments.precision:
        row = compare_training(Precision(name), device, arguments.batch_size, arguments.repeats)
        print(f"| {' | '.join(row)} |", flush=True)
    print(f"| {' | '.join(compare_predict(arguments.repeats))} |")


if __name__ == "__main__":
    main()
