"""Weights > a program of torch.export, which any PyTorch loads and runs without this package."""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.layers import steps
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.views import test_views


class Scorer(nn.Module):
    """The network's test pass in PyTorch's own functions, with what comes before and after it.

    Our norms are made for training; here they are `F.local_response_norm` and a pooling, which every program knows.
    """

    mean_CHW: Tensor

    def __init__(self, network: AlexNet, mean_CHW: Tensor, *, bake_preprocessing: bool, logits: bool) -> None:
        super().__init__()
        self.network, self.bake_preprocessing, self.logits = network, bake_preprocessing, logits
        if bake_preprocessing:
            self.register_buffer("mean_CHW", mean_CHW)

    def forward(self, images: Tensor) -> Tensor:
        """Score images, or stored squares where the preprocessing is baked in."""
        recipe = self.network.recipe
        x = test_views(images, self.mean_CHW, recipe, 1)[:, 0] if self.bake_preprocessing else images
        plain = {"lrn": functools.partial(_norm, recipe), "spatial": functools.partial(_spatial_norm, recipe)}
        for step in steps(self.network):
            x = plain.get(step.operation, step.run)(x)
        return x if self.logits else x.softmax(1)


def write_program(path: Path, weights: Weights, *, bake_preprocessing: bool = False, logits: bool = False) -> None:
    """Write a program that scores a batch of any size on a processor, atomically; arguments as in `write_onnx`."""
    recipe = weights.recipe
    network = build_network(weights, torch.device("cpu"), Precision("fp32"))
    scorer = Scorer(network, weights.mean, bake_preprocessing=bake_preprocessing, logits=logits).eval()
    # Two: a batch of one is taken for a constant.
    if bake_preprocessing:
        example = torch.zeros(2, recipe.stored_size, recipe.stored_size, 3, dtype=torch.uint8)
    else:
        example = torch.zeros(2, 3, recipe.input_size, recipe.input_size)
    with torch.no_grad():
        program = torch.export.export(scorer, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            torch.export.save(program, file)

    write_atomically(path, write)


def _norm(recipe: Recipe, x: Tensor) -> Tensor:
    # torch's own divides alpha by the size.
    alpha = recipe.lrn_alpha if recipe.lrn_alpha_divided else recipe.lrn_alpha * recipe.lrn_size
    parts = x.chunk(1 if recipe.lrn_crosses_towers else recipe.towers, 1)
    return torch.cat([F.local_response_norm(part, recipe.lrn_size, alpha, recipe.lrn_beta, recipe.lrn_k) for part in parts], 1)


def _spatial_norm(recipe: Recipe, x: Tensor) -> Tensor:
    energy = F.avg_pool2d(x * x, recipe.spatial_size, 1, recipe.spatial_size // 2, count_include_pad=True)
    return x / (recipe.spatial_k + recipe.spatial_alpha * energy) ** recipe.spatial_beta
