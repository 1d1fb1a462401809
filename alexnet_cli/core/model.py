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
from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.dropout import kept_units, step_keys
from alexnet_cli.core.local import local_conv
from alexnet_cli.core.lrn import cross_map_norm, spatial_norm
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.towers import ONE_DEVICE, Layout

Operation = Callable[[Tensor], Tensor]

LEAST_IN_CACHE, MOST_IN_CACHE = 6, 16  # images; of fewer the calls cost more than the cache saves


class Weighted(nn.Module):
    """Weights and bias of one layer, as far as they are held here."""

    def __init__(self, weight_shape: tuple[int, ...], bias_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = nn.Parameter(torch.empty(bias_shape))


class AlexNet(nn.Module):
    """The paper's network: five convolutional and three fully connected layers in two towers, or what the recipe says.

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
        # By whether gradients are wanted, and by the operations that are fused.
        self._fused: dict[bool, dict[tuple[str, ...], Callable[[tuple[str, ...], Tensor], Tensor]]] = {True: {}, False: {}}
        shapes = parameter_shapes(recipe, num_classes)
        for layer in recipe.layers:
            weight, bias = shapes[f"{layer}.weight"], shapes[f"{layer}.bias"]
            held = layout.rows(layer, weight[0])
            if (count := held.stop - held.start) > 0:
                setattr(self, layer, Weighted((count, *weight[1:]), (count, *bias[1:])))
        if seed is not None:
            self.draw_weights(seed)

    def forward(self, images_BCHW: Tensor, dropout_keys: dict[str, Tensor] | None = None) -> Tensor:
        """Score images.

        images_BCHW: the recipe's input size, mean removed. dropout_keys: those of a training step, from `dropout_keys`; None
        for a test pass. Returns logits_BK; with tower b alone a zero that stands for them, on which backward is to be called.
        """
        first = self.recipe.maps[0]
        return self.go_on(self.add_up(first, F.pad(images_BCHW, self.recipe.input_padding * 2)), dropout_keys)

    def go_on(self, sums_BCHW: Tensor, dropout_keys: dict[str, Tensor] | None = None) -> Tensor:
        """Score images of which the first layer's sums are known; otherwise as `forward`."""
        recipe = self.recipe
        x = self._follow(recipe.maps[0], sums_BCHW)
        for layer in recipe.maps[1:]:  # conv2 to conv5
            x = self._maps(layer, x)
        x = x.flatten(1)  # channel, y, x; the towers a, b
        for layer in recipe.full[:-1]:  # fc6, fc7
            x = self._hidden(layer, x, dropout_keys)
        x = self.layout.join_on_first(x)
        return self.add_up(recipe.full[-1], x) if self.layout.scores else x

    def _maps(self, layer: str, x: Tensor) -> Tensor:
        """Convolve, or what a local layer does instead, and apply what follows."""
        if layer in self.recipe.reads_both_towers:
            x = self.layout.join(x)
        return self._follow(layer, self.add_up(layer, x))

    def add_up(self, layer: str, x: Tensor) -> Tensor:
        """Return what a layer's units held here add up of what it reads: convolution, local kernels or product, and bias."""
        recipe = self.recipe
        if layer in recipe.full:
            return F.linear(x, *self._held(layer))
        index = recipe.maps.index(layer)
        stride, padding = recipe.strides[index], recipe.paddings[index]
        if layer in recipe.local:
            return local_conv(x, *self._held(layer), stride, padding)
        groups = max(1, recipe.groups(layer) // self.layout.towers)
        return _grouped_conv(x, *self._held(layer), stride, padding, groups)

    def operate(self, layer: str, operation: str, x: Tensor) -> Tensor:
        """Apply one operation of those that follow a layer, by its name: "relu", "lrn", "spatial", "pool"."""
        return self._pool(layer, x) if operation == "pool" else self._operations[operation](x)

    def _held(self, layer: str) -> tuple[Tensor, Tensor]:
        held: Weighted = getattr(self, layer)
        return held.weight, held.bias

    def _follow(self, layer: str, x: Tensor) -> Tensor:
        """Apply what follows a convolution up to the next one: normalisations, pooling and ReLU in the recipe's order."""
        runs = _runs(self.recipe.operations(layer))
        fused = self._fused[torch.is_grad_enabled()]

        def follow(part: Tensor) -> Tensor:
            for run in runs:
                part = self._pool(layer, part) if run == ("pool",) else fused.get(run, self._in_turn)(run, part)
            return part

        if x.device.type == "cpu" and not torch.is_grad_enabled() and any(run in fused for run in runs):
            return torch.cat([follow(part) for part in x.split(_images_at_a_time(len(x)))])
        return follow(x)

    def _pool(self, layer: str, x: Tensor) -> Tensor:
        # Rounded up, which matters for the 2/2 pooling of the paper's ablation: 55 gives 28 there.
        rounds_up = layer not in self.recipe.pools_rounded_down
        return F.max_pool2d(x, self.recipe.pool_size, self.recipe.pool_stride, ceil_mode=rounds_up)

    def _in_turn(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = self._operations[name](x)
        return x

    def compile_normalisation(self, *, tests: bool = False) -> None:
        """Fuse each response normalisation with its neighbours by torch.compile, for inputs of constant shape.

        tests: for passes without gradients, which are compiled by themselves: it takes longer than a small test saves.
        Convolutions and pooling stay the library's own: compiled, pooling takes three times as long on a processor.
        """
        for layer in self.recipe.maps:
            for run in _runs(self.recipe.operations(layer)):
                if {"lrn", "spatial"} & set(run):
                    self._fused[not tests][run] = torch.compile(self._in_turn, dynamic=False)

    def _hidden(self, layer: str, x: Tensor, dropout_keys: dict[str, Tensor] | None) -> Tensor:
        x = self.layout.join(x)
        activation = self._operations[self.recipe.activation]
        if self.recipe.dropout_before:
            return activation(self.add_up(layer, self._drop(layer, x, dropout_keys, whole=True)))
        return self._drop(layer, activation(self.add_up(layer, x)), dropout_keys, whole=False)

    def _drop(self, layer: str, x: Tensor, dropout_keys: dict[str, Tensor] | None, *, whole: bool) -> Tensor:
        """Drop units: multiplied by 0 or 1 in training and by the share of kept ones in a test, or inverted (paper 4.2)."""
        rate = self.recipe.dropout
        if rate == 0:
            return x
        if dropout_keys is None:
            return self.drop_in_test(x)
        first = 0 if whole or not self.layout.split else self.layout.tower_index * x.shape[1]
        x = x * kept_units(dropout_keys[layer], x.shape[0], first, x.shape[1], rate)
        return x / (1 - rate) if self.recipe.dropout_inverted else x

    def drop_in_test(self, x: Tensor) -> Tensor:
        """Do what stands for dropout in a test: multiply by the share of kept units, or nothing (paper 4.2)."""
        return x if self.recipe.dropout_inverted or self.recipe.dropout == 0 else x * (1 - self.recipe.dropout)

    def draw_weights(self, seed: int) -> None:
        """Draw the initial weights and set the biases (paper 5); each layer is drawn whole, so every layout has the same."""
        shapes = parameter_shapes(self.recipe, self.num_classes)
        for layer in self.recipe.layers:
            if not hasattr(self, layer):
                continue  # the last one, with tower b
            rows = self.layout.rows(layer, shapes[f"{layer}.weight"][0])
            weight, bias = _initial(self.recipe, layer, shapes, seed)
            held: Weighted = getattr(self, layer)
            with torch.no_grad():
                held.weight.copy_(torch.from_numpy(weight[rows]))
                held.bias.copy_(torch.from_numpy(bias[rows]))


def _operations(recipe: Recipe, towers_here: int) -> dict[str, Operation]:
    """Return what each operation of the recipe's layers but pooling does, by its name."""
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
        "tanh": torch.tanh,
        "lrn": cross_map,
        "spatial": spatial,
    }


def _runs(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Cut operations into runs, of which pooling is always one by itself."""
    return [tuple(run) for _, run in itertools.groupby(names, key=lambda name: name == "pool")]


def dropout_keys(recipe: Recipe, seed: int, step: int, device: torch.device, first_image: int = 0) -> dict[str, Tensor]:
    """Return what decides which hidden units a training step drops; first_image: where this replica's share begins."""
    return {layer: step_keys(seed, step, layer, device, first_image) for layer in recipe.full[:-1]}


def _images_at_a_time(count: int) -> int:
    """Return how many of a batch's images to normalise and pool at a time, so that they stay in a processor's cache.

    A few megabytes, of full width: 36 instead of 62 ms for what follows conv1 of 120 images. All parts are of one size, for
    which alone the code is compiled.
    """
    divisors = [number for number in range(MOST_IN_CACHE, LEAST_IN_CACHE - 1, -1) if count % number == 0]
    return divisors[0] if divisors else max(1, count)


def _grouped_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    if groups == 1 or x.device.type != "cpu" or x.dtype != torch.bfloat16:
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)
    # With AMX conv2 in bfloat16 takes 136 ms as two convolutions and 295 ms as a grouped one (128 images), without AMX as long
    # either way; in float32 the grouped one is the faster.
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), bias.chunk(groups), strict=True)
    return torch.cat([F.conv2d(*part, stride, padding) for part in parts], dim=1)


