"""The network's test pass laid open: each operation by itself, what a layer's units add up, what they hand on, and what they see.

Whatever looks inside a trained network begins here; gradients flow through all of it. Legend: B batch, C channels, H, W, U units.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe

ADDING = ("conv", "local", "fc")  # operations that add up weighted inputs; each layer begins with one


@dataclass(frozen=True)
class Step:
    """One operation of a layer: "pad", "conv", "local", "lrn", "spatial", "pool", "relu", "tanh", "flatten", "fc" or "dropout"."""

    layer: str
    operation: str
    run: Callable[[Tensor], Tensor]


def require_layer(recipe: Recipe, layer: str) -> None:
    """Raise AlexNetError where a network has no layer of this name."""
    if layer not in recipe.layers:
        raise AlexNetError(
            f"no layer named {layer!r} in a network of recipe {recipe.name}",
            hint=f"its layers are {', '.join(recipe.layers)}",
        )


def require_finite(values: Tensor, layer: str) -> None:
    """Raise AlexNetError where what units of a layer add up or hand on is no finite number: finite weights can still overflow."""
    if not values.isfinite().all():
        raise AlexNetError(
            f"what units of {layer} make of a picture is not finite",
            hint="weights this large come of a training that diverged; --precision fp64 has room for larger numbers",
        )


def steps(network: AlexNet) -> Iterator[Step]:
    """Yield a test pass operation by operation, from the network's input to the logits; one after the other they are `forward`.

    The network is on one device. Dropout is what it is in a test: a factor, or nothing.
    """
    recipe = network.recipe
    yield Step(recipe.layers[0], "pad", partial(F.pad, pad=recipe.input_padding * 2))
    for layer in recipe.maps:
        yield Step(layer, "local" if layer in recipe.local else "conv", partial(network.add_up, layer))
        for operation in recipe.operations(layer):
            yield Step(layer, operation, partial(network.operate, layer, operation))
    yield Step(recipe.full[0], "flatten", _flatten)
    for layer in recipe.full[:-1]:
        drop = Step(layer, "dropout", network.drop_in_test)
        yield from [drop] if recipe.dropout_before else []
        yield Step(layer, "fc", partial(network.add_up, layer))
        yield Step(layer, recipe.activation, partial(network.operate, layer, recipe.activation))
        yield from [] if recipe.dropout_before else [drop]
    yield Step(recipe.full[-1], "fc", partial(network.add_up, recipe.full[-1]))


def sums(network: AlexNet, images_BCHW: Tensor, layer: str) -> Tensor:
    """Return what a layer's units add up, before what follows: its convolution or product, and its bias.

    images_BCHW: as for `forward`; of layers of maps any size that is large enough. Returns (B, C, H, W), of an fc layer (B, U).
    Raises AlexNetError where there is no such layer.
    """
    require_layer(network.recipe, layer)
    x = images_BCHW
    for step in steps(network):
        x = step.run(x)
        if step.layer == layer and step.operation in ADDING:
            break
    return x


def outputs(network: AlexNet, images_BCHW: Tensor, layer: str) -> Tensor:
    """Return what a layer hands on to the next, after its activation, norms and pooling; of the last one the logits.

    Otherwise as `sums`.
    """
    require_layer(network.recipe, layer)
    x = images_BCHW
    last = network.recipe.layers.index(layer)
    for step in steps(network):
        if network.recipe.layers.index(step.layer) > last:
            break
        x = step.run(x)
    return x


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels a unit of a layer of maps adds up: the unit in row y sees the rows from start + stride * y on, `size` of them.

    Pixels of the network's input; the same along x. It begins and ends beyond the picture where the layers before are padded.
    """

    size: int
    stride: int
    start: int

    def rows(self, y: int) -> range:
        """Return the rows (or columns) that the unit in row (column) y sees, those beyond the picture too."""
        return range(self.start + self.stride * y, self.start + self.stride * y + self.size)


def receptive_field(recipe: Recipe, layer: str) -> ReceptiveField:
    """Return the receptive field of a layer of maps; the norms, which only scale, are left out of account.

    Net #145: 11, 51, 99, 131 and 163 pixels, 4, 8, 16, 16 and 16 apart.
    """
    size, stride, start = 1, 1, -recipe.input_padding[0]
    for index, name in enumerate(recipe.maps):
        start -= recipe.paddings[index] * stride
        size += (recipe.kernels[index] - 1) * stride
        stride *= recipe.strides[index]
        if name == layer:
            break
        if "pool" in recipe.operations(name):
            size += (recipe.pool_size - 1) * stride
            stride *= recipe.pool_stride
    return ReceptiveField(size, stride, start)


def _flatten(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.flatten(1)
