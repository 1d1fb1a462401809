"""What every operation of a network hands on, and how far two such lists are apart."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.core.model import AlexNet


def every_output(network: AlexNet, images_BCHW: Tensor) -> list[tuple[str, Tensor]]:
    """Run a test pass and return each operation's name and output, in order; dropout, which does nothing here, is left out."""
    recipe, outputs = network.recipe, []
    x = F.pad(images_BCHW, recipe.input_padding * 2)
    with torch.no_grad():
        for index, layer in enumerate(recipe.maps):
            held = getattr(network, layer)
            stride, padding, groups = recipe.strides[index], recipe.paddings[index], recipe.groups(layer)
            x = F.conv2d(x, held.weight, held.bias, stride, padding, groups=groups)
            outputs.append((layer, x))
            for name in recipe.operations(layer):
                x = network._pool(layer, x) if name == "pool" else network._in_turn((name,), x)
                outputs.append((f"{name} of {layer}", x))
        x = x.flatten(1)
        for layer in recipe.full[:-1]:
            x = F.linear(x, *network._held(layer))
            outputs.append((layer, x))
            x = network._operations[recipe.activation](x)
            outputs.append((f"activation of {layer}", x))
        outputs.append((recipe.full[-1], F.linear(x, *network._held(recipe.full[-1]))))
        torch.testing.assert_close(outputs[-1][1], network(images_BCHW))  # the list is the network itself
    return outputs


def largest_difference(ours: Sequence[tuple[str, Tensor]], theirs: Sequence[Tensor]) -> dict[str, float]:
    """Return, by name, the largest difference of a layer's values over its largest value."""
    assert len(ours) == len(theirs)
    for (_, value), other in zip(ours, theirs, strict=True):
        assert value.shape == other.shape
    return {
        name: ((value - other).abs().max() / other.abs().max()).item() for (name, value), other in zip(ours, theirs, strict=True)
    }