def _initial(recipe: Recipe, layer: str, shapes: dict[str, tuple[int, ...]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one layer's whole initial weights and biases, float32: a Gaussian and a constant, or PyTorch's own default."""
    index = recipe.layers.index(layer)
    shape, bias_shape = shapes[f"{layer}.weight"], shapes[f"{layer}.bias"]
    count, fan_in = math.prod(shape), math.prod(shape[1:4])  # of one place, in a local layer
    stdev, constant = recipe.init_stdevs[index], recipe.init_biases[index]
    if stdev is None:
        weight = _uniform(count, fan_in, seed, f"weights {layer}")
    else:
        weight = draws.normals(count, seed, f"weights {layer}", dtype=np.float32) * np.float32(stdev)
    if constant is None:
        bias = _uniform(math.prod(bias_shape), fan_in, seed, f"biases {layer}")
    else:
        bias = np.full(math.prod(bias_shape), constant, np.float32)
    return weight.reshape(shape), bias.reshape(bias_shape)


def _uniform(count: int, fan_in: int, seed: int, purpose: str) -> np.ndarray:
    """Draw from -1/sqrt(fan_in) to +1/sqrt(fan_in), as PyTorch's layers start."""
    unit = (draws.raw(count, seed, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return ((2 * unit - 1) / math.sqrt(fan_in)).astype(np.float32)
