"""The network, read like section 3 of the paper; its numbers are the recipe's.

It runs whole on one device or one tower per rank: the same code, with `layout` joining what both towers read. Data and files
are not its business. Legend: B batch, C channels, H, W, U units, K classes.
"""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_cli.core import draws
from alexnet_cli.core.dropout import kept_units, step_keys
from alexnet_cli.core.lrn import cross_map_norm, spatial_norm
from alexnet_cli.core.recipe import CONV_LAYERS, FC_LAYERS, KERNELS, LAYERS, PADDINGS, STRIDES, Recipe
from alexnet_cli.core.towers import ONE_DEVICE, Layout

Operation = Callable[[Tensor], Tensor]


class Weighted(nn.Module):
    """Weights and bias of one layer, as far as they are held here."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0]))


class AlexNet(nn.Module):
    """The paper's network: five convolutional and three fully connected layers in two towers.

    recipe: its shape, normalisation and dropout. num_classes: outputs of fc8. layout: where the towers are; on two ranks each
    holds its own tower's rows and rank 0 all of fc8. seed: draws the initial weights, the same for every layout; None leaves
    them uninitialised, to be loaded. Parameters are named conv1.weight to fc8.bias; on one device they have the shapes of the
    weights file.
    """

    def __init__(self, recipe: Recipe, num_classes: int, *, layout: Layout = ONE_DEVICE, seed: int | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.num_classes = num_classes
        self.layout = layout
        self._operations = _operations(recipe, 1 if layout.split else recipe.towers)
        self._fused: dict[tuple[str, ...], Callable[[tuple[str, ...], Tensor], Tensor]] = {}
        for layer, shape in weight_shapes(recipe, num_classes).items():
            held = layout.rows(layer, shape[0])
            if held.stop > held.start:
                setattr(self, layer, Weighted((held.stop - held.start, *shape[1:])))
        if seed is not None:
            self.draw_weights(seed)

    def forward(self, images_BCHW: Tensor, dropout_keys: dict[str, Tensor] | None = None) -> Tensor:
        """Score images.

        images_BCHW: the recipe's input size, mean removed. dropout_keys: those of a training step, from `dropout_keys`; None
        for a test pass. Returns logits_BK; with tower b alone a zero that stands for them, on which backward is to be called.
        """
        recipe = self.recipe
        x = F.pad(images_BCHW, recipe.input_padding * 2)
        x = self._conv("conv1", x)
        x = self._conv("conv2", x)
        x = self._conv("conv3", x)
        x = self._conv("conv4", x)
        x = self._conv("conv5", x)
        x = x.flatten(1)  # channel, y, x; the towers a, b
        x = self._hidden("fc6", x, dropout_keys)
        x = self._hidden("fc7", x, dropout_keys)
        x = self.layout.join_on_first(x)
        return F.linear(x, *self._held("fc8")) if self.layout.scores else x

    def _conv(self, layer: str, x: Tensor) -> Tensor:
        if layer in self.recipe.reads_both_towers:
            x = self.layout.join(x)
        groups = max(1, self.recipe.groups(layer) // self.layout.towers)
        x = _grouped_conv(x, *self._held(layer), STRIDES[layer], PADDINGS[layer], groups)
        return self._follow(layer, x)

    def _held(self, layer: str) -> tuple[Tensor, Tensor]:
        held: Weighted = getattr(self, layer)
        return held.weight, held.bias

    def _follow(self, layer: str, x: Tensor) -> Tensor:
        """Apply what follows a convolution up to the next one: normalisations, pooling and ReLU in the recipe's order."""
        operations = {"conv1": self.recipe.layer1, "conv2": self.recipe.layer2, "conv5": self.recipe.layer5}
        for run in _runs(operations.get(layer, ("conv", "relu"))[1:]):
            # A test pass would be compiled anew, which takes longer than most tests save.
            x = (self._fused.get(run, self._in_turn) if torch.is_grad_enabled() else self._in_turn)(run, x)
        return x

    def _in_turn(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = self._operations[name](x)
        return x

    def compile_normalisation(self) -> None:
        """Fuse each response normalisation with its neighbours by torch.compile, for inputs of constant shape.

        Convolutions and pooling stay the library's own: compiled, pooling takes three times as long on a processor.
        """
        for operations in (self.recipe.layer1, self.recipe.layer2, self.recipe.layer5):
            for run in _runs(operations[1:]):
                if {"lrn", "spatial"} & set(run):
                    self._fused[run] = torch.compile(self._in_turn, dynamic=False)

    def _hidden(self, layer: str, x: Tensor, dropout_keys: dict[str, Tensor] | None) -> Tensor:
        x = self.layout.join(x)
        if self.recipe.dropout_before:
            return F.relu(F.linear(self._drop(layer, x, dropout_keys, whole=True), *self._held(layer)))
        return self._drop(layer, F.relu(F.linear(x, *self._held(layer))), dropout_keys, whole=False)

    def _drop(self, layer: str, x: Tensor, dropout_keys: dict[str, Tensor] | None, *, whole: bool) -> Tensor:
        """Drop units: multiplied by 0 or 1 in training and by the share of kept ones in a test, or inverted (paper 4.2)."""
        rate = self.recipe.dropout
        if dropout_keys is None:
            return x if self.recipe.dropout_inverted else x * (1 - rate)
        first = 0 if whole or not self.layout.split else self.layout.tower_index * x.shape[1]
        x = x * kept_units(dropout_keys[layer], x.shape[0], first, x.shape[1], rate)
        return x / (1 - rate) if self.recipe.dropout_inverted else x

    def draw_weights(self, seed: int) -> None:
        """Draw the initial weights and set the biases (paper 5); each layer is drawn whole, so every layout has the same."""
        for layer, shape in weight_shapes(self.recipe, self.num_classes).items():
            if not hasattr(self, layer):
                continue
            rows = self.layout.rows(layer, shape[0])
            weight, bias = _initial(self.recipe, layer, shape, seed)
            held: Weighted = getattr(self, layer)
            with torch.no_grad():
                held.weight.copy_(torch.from_numpy(weight[rows]))
                held.bias.copy_(torch.from_numpy(bias[rows]))


def weight_shapes(recipe: Recipe, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each layer's weights in the one-device network: (out, in per group, k, k) or (out, in)."""
    shapes: dict[str, tuple[int, ...]] = {}
    size = recipe.input_size + sum(recipe.input_padding)
    inputs = 3
    pooled = {"conv1", "conv2", "conv5"}
    for layer, outputs in zip(CONV_LAYERS, recipe.channels, strict=True):
        shapes[layer] = (outputs, inputs // recipe.groups(layer), KERNELS[layer], KERNELS[layer])
        size = (size + 2 * PADDINGS[layer] - KERNELS[layer]) // STRIDES[layer] + 1
        if layer in pooled:
            size = -(-(size - recipe.pool_size) // recipe.pool_stride) + 1
        inputs = outputs
    widths = (inputs * size * size, *recipe.hidden, num_classes)
    for layer, ins, outs in zip(FC_LAYERS, widths[:-1], widths[1:], strict=True):
        shapes[layer] = (outs, ins)
    return shapes


def _operations(recipe: Recipe, towers_here: int) -> dict[str, Operation]:
    """Return what each operation of the recipe's layers does, by its name."""
    divisor = recipe.lrn_size if recipe.lrn_alpha_divided else 1
    cross_map = functools.partial(
        cross_map_norm,
        size=recipe.lrn_size,
        coefficient=recipe.lrn_alpha / divisor,
        beta=recipe.lrn_beta,
        k=recipe.lrn_k,
        groups=1 if recipe.lrn_crosses_towers else towers_here,
    )
    spatial = functools.partial(
        spatial_norm,
        size=recipe.spatial_size,
        coefficient=recipe.spatial_alpha / recipe.spatial_size**2,
        beta=recipe.spatial_beta,
        k=recipe.spatial_k,
    )
    return {
        "relu": F.relu,
        # Rounded up, which matters for the 2/2 pooling of the paper's ablation: 55 gives 28 there.
        "pool": lambda x: F.max_pool2d(x, recipe.pool_size, recipe.pool_stride, ceil_mode=True),
        "lrn": cross_map,
        "spatial": spatial,
    }


def _runs(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Cut operations into runs, of which pooling is always one by itself."""
    return [tuple(run) for _, run in itertools.groupby(names, key=lambda name: name == "pool")]


def dropout_keys(seed: int, step: int, device: torch.device, first_image: int = 0) -> dict[str, Tensor]:
    """Return what decides which units of fc6 and fc7 a training step drops; first_image: where this replica's share begins."""
    return {layer: step_keys(seed, step, layer, device, first_image) for layer in ("fc6", "fc7")}


def _grouped_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    if groups == 1 or x.device.type != "cpu" or x.dtype != torch.bfloat16:
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)
    # With AMX conv2 in bfloat16 takes 136 ms as two convolutions and 295 ms as a grouped one (128 images), without AMX as long
    # either way; in float32 the grouped one is the faster.
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), bias.chunk(groups), strict=True)
    return torch.cat([F.conv2d(*part, stride, padding) for part in parts], dim=1)


def _initial(recipe: Recipe, layer: str, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one layer's whole initial weights and biases, float32: a Gaussian and a constant, or PyTorch's own default."""
    index = LAYERS.index(layer)
    count, fan_in = math.prod(shape), math.prod(shape[1:])
    stdev, constant = recipe.init_stdevs[index], recipe.init_biases[index]
    if stdev is None:
        weight = _uniform(count, fan_in, seed, f"weights {layer}")
    else:
        weight = draws.normals(count, seed, f"weights {layer}", dtype=np.float32) * np.float32(stdev)
    bias = _uniform(shape[0], fan_in, seed, f"biases {layer}") if constant is None else np.full(shape[0], constant, np.float32)
    return weight.reshape(shape), bias


def _uniform(count: int, fan_in: int, seed: int, purpose: str) -> np.ndarray:
    """Draw from -1/sqrt(fan_in) to +1/sqrt(fan_in), as PyTorch's layers start."""
    unit = (draws.raw(count, seed, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return ((2 * unit - 1) / math.sqrt(fan_in)).astype(np.float32)
