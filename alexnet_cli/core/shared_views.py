"""The first layer's sums of all views of a test, computed once where views see the same pixels.

Ten views of 224 pixels cover a picture of 256 seven times over. They begin a whole number of strides apart, so that away from their
edges the first convolution adds up the same pixels for several of them; its mean is subtracted afterwards, as it is linear.
Legend: B images, V views, C channels, H, W stored size, S input size, N side of the first layer's map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.views import centre_mean, from_pixel_differences, num_views, test_corners


def can_share(recipe: Recipe, crops: int) -> bool:
    """Say whether the views of a test can share the first layer's sums.

    They do with ten crops whose places are whole strides, of which one mean is removed wherever they lie, and with no zeros before
    the first pixel; Caffe's 227 pixels, for example, begin 14 and 29 pixels apart.
    """
    places = {place for corner in test_corners(recipe, crops) for place in corner}
    return (
        crops == 10
        and recipe.maps[0] not in recipe.local
        and recipe.input_padding[0] + recipe.paddings[0] == 0
        and (recipe.mean == "channel" or recipe.mean_crop == "centre")
        and all(place % recipe.strides[0] == 0 for place in places)
    )


@torch.no_grad()
def first_sums(network: AlexNet, images_BHWC: Tensor, mean_CHW: Tensor, recipe: Recipe) -> Tensor:
    """Return the first layer's sums of all views: those of `test_views` through the first convolution, up to rounding.

    images_BHWC, mean_CHW: as for `test_views`. Returns (B * V, C, N, N), channels last: of each image its views in their order.
    """
    stride, size = recipe.strides[0], recipe.input_size
    mean_1CSS = centre_mean(mean_CHW, recipe).expand(1, 3, size, size)
    colour_1C11 = mean_1CSS.mean(dim=(2, 3), keepdim=True)  # removed before, so that sums in bf16 are not those of bright pixels
    mean_1CSS = from_pixel_differences(mean_1CSS - colour_1C11, recipe)
    of_mean_NNC = _sums(network, recipe, mean_1CSS, bias=False)[0]
    inner = len(of_mean_NNC)  # places whose window ends inside the view
    plain_BCHW = from_pixel_differences(images_BHWC.permute(0, 3, 1, 2).to(mean_CHW) - colour_1C11, recipe)
    both_BCHW = [plain_BCHW, plain_BCHW.flip(3)] if recipe.mirror else [plain_BCHW]
    shared_BNNC = [_sums(network, recipe, pictures_BCHW) for pictures_BCHW in both_BCHW]
    sums_BVNNC = _empty(shared_BNNC[0], recipe)
    views = []
    for view, (mirrored, y, x) in enumerate(_places(recipe)):
        seen_BNNC = shared_BNNC[mirrored][:, y // stride :, x // stride :][:, :inner, :inner]
        torch.sub(seen_BNNC, of_mean_NNC, out=sums_BVNNC[:, view, :inner, :inner])
        views.append(both_BCHW[mirrored][:, :, y : y + size, x : x + size])
    if sums_BVNNC.shape[2] > inner:
        _add_edges(network, recipe, sums_BVNNC, views, mean_1CSS, inner)
    return sums_BVNNC.flatten(0, 1).permute(0, 3, 1, 2)


def _places(recipe: Recipe) -> list[tuple[int, int, int]]:
    """Return of each view whether it is mirrored, and where it begins in the picture or its mirror image, (y, x)."""
    far, corners = recipe.stored_size - recipe.input_size, test_corners(recipe, 10)
    mirrored = [(1, y, far - x) for y, x in corners] if recipe.mirror else []
    return [*((0, y, x) for y, x in corners), *mirrored]


def _sums(network: AlexNet, recipe: Recipe, x_BCHW: Tensor, *, bias: bool = True) -> Tensor:
    weight, own_bias = network._held(recipe.maps[0])
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x_BCHW, weight, own_bias if bias else None, recipe.strides[0]).permute(0, 2, 3, 1)


def _empty(shared_BNNC: Tensor, recipe: Recipe) -> Tensor:
    side = (recipe.input_size + recipe.input_padding[1] + recipe.paddings[0] - recipe.kernels[0]) // recipe.strides[0] + 1
    images, channels = len(shared_BNNC), shared_BNNC.shape[-1]
    return shared_BNNC.new_empty(images, num_views(recipe, 10), side, side, channels)


def _add_edges(network: AlexNet, recipe: Recipe, sums_BVNNC: Tensor, views: list[Tensor], mean_1CSS: Tensor, inner: int) -> None:
    """Add the last rows and columns, whose windows end on the zeros behind each view: no two views have them alike.

    views: without the colour alone, (B, C, S, S). mean_1CSS: what is still to be removed. inner: the first of these rows.
    """
    begin, zeros = inner * recipe.strides[0], (0, recipe.input_padding[1] + recipe.paddings[0]) * 2
    right = torch.stack([F.pad(view[..., begin:] - mean_1CSS[..., begin:], zeros) for view in views], dim=1)
    below = torch.stack([F.pad(view[..., begin:, :] - mean_1CSS[..., begin:, :], zeros) for view in views], dim=1)
    sums_BVNNC[:, :, :, inner:] = _sums(network, recipe, right.flatten(0, 1)).unflatten(0, right.shape[:2])
    sums_BVNNC[:, :, inner:] = _sums(network, recipe, below.flatten(0, 1)).unflatten(0, below.shape[:2])
