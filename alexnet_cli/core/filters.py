"""The kernels of the first layer as a picture, like the paper's figure 3 and the authors' `shownet.py --show-filters`."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.mosaic import draw_mosaic
from alexnet_cli.core.recipe import Recipe

DRAWABLE = ("conv1",)  # the only layer whose kernels have the three channels of a picture


def draw_filters(weights: Weights, layer: str = "conv1") -> Image.Image:
    """Draw all kernels of a layer on one scale: tower a's above tower b's, 16 in a row, black between them.

    The layer's smallest weight is black and its largest white; pixels are repeated, never blended. Channels are RGB, whatever
    the network's own order. Raises AlexNetError for a layer whose kernels are no pictures.
    Source: paper, figure 3; the scale: shownet.py's default.
    """
    layers = weights.recipe.layers
    if layer not in layers:
        raise AlexNetError(f"no layer named {layer!r}, expected one of {', '.join(layers)}", hint=f"draw {DRAWABLE[0]}")
    if layer not in DRAWABLE:
        raise AlexNetError(
            f"the kernels of {layer} cannot be drawn: they do not have the three channels of a picture",
            hint=f"layers that can be drawn: {', '.join(DRAWABLE)}",
        )
    return draw_kernels(weights.tensors[f"{layer}.weight"].numpy(), weights.recipe)


def draw_kernels(kernels_NCHW: NDArray[np.float32], recipe: Recipe) -> Image.Image:
    """Draw kernels of three channels, as `draw_filters` does, without a weights file: while a network is trained."""
    kernels_NHWC = kernels_NCHW.transpose(0, 2, 3, 1)
    if recipe.channel_order == "bgr":
        kernels_NHWC = kernels_NHWC[..., ::-1]
    return draw_mosaic([list(tower) for tower in np.split(_to_pixels(kernels_NHWC), recipe.towers)])


def _to_pixels(kernels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bring all weights together to 0-255; where all are equal there is nothing to see, and grey shows it."""
    low, high = float(kernels.min()), float(kernels.max())
    if low == high:
        return np.full(kernels.shape, 128, dtype=np.uint8)
    return np.rint((kernels.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
