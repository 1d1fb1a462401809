import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.filters import draw_filters
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original

TIMES = 6  # 16 kernels of 11 pixels and 17 gaps are 193 pixels; six times that is the first beyond 1,000


def weights_of(kernels: torch.Tensor, recipe: Recipe | None = None) -> Weights:
    """Weights of which only conv1 matters."""
    return Weights(recipe or original(), ("a",), ("a",), {"conv1.weight": kernels}, torch.zeros(3, 256, 256))


def small_picture(picture: Image.Image, times: int = TIMES) -> np.ndarray:
    """Undo the enlargement and check that it only repeated pixels."""
    pixels = np.asarray(picture)
    small = pixels[::times, ::times]
    assert np.array_equal(small.repeat(times, axis=0).repeat(times, axis=1), pixels)
    return small


def kernel_at(picture: np.ndarray, row: int, column: int, *, tower: int = 0) -> np.ndarray:
    """Cut one kernel: cells of 12 pixels after an edge of 1, and 1 pixel more between the towers' own edges."""
    top = 1 + 12 * row + tower * (3 * 12 + 2)
    left = 1 + 12 * column
    return picture[top : top + 11, left : left + 11]


def test_every_kernel_in_its_place():
    """Kernel 16 r + c of tower a is in row r, column c; tower b's 48 are below; values are scaled over the whole layer."""
    kernels = torch.randn(96, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    picture = small_picture(draw_filters(weights_of(kernels)))
    low, high = kernels.min().item(), kernels.max().item()
    for index in range(96):
        tower, (row, column) = index // 48, divmod(index % 48, 16)
        expected = np.round((kernels[index].double().numpy() - low) / (high - low) * 255).transpose(1, 2, 0)
        assert np.array_equal(kernel_at(picture, row, column, tower=tower), expected), index


def test_size_and_gaps():
    """The picture is at least 1,000 pixels wide; between kernels one pixel is black, between the towers three."""
    kernels = torch.ones(96, 3, 11, 11)
    kernels[0, 0, 0, 0] = -1
    picture = draw_filters(weights_of(kernels))
    assert picture.mode == "RGB" and picture.size == (193 * TIMES, (2 * 37 + 1) * TIMES)
    column = small_picture(picture)[:, 5, 1]  # down through the middle of the first kernels, green
    black = np.flatnonzero(column == 0).tolist()
    assert black == [0, 12, 24, 36, 37, 38, 50, 62, 74]
    row = small_picture(picture)[5, :, 1]
    assert np.flatnonzero(row == 0).tolist() == list(range(0, 193, 12))


def test_extremes_of_the_layer_are_black_and_white():
    """The smallest weight of all kernels becomes 0 and the largest 255, a weight half-way grey."""
    kernels = torch.zeros(96, 3, 11, 11)
    kernels[3, :, 2, 4] = 0.5
    kernels[60, :, 10, 0] = -0.5
    picture = small_picture(draw_filters(weights_of(kernels)))
    assert kernel_at(picture, 0, 3)[2, 4].tolist() == [255, 255, 255]
    assert kernel_at(picture, 0, 12, tower=1)[10, 0].tolist() == [0, 0, 0]
    assert kernel_at(picture, 1, 1)[5, 5].tolist() == [128, 128, 128]


@pytest.mark.parametrize(("order", "colour"), [("rgb", [255, 0, 0]), ("bgr", [0, 0, 255])])
def test_channels_are_rgb(order, colour):
    """The first channel of an RGB network is drawn red, of a BGR network blue."""
    kernels = torch.zeros(96, 3, 11, 11)
    kernels[:, 0] = 1
    recipe = dataclasses.replace(original(), channel_order=order)
    assert kernel_at(small_picture(draw_filters(weights_of(kernels, recipe))), 0, 0)[5, 5].tolist() == colour


def test_one_tower():
    """A network without towers is one block: 64 kernels in four rows."""
    recipe = Recipe(towers=1, channels=(64, 192, 384, 256, 256))
    kernels = torch.randn(64, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    assert draw_filters(weights_of(kernels, recipe)).size == (193 * TIMES, 49 * TIMES)


def test_fewer_kernels_than_a_row():
    """A tower of four kernels is one row of four, enlarged until it can be looked at."""
    recipe = Recipe(channels=(8, 16, 24, 24, 16), hidden=(32, 32))
    picture = draw_filters(weights_of(torch.randn(8, 3, 11, 11, generator=torch.Generator().manual_seed(0)), recipe))
    assert picture.size == (49 * 21, 27 * 21)


def test_equal_weights_are_grey():
    """Where all weights are equal there is no scale; the kernels are grey, not a division by zero."""
    assert kernel_at(small_picture(draw_filters(weights_of(torch.full((96, 3, 11, 11), 0.25)))), 0, 0)[0, 0].tolist() == [128] * 3


@pytest.mark.parametrize("layer", ["conv2", "conv5", "fc6", "fc8"])
def test_layer_that_cannot_be_drawn(layer):
    """Another layer's kernels are no pictures; the message says which are."""
    with pytest.raises(
        AlexNetError, match=f"the kernels of {layer} cannot be drawn: they do not have the three channels"
    ) as caught:
        draw_filters(weights_of(torch.zeros(96, 3, 11, 11)), layer)
    assert caught.value.hint == "layers that can be drawn: conv1"


def test_unknown_layer():
    """A name that is no layer is an error that lists the layers."""
    with pytest.raises(
        AlexNetError, match="no layer named 'conv9', expected one of conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8"
    ):
        draw_filters(weights_of(torch.zeros(96, 3, 11, 11)), "conv9")
