import dataclasses
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.filters import FilterOptions, choose_filters, draw, draw_filters
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original, tiny
from tests.networks import narrow

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


# The first layer's options -----------------------------------------------------------------------------------------------------


def test_each_kernel_on_its_own_scale():
    """With normalize filter a kernel a hundred times as strong looks like the weak one; a flat one is the grey of zero."""
    kernels = torch.randn(96, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    kernels[1] = 100 * kernels[0] + 5
    kernels[2] = 0.1
    picture = small_picture(draw_filters(weights_of(kernels), options=FilterOptions(normalize="filter")))
    scaled = np.stack([stats.zscore(kernel.double().numpy(), axis=None) for kernel in kernels if kernel.std() > 0.01])
    expected = np.round((scaled - scaled.min()) / (scaled.max() - scaled.min()) * 255).transpose(0, 2, 3, 1)
    assert np.abs(kernel_at(picture, 0, 0).astype(int) - kernel_at(picture, 0, 1)).max() <= 1
    assert np.abs(kernel_at(picture, 0, 0) - expected[0]).max() <= 1
    assert np.abs(kernel_at(picture, 2, 15, tower=1) - expected[-1]).max() <= 1
    assert np.ptp(kernel_at(picture, 0, 2)) == 0
    assert kernel_at(picture, 0, 2)[0, 0, 0] == round(-scaled.min() / (scaled.max() - scaled.min()) * 255)


def test_chosen_units_keep_the_layers_scale():
    """Of units that are asked for, each tower's are in its own rows, in the order given, as light and dark as among all."""
    kernels = torch.randn(96, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    whole = small_picture(draw_filters(weights_of(kernels)))
    picture = draw_filters(weights_of(kernels), "conv1", [60, 17, 3], FilterOptions(scale=2))
    assert picture.size == (2 * 25, 2 * (13 + 1 + 13))
    part = small_picture(picture, 2)
    assert np.array_equal(part[1:12, 1:12], kernel_at(whole, 1, 1))
    assert np.array_equal(part[1:12, 13:24], kernel_at(whole, 0, 3))
    assert np.array_equal(part[15:26, 1:12], kernel_at(whole, 0, 12, tower=1))


def gabor(orientation: float, frequency: float, colour: tuple[float, float, float] = (1, 1, 1)) -> torch.Tensor:
    """Return stripes, degrees from the horizontal and cycles per pixel, under a Gaussian: (3, 11, 11)."""
    y, x = torch.meshgrid(torch.arange(5.0, -6, -1), torch.arange(-5.0, 6), indexing="ij")
    across = math.radians(orientation + 90)
    wave = torch.cos(2 * math.pi * frequency * (x * math.cos(across) + y * math.sin(across)))
    return torch.tensor(colour)[:, None, None] * wave * torch.exp(-(x**2 + y**2) / 18)


def test_orders():
    """By orientation: groups of angles, coarse stripes first, blobs last. By hue: from red on, what is grey last. In each tower."""
    red, green, blue = (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)
    tower = [gabor(90, 0.3), gabor(0, 0), gabor(45, 0.2, blue), gabor(92, 0.15, green), gabor(2, 0.3), gabor(178, 0.2, red)]
    recipe = narrow(channels=(12, 16, 24, 24, 16))
    kernels = torch.stack([*tower, *reversed(tower)])

    def order(name):
        return choose_filters(weights_of(kernels, recipe), "conv1", None, FilterOptions(order=name)).chosen

    assert order("stored") == list(range(12))
    assert order("orientation") == [5, 4, 2, 3, 0, 1, 6, 7, 9, 8, 11, 10]
    assert order("hue") == [5, 3, 2, 4, 0, 1, 6, 8, 9, 7, 11, 10]


def test_figures_of_a_kernel():
    """The smallest and largest weight, the norm, and what is measured, by numbers that are known; towers are told."""
    kernels = torch.zeros(96, 3, 11, 11)
    kernels[50] = 2 * gabor(30, 0.25, (1, 0.5, 0))
    kernels[50, 2, 0, 0] = -7
    kernels[3, 0] = 3
    grey, found = choose_filters(weights_of(kernels), "conv1", [3, 50]).to_dicts()
    assert (grey["unit"], grey["tower"], grey["min"], grey["max"]) == (3, "a", 0, 3)
    assert grey["norm"] == pytest.approx(3 * 11) and (grey["orientation"], grey["frequency"], grey["hue"]) == (None, None, 0)
    assert (found["unit"], found["tower"], found["min"], found["max"]) == (50, "b", -7, pytest.approx(2))
    assert json.loads(json.dumps(found)) == found


def test_labels_name_units_and_towers():
    """A labelled picture is higher by the letters and has the same kernels; without labels there is not one letter."""
    kernels = torch.randn(96, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    plain = draw_filters(weights_of(kernels))
    labelled = draw_filters(weights_of(kernels), options=FilterOptions(labels=True))
    assert labelled.size[0] == plain.size[0] and labelled.size[1] > plain.size[1] + 8 * 10
    assert np.array_equal(np.asarray(labelled)[:, :6], np.zeros((labelled.size[1], 6, 3)))
    first = np.asarray(plain)[6:72, 6:72]
    tops = [top for top in range(100) if np.array_equal(np.asarray(labelled)[top : top + 66, 6:72], first)]
    assert len(tops) == 1 and tops[0] > 20  # below its tower's name


# Other layers ------------------------------------------------------------------------------------------------------------------


def tensors_of(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Return random weights of the shapes of a recipe's network of three classes."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in parameter_shapes(recipe, 3).items()}


def many_layers(recipe: Recipe) -> Weights:
    """Return weights of all layers, of three classes."""
    return Weights(recipe, ("a", "b", "c"), ("a", "b", "c"), tensors_of(recipe), torch.zeros(3, 256, 256))


def test_slices_by_hand():
    """Each row is a kernel and each tile of it a channel, in grey, on one scale over all of the layer; tower b's rows are below."""
    weights = many_layers(narrow())
    kernels = weights.tensors["conv2.weight"].double().numpy()  # 16 kernels of 4 channels, 5x5
    picture = small_picture(draw_filters(weights, "conv2"), 40)  # 25 pixels wide
    low, high = kernels.min(), kernels.max()
    assert picture.shape == (2 * (8 * 6 + 1) + 1, 25, 3)
    for unit in range(16):
        for channel in range(4):
            top, left = 1 + 6 * unit + (2 if unit >= 8 else 0), 1 + 6 * channel
            grey = np.round((kernels[unit, channel] - low) / (high - low) * 255)
            assert np.array_equal(picture[top : top + 5, left : left + 5], grey[:, :, None].repeat(3, axis=2)), (unit, channel)


def test_many_kernels_are_cut_short():
    """Of a wide layer the first 24 kernels of each tower are drawn with their first 48 channels, unless others are asked for."""
    weights = many_layers(narrow(channels=(8, 16, 64, 128, 16)))
    shown = choose_filters(weights, "conv4")  # 128 kernels of 32 channels
    assert list(shown.chosen) == [*range(24), *range(64, 88)] and shown.channels == 32
    assert shown.describe() == ("48 of 128 kernels of conv4, one in a row, tower a above tower b; channels 0 to 31 of 32")
    few = choose_filters(weights, "conv4", [100, 7], FilterOptions(channels=5))
    assert (list(few.chosen), few.channels) == ([7, 100], 5)
    assert draw(few).size == (21 * 48, 48 * (5 + 1 + 5))
    wide = many_layers(narrow(channels=(8, 112, 24, 24, 16)))
    assert (
        choose_filters(wide, "conv3").channels == 48
        and choose_filters(wide, "conv3", None, FilterOptions(channels=999)).channels == 112
    )


def test_figures_of_a_slice():
    """Kernels that are no pictures have their extremes and norm, and no orientation."""
    weights = many_layers(narrow())
    figures = choose_filters(weights, "conv3", [13]).to_dicts()
    kernel = weights.tensors["conv3.weight"][13]
    assert figures == [
        {
            "unit": 13,
            "tower": "b",
            "min": kernel.min().item(),
            "max": kernel.max().item(),
            "norm": pytest.approx(kernel.norm().item()),
        }
    ]


def test_local_kernels_of_one_place():
    """Of a local layer those of one place are drawn: the middle's, or what --place says; a wrong one is told with the extent."""
    recipe = replace(tiny(), channels=(4, 4, 6, 4))
    weights = many_layers(recipe)  # local3 has 8x8 places
    kernels = weights.tensors["local3.weight"].double().numpy()
    assert kernels.shape == (6, 4, 3, 3, 8, 8)
    for place, (y, x) in ((None, (4, 4)), ((7, 0), (7, 0))):
        shown = choose_filters(weights, "local3", None, FilterOptions(place=place))
        picture = small_picture(draw(shown), 59)
        here = kernels[..., y, x]
        grey = np.round((here - here.min()) / (here.max() - here.min()) * 255)
        assert np.array_equal(picture[5:8, 9:12, 0], grey[1, 2])
        assert f"at place {y},{x}" in shown.describe()
    with pytest.raises(AlexNetError, match="local3 has no place 8,0") as caught:
        choose_filters(weights, "local3", None, FilterOptions(place=(8, 0)))
    assert caught.value.hint == "its places are 0,0 to 7,7"


# Refusals ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["fc6", "fc8"])
def test_weights_that_are_no_pictures(layer):
    """Of an fc layer the message says which methods show what its units respond to."""
    with pytest.raises(AlexNetError, match=f"the weights of {layer} are no pictures") as caught:
        draw_filters(weights_of(torch.zeros(96, 3, 11, 11)), layer)
    assert caught.value.hint == "see what its units respond to: --method maximize or --method patches"


@pytest.mark.parametrize(
    ("layer", "options", "message", "hint"),
    [
        (
            "conv2",
            {"order": "hue"},
            "ordered by hue only where they have the three channels of a picture, not in conv2",
            "draw conv1",
        ),
        ("conv1", {"channels": 2}, "the kernels of conv1 are drawn in colour", "leave --channels out"),
        ("conv1", {"place": (0, 0)}, "the kernels of conv1 are the same at every place", "leave --place out"),
        ("conv1", {"scale": 80}, "the picture would have 15,440 x 6,000 pixels, expected 80,000,000 at most", "enlarge them less"),
    ],
)
def test_options_that_mean_nothing(layer, options, message, hint):
    """An option that the layer has no use for is refused, not passed over; so is a picture beyond all sizes."""
    with pytest.raises(AlexNetError) as caught:
        draw_filters(weights_of(torch.zeros(96, 3, 11, 11)), layer, None, FilterOptions(**options))
    assert message in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize(("units", "message"), [([3, 96], "conv1 has no unit 96"), ([-1], "no unit -1"), ([], "no unit of conv1")])
def test_units_that_there_are_not(units, message):
    """From Python too, a unit beyond the layer's is told and none at all; a negative one is not counted from the end."""
    with pytest.raises(AlexNetError, match=message) as caught:
        draw_filters(weights_of(torch.zeros(96, 3, 11, 11)), "conv1", units)
    assert caught.value.hint.startswith("its units are 0 to 95")


def test_unknown_layer():
    """A name that is no layer is an error that lists the layers."""
    with pytest.raises(AlexNetError, match="no layer named 'conv9' in a network of recipe original") as caught:
        draw_filters(weights_of(torch.zeros(96, 3, 11, 11)), "conv9")
    assert caught.value.hint == "its layers are conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8"
