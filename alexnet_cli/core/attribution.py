"""Which pixels drive a unit: its value carried back to the picture by a deconvnet, by guided back-propagation, or as a gradient.

All three go the steps of `layers` backwards as gradients do: a convolution becomes its transpose, and pooling puts a value where
the largest one came from. What a ReLU lets pass tells them apart, and that a deconvnet leaves the norms out. tanh has no rule of
its own: it is passed by its gradient. Legend: B images, each with one unit at one place, C channels, H, W.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from alexnet_cli.core.layers import ADDING, Step, require_layer, steps
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.views import from_pixel_differences, pixel_differences

Place = tuple[int, ...]  # (y, x) of a unit's map, () in an fc layer
Way = Callable[[Step, Tensor], Tensor]  # an operation with a way back of its own


def deconvolve(network: AlexNet, images_BCHW: Tensor, layer: str, units: Sequence[int], places: Sequence[Place]) -> Tensor:
    """Carry units' sums back to the pixels by a deconvnet: a ReLU on the way back rectifies what comes back, whatever it let pass.

    images_BCHW: as for `forward`. units, places: one of each for each image; they start with a 1. Returns (B, 3, H, W), RGB, per
    grey level of 0-255, in the network's type. Raises AlexNetError where there is no such layer.
    Source: Zeiler and Fergus 2014, 2.1; their first version says that the way back has no contrast normalisation.
    """
    ways: dict[str, Way] = {"relu": partial(_relu, masked=False), "lrn": _straight, "spatial": _straight}
    return _carry_back(network, images_BCHW, layer, units, places, ways)


def guided(network: AlexNet, images_BCHW: Tensor, layer: str, units: Sequence[int], places: Sequence[Place]) -> Tensor:
    """Do the same by guided back-propagation: of the gradient, a ReLU passes what is positive, where it let something pass.

    Norms have their gradient. Source: Springenberg et al. 2015, 3.4; their network has no norms.
    """
    return _carry_back(network, images_BCHW, layer, units, places, {"relu": partial(_relu, masked=True)})


def gradient(network: AlexNet, images_BCHW: Tensor, layer: str, units: Sequence[int], places: Sequence[Place]) -> Tensor:
    """Return the plain gradient of units' sums by the pixels, as `deconvolve` does. Source: Simonyan et al. 2014, 3."""
    return _carry_back(network, images_BCHW, layer, units, places, {})


METHODS = {"deconvolution": deconvolve, "guided": guided, "gradient": gradient}


def _carry_back(
    network: AlexNet,
    images_BCHW: Tensor,
    layer: str,
    units: Sequence[int],
    places: Sequence[Place],
    ways: Mapping[str, Way],
) -> Tensor:
    recipe = network.recipe
    require_layer(recipe, layer)
    pixels_BCHW = pixel_differences(images_BCHW, recipe).detach().requires_grad_()
    with torch.enable_grad():
        x = from_pixel_differences(pixels_BCHW, recipe)
        for step in steps(network):
            x = ways.get(step.operation, _plain)(step, x)
            if step.layer == layer and step.operation in ADDING:
                break
        index = [torch.tensor(numbers, device=x.device) for numbers in (range(len(units)), units, *zip(*places, strict=True))]
        (result_BCHW,) = torch.autograd.grad(x[tuple(index)].sum(), pixels_BCHW)
    return result_BCHW


def _plain(step: Step, x: Tensor) -> Tensor:
    return step.run(x)


def _relu(step: Step, x: Tensor, *, masked: bool) -> Tensor:
    return _Relu.apply(x, step.run, masked)


def _straight(step: Step, x: Tensor) -> Tensor:
    return _Straight.apply(x, step.run)


class _Relu(torch.autograd.Function):
    """A ReLU that rectifies what comes back; masked: and stops it where nothing was let pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor], masked: bool) -> Tensor:
        result = run(x)
        ctx.save_for_backward(*([result] if masked else []))
        return result

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        signal = signals[0].clamp_min(0)
        for passed in ctx.saved_tensors:
            signal = signal * (passed > 0)
        return signal, None, None


class _Straight(torch.autograd.Function):
    """An operation that what comes back passes unchanged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        return run(x)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        return signals[0], None
