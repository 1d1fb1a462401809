"""Pictures described by what a layer of the network hands on: descriptors for use elsewhere, and for finding similar pictures.

Legend: B images, V views, C channels, H, W stored size.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.layers import outputs, require_layer
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.views import test_views


@dataclass(frozen=True, eq=False)
class Features:
    """One picture's description.

    path: as it was given. values: float32, (units,) of an fc layer, (channels, height, width) of a layer of maps. truth: the id of
    its class where that is known, whether or not the network knows it. image: what the network saw, uint8 (H, W, 3), where it was
    asked for.
    """

    path: str
    values: NDArray[np.float32]
    truth: str | None = None
    image: NDArray[np.uint8] | None = field(default=None, repr=False)


def last_hidden(recipe: Recipe) -> str:
    """Return the layer before the scores, fc7 in the paper: by its values pictures are compared."""
    return recipe.layers[-2]


def feature_shape(recipe: Recipe, num_classes: int, layer: str) -> tuple[int, ...]:
    """Return the shape of what a layer hands on of one picture: (units,) or (channels, height, width)."""
    require_layer(recipe, layer)
    row = next(row for row in layer_table(recipe, num_classes) if row.name == layer)
    return row.pooled[:1] if layer in recipe.full else row.pooled


@torch.no_grad()
def describe(network: AlexNet, images_BHWC: Tensor, mean_CHW: Tensor, layer: str, crops: int, precision: Precision) -> Tensor:
    """Return what a layer hands on of each image, the mean over its views: float32, (B, ...).

    images_BHWC: uint8 (B, H, W, 3), RGB. mean_CHW: on the network's device, in its type. crops: 10, or 1 for the centre.
    """
    views_BVCHW = test_views(images_BHWC, mean_CHW, network.recipe, crops)
    stacked_BCHW = views_BVCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with precision.autocast(mean_CHW.device):
        found = outputs(network, stacked_BCHW, layer)
    return found.to(precision.dtype).unflatten(0, views_BVCHW.shape[:2]).mean(dim=1).to(torch.float32).contiguous()
