"""The network as a table: what each layer reads and makes, what it costs, and what crosses between the towers (stdlib only).

It is computed from the recipe by the formulas of the layers, without building anything.
"""

import math
from dataclasses import dataclass

from alexnet_cli.core.recipe import CONV_LAYERS, FC_LAYERS, KERNELS, PADDINGS, STRIDES, Recipe

POOLED = {"conv1": "layer1", "conv2": "layer2", "conv5": "layer5"}  # the recipe's field of what these layers do


@dataclass(frozen=True)
class LayerRow:
    """One layer, both towers together.

    operations: in order, such as ("conv", "lrn", "pool", "relu"). output: (channels, height, width) of the convolution or the
    units of an fc layer; pooled: what the layer hands on. kernel, stride: 0 where the layer has none; padding: zeros before
    and after each side. inputs: channels (fc: values) that one output unit reads. multiply_adds: per image. crossing: floats
    per image that one tower sends to the other before this layer, above 0 where a layer reads both towers;
    crosses_back: whether the other sends as many (fc8 is on the first tower's device alone).
    """

    name: str
    operations: tuple[str, ...]
    output: tuple[int, int, int]
    pooled: tuple[int, int, int]
    kernel: int = 0
    stride: int = 0
    padding: tuple[int, int] = (0, 0)
    inputs: int = 0
    parameters: int = 0
    multiply_adds: int = 0
    crossing: int = 0
    crosses_back: bool = False


def layer_table(recipe: Recipe, num_classes: int) -> tuple[LayerRow, ...]:
    """Return the network's rows from the input to fc8.

    The totals of net #145 with 1,000 classes are 60,965,224 parameters and 724,406,816 multiply-adds per image.
    """
    size = recipe.input_size
    rows = [LayerRow("input", (), (3, size, size), (3, size, size))]
    for layer, channels in zip(CONV_LAYERS, recipe.channels, strict=True):
        rows.append(_conv_row(recipe, layer, channels, rows[-1].pooled))
    for layer, units in zip(FC_LAYERS, (*recipe.hidden, num_classes), strict=True):
        rows.append(_fc_row(recipe, layer, units, rows[-1].pooled))
    return tuple(rows)


def _conv_row(recipe: Recipe, layer: str, channels: int, read: tuple[int, int, int]) -> LayerRow:
    kernel, stride = KERNELS[layer], STRIDES[layer]
    around = recipe.input_padding if layer == "conv1" else (0, 0)
    padding = (PADDINGS[layer] + around[0], PADDINGS[layer] + around[1])
    size = (read[1] + sum(padding) - kernel) // stride + 1
    operations = getattr(recipe, POOLED[layer]) if layer in POOLED else ("conv", "relu")
    pooled = pooled_size(size, recipe.pool_size, recipe.pool_stride) if "pool" in operations else size
    inputs = read[0] // recipe.groups(layer)
    weights = channels * inputs * kernel * kernel
    crossing = _crossing(recipe, layer, read)
    return LayerRow(
        layer,
        operations,
        kernel=kernel,
        stride=stride,
        padding=padding,
        inputs=inputs,
        output=(channels, size, size),
        pooled=(channels, pooled, pooled),
        parameters=weights + channels,
        multiply_adds=weights * size * size,
        crossing=crossing,
        crosses_back=crossing > 0,
    )


def _fc_row(recipe: Recipe, layer: str, units: int, read: tuple[int, int, int]) -> LayerRow:
    inputs = math.prod(read)
    crossing = _crossing(recipe, layer, read)
    dropped = ("dropout", "fc", "relu") if recipe.dropout_before else ("fc", "relu", "dropout")
    return LayerRow(
        layer,
        ("fc",) if layer == "fc8" else dropped,
        inputs=inputs,
        output=(units, 1, 1),
        pooled=(units, 1, 1),
        parameters=inputs * units + units,
        multiply_adds=inputs * units,
        crossing=crossing,
        crosses_back=crossing > 0 and layer != "fc8",
    )


def _crossing(recipe: Recipe, layer: str, read: tuple[int, int, int]) -> int:
    """Return how many floats one tower's half of what the layer reads has, if the other tower reads it too."""
    return math.prod(read) // 2 if recipe.towers == 2 and layer in recipe.reads_both_towers else 0


def pooled_size(size: int, window: int, stride: int) -> int:
    """Return the side of what pooling makes: rounded up, but no window may begin beyond the edge (the 2012 code, and PyTorch)."""
    count = -(-(size - window) // stride) + 1
    return count - 1 if (count - 1) * stride >= size else count
