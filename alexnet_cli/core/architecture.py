"""The network as a table: what each layer reads and makes, what it costs, and what crosses between the towers (stdlib only).

It is computed from the recipe by the formulas of the layers, without building anything.
"""

import math
from dataclasses import dataclass

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.recipe import Recipe


@dataclass(frozen=True)
class LayerRow:
    """One layer, both towers together.

    operations: in order, such as ("conv", "lrn", "pool", "relu"). output: (channels, height, width) of the convolution, or
    local layer, or the units of an fc layer; pooled: what the layer hands on. kernel, stride: 0 where the layer has none;
    padding: zeros before and after each side. inputs: channels (fc: values) that one output unit reads. multiply_adds: per
    image. crossing: floats per image that one tower sends to the other before this layer, above 0 where a layer reads both
    towers; crosses_back: whether the other sends as many (fc8 is on the first tower's device alone).
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
    """Return the network's rows from the input to the scores.

    The totals of net #145 with 1,000 classes are 60,965,224 parameters and 724,406,816 multiply-adds per image. Raises
    RecipeError when a layer's kernel or pooling is larger than what it reads.
    """
    size = recipe.input_size
    rows = [LayerRow("input", (), (3, size, size), (3, size, size))]
    for layer in recipe.maps:
        rows.append(_map_row(recipe, layer, rows[-1].pooled))
    for layer, units in zip(recipe.full, (*recipe.hidden, num_classes), strict=True):
        rows.append(_fc_row(recipe, layer, units, rows[-1].pooled))
    return tuple(rows)


def parameter_shapes(recipe: Recipe, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of the one-device network by its name, conv1.weight to fc8.bias.

    Weights are (out, in per group, k, k), of a local layer (out, in, k, k, H, W), of an fc layer (out, in); biases (out,), of
    a local layer (out, H, W).
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for row in layer_table(recipe, num_classes)[1:]:
        places = row.output[1:] if row.name in recipe.local else ()
        kernel = (row.kernel, row.kernel) if row.kernel else ()
        shapes[f"{row.name}.weight"] = (row.output[0], row.inputs, *kernel, *places)
        shapes[f"{row.name}.bias"] = (row.output[0], *places)
    return shapes


def _map_row(recipe: Recipe, layer: str, read: tuple[int, int, int]) -> LayerRow:
    index = recipe.maps.index(layer)
    channels, kernel, stride = recipe.channels[index], recipe.kernels[index], recipe.strides[index]
    around = recipe.input_padding if index == 0 else (0, 0)
    padding = (recipe.paddings[index] + around[0], recipe.paddings[index] + around[1])
    size = (read[1] + sum(padding) - kernel) // stride + 1
    kind = "local" if layer in recipe.local else "conv"
    operations = (kind, *recipe.operations(layer))
    smallest = recipe.pool_size if "pool" in operations else 1
    if size < smallest:
        raise RecipeError(
            f"{layer} makes maps of {max(size, 0)} pixels, expected {smallest} or more: the picture is too small",
            hint="use a larger input_size, or smaller kernels, strides or pooling",
        )
    rounds_up = layer not in recipe.pools_rounded_down
    pooled = pooled_size(size, recipe.pool_size, recipe.pool_stride, rounds_up=rounds_up) if "pool" in operations else size
    inputs = read[0] // recipe.groups(layer)
    weights = channels * inputs * kernel * kernel
    places = size * size if kind == "local" else 1
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
        parameters=(weights + channels) * places,
        multiply_adds=weights * size * size,
        crossing=crossing,
        crosses_back=crossing > 0,
    )


def _fc_row(recipe: Recipe, layer: str, units: int, read: tuple[int, int, int]) -> LayerRow:
    inputs = math.prod(read)
    crossing = _crossing(recipe, layer, read)
    work = ("fc", recipe.activation)
    dropped = work if recipe.dropout == 0 else ("dropout", *work) if recipe.dropout_before else (*work, "dropout")
    return LayerRow(
        layer,
        ("fc",) if layer == recipe.full[-1] else dropped,
        inputs=inputs,
        output=(units, 1, 1),
        pooled=(units, 1, 1),
        parameters=inputs * units + units,
        multiply_adds=inputs * units,
        crossing=crossing,
        crosses_back=crossing > 0 and layer != recipe.full[-1],
    )


def _crossing(recipe: Recipe, layer: str, read: tuple[int, int, int]) -> int:
    """Return how many floats one tower's half of what the layer reads has, if the other tower reads it too."""
    return math.prod(read) // 2 if recipe.towers == 2 and layer in recipe.reads_both_towers else 0


def pooled_size(size: int, window: int, stride: int, *, rounds_up: bool = True) -> int:
    """Return the side of what pooling makes: rounded up, but no window may begin beyond the edge (the 2012 code, and PyTorch)."""
    if not rounds_up:
        return (size - window) // stride + 1
    count = -(-(size - window) // stride) + 1
    return count - 1 if (count - 1) * stride >= size else count
