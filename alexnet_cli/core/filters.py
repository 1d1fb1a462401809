"""The kernels of the first layer as a picture, like the paper's figure 3 and the authors' `shownet.py --show-filters`."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.recipe import Recipe

KERNELS_PER_ROW = 16  # figure 3: three rows for each tower
GAP = 1  # pixel between kernels, before the enlargement
TOWER_GAP = 3  # pixels between the towers, likewise
LEAST_WIDTH = 1000  # pixels of the picture, which a screen shows whole
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
    towers = np.split(_to_pixels(kernels_NHWC), recipe.towers)
    return _enlarged(_stacked([_mosaic(tower) for tower in towers]))


def _to_pixels(kernels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bring all weights together to 0-255; where all are equal there is nothing to see, and grey shows it."""
    low, high = float(kernels.min()), float(kernels.max())
    if low == high:
        return np.full(kernels.shape, 128, dtype=np.uint8)
    return np.rint((kernels.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def _mosaic(kernels_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay kernels in rows of 16 with a black pixel around each."""
    count, side = kernels_NHWC.shape[:2]
    columns = min(KERNELS_PER_ROW, count)
    cell = side + GAP
    picture = np.zeros((math.ceil(count / columns) * cell + GAP, columns * cell + GAP, 3), dtype=np.uint8)
    for index, kernel in enumerate(kernels_NHWC):
        top, left = (GAP + place * cell for place in divmod(index, columns))
        picture[top : top + side, left : left + side] = kernel
    return picture


def _stacked(mosaics: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap = np.zeros((TOWER_GAP - 2 * GAP, mosaics[0].shape[1], 3), dtype=np.uint8)  # each mosaic has its own black edge
    parts = [part for mosaic in mosaics for part in (gap, mosaic)]
    return np.concatenate(parts[1:])


def _enlarged(picture: NDArray[np.uint8]) -> Image.Image:
    times = math.ceil(LEAST_WIDTH / picture.shape[1])
    return Image.fromarray(picture.repeat(times, axis=0).repeat(times, axis=1))
