"""Train torchvision's alexnet on a prepared store, beside which `alexnet train --recipe small` is to be judged.

    python -m benchmarks.accuracy --data data --split val,test [--epochs 24] [--seeds 0,1,2] [--rates constant]

Batches, crops and mirroring are those of `alexnet train` with the same seed; ten views are averaged as in `alexnet evaluate`. Its
own are the network, its initial weights and dropout, the normalisation of its pictures, and torch's SGD with a rate of 0.01,
momentum 0.9 and weight decay 0.0001, as in torchvision's reference training. Prints a Markdown row for each seed, then mean and
spread.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import cos, pi
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from alexnet_cli.core.batches import stored_batches, training_batches
from alexnet_cli.core.devices import Precision, choose_device, choose_precision, settle
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import small
from alexnet_cli.core.store import Store, open_store
from alexnet_cli.core.views import Colours, draw_views, test_views, training_views
from benchmarks.__main__ import machine

RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 0.0001
MEAN, STDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels from 0 to 1: torchvision's weights expect them
IMAGES_PER_PASS = 12
RATES: dict[str, Callable[[float], float]] = {  # by the share of the training that is done
    "constant": lambda done: RATE,
    "steps": lambda done: RATE * 0.1 ** int(3 * done),  # torchvision's reference: divided by ten every 30 of 90 epochs
    "cosine": lambda done: RATE * (1 + cos(pi * done)) / 2,
}


def train(
    recipe: Recipe, store: Store, seed: int, rate_at: Callable[[float], float], device: torch.device, precision: Precision
) -> nn.Module:
    """Train a new network to the recipe's last epoch."""
    torch.manual_seed(seed)
    network: nn.Module = torchvision.models.alexnet(num_classes=len(store.classes))
    network = network.to(device).to(memory_format=torch.channels_last).train()
    sgd = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    colours = _normalisation(device)
    steps, step = recipe.epochs * -(-len(store) // recipe.batch_size), 0
    for epoch in range(recipe.epochs):
        drawn = draw_views(recipe, seed, epoch, len(store))
        with training_batches(store, recipe, seed=seed, epoch=epoch) as batches:
            for batch in batches:
                part = drawn.part(batch.positions)
                views_BCHW = training_views(batch.images_BHWC, part, colours, recipe, 0.0)
                sgd.param_groups[0]["lr"] = rate_at(step / steps)
                with precision.autocast(device):
                    logits_BK = network(views_BCHW)
                F.cross_entropy(logits_BK.float(), batch.labels_B.to(device)).backward()
                sgd.step()
                sgd.zero_grad(set_to_none=True)
                step += 1
    return network


@torch.no_grad()
def errors(
    network: nn.Module, recipe: Recipe, stores: Sequence[Store], device: torch.device, precision: Precision
) -> tuple[float, float]:
    """Return the top-1 and top-5 error of ten views of each picture, their probabilities averaged."""
    network.eval()
    wrong, total = torch.zeros(2), 0
    with stored_batches(stores, batch_size=IMAGES_PER_PASS) as batches:
        for batch in batches:
            views_BVCHW = test_views(batch.images_BHWC.to(device), _normalisation(device).mean_CHW, recipe, 10)
            with precision.autocast(device):
                logits_NK = network(views_BVCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last))
            probabilities_BK = torch.softmax(logits_NK.float(), dim=1).unflatten(0, views_BVCHW.shape[:2]).mean(dim=1)
            best_B5 = probabilities_BK.topk(5).indices.cpu()
            hits_B5 = best_B5 == batch.labels_B[:, None]
            wrong += torch.tensor([(~hits_B5[:, 0]).sum(), (~hits_B5.any(dim=1)).sum()])
            total += len(hits_B5)
    top1, top5 = (wrong / total).tolist()
    return top1, top5


def _normalisation(device: torch.device) -> Colours:
    """Return torchvision's mean in our units; its deviations are in the recipe of the views."""
    mean_CHW = 255 * torch.tensor(MEAN, device=device)[:, None, None].expand(3, 256, 256)
    return Colours(mean_CHW.contiguous(), torch.ones(3, device=device), torch.eye(3, device=device))


def _recipe(epochs: int) -> Recipe:
    return replace(small(), epochs=epochs, pixel_scale=1 / 255, pixel_stdevs=STDEV)


def main() -> None:
    """Train with each seed and print the errors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the prepared store (default: data)")
    parser.add_argument("--split", default="val", help="splits to test on, with commas between (default: val)")
    parser.add_argument("--epochs", type=int, default=24, help="(default: 24)")
    parser.add_argument("--seeds", default="0,1,2", help="with commas between (default: 0,1,2)")
    parser.add_argument("--rates", choices=list(RATES), default="constant", help="how the rate falls (default: constant)")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: auto)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, tf32, bf16 (default: auto)")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    settle(precision, device)
    recipe, store = _recipe(arguments.epochs), open_store(arguments.data, "train")
    stores = [open_store(arguments.data, split) for split in arguments.split.split(",")]
    assert all(other.classes == store.classes for other in stores), "the splits have different classes"
    print(f"{machine(device)}; {precision.name}\n\n| seed | top-1 error | top-5 error |\n|---|---|---|", flush=True)
    found = []
    for seed in (int(seed) for seed in arguments.seeds.split(",")):
        network = train(recipe, store, seed, RATES[arguments.rates], device, precision)
        found.append(errors(network, recipe, stores, device, precision))
        print(f"| {seed} | {found[-1][0]:.1%} | {found[-1][1]:.1%} |", flush=True)
    top1, top5 = zip(*found, strict=True)
    spread = [statistics.stdev(part) if len(found) > 1 else 0.0 for part in (top1, top5)]
    print(f"| mean ± deviation | {statistics.mean(top1):.1%} ± {spread[0]:.1%} | {statistics.mean(top5):.1%} ± {spread[1]:.1%} |")


if __name__ == "__main__":
    main()
