import pytest
import torch

from alexnet_cli.core.canvas import Canvas, canvas_of, reaches
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.layers import sums
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import preset
from tests.networks import narrow


@pytest.mark.parametrize(
    "layer, middle, first, unit, size",
    [
        ("conv1", 27, 108, 0, 11),
        ("conv2", 13, 88, 2, 51),
        ("conv3", 6, 64, 2, 99),
        ("conv4", 6, 48, 3, 131),
        ("conv5", 6, 32, 4, 163),
    ],
)
def test_canvases_of_145(layer, middle, first, unit, size):
    """What the middle units of the paper's maps see, worked by hand; conv5's unit 4 is the first that sees no padding."""
    assert canvas_of(Recipe(), layer) == Canvas(first, size, range(size), unit, middle)


def test_full_layers_need_the_whole_picture():
    """A unit without a place is looked at in the whole input."""
    assert canvas_of(Recipe(), "fc6") == Canvas(0, 224, range(224), None, None)


@pytest.mark.parametrize("layer", ["local3", "local4"])
def test_local_layers_need_the_whole_picture(layer):
    """Kernels that differ from place to place are not moved: the canvas is the picture, the tile what the unit sees of it."""
    # By hand: conv1 5 pixels, pooled 7, conv2 15, pooled 19, local3 27 and local4 35, 4 apart, from -10 and -14 on; unit 4 of 8.
    seen = {"local3": range(6, 32), "local4": range(2, 32)}[layer]
    assert canvas_of(preset("tiny"), layer) == Canvas(0, 32, seen, 4, 4)


@pytest.mark.parametrize("padding", [(0, 3), (2, 2), (5, 1)])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5"])
def test_a_unit_adds_up_the_same_on_its_canvas(padding, layer):
    """Of a network without norms a unit's sum on its canvas is the one in the whole picture, however the input is padded."""
    recipe = narrow(input_padding=padding, follows=("pool activation", "activation pool", "activation", "activation", "pool"))
    network = AlexNet(recipe, 7, seed=0).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    picture = 60 * torch.randn(1, 3, 224, 224, generator=generator, dtype=torch.float64)
    canvas = canvas_of(recipe, layer)
    assert canvas.unit is not None and canvas.middle is not None and canvas.size < 224
    rows = slice(canvas.first, canvas.first + canvas.size)
    found = sums(network, picture[:, :, rows, rows], layer)[0, :, canvas.unit, canvas.unit]
    torch.testing.assert_close(found, sums(network, picture, layer)[0, :, canvas.middle, canvas.middle])


@pytest.mark.parametrize(
    "name, layer, expected",
    [
        ("original", "conv5", {"conv5": 1, "conv4": 2, "conv3": 3}),
        ("original", "conv3", {"conv3": 1}),
        ("original", "conv2", {"conv2": 2}),
        ("original", "conv1", {}),  # strides of 4
        ("no-overlap", "conv2", {}),  # padded by 1 where 2 would keep the size
        ("tiny", "local4", {}),  # its kernels have places
    ],
)
def test_reaches(name, layer, expected):
    """Kernels of 3 reach 1 to each side, of 5 2, added up from the layer back to the pooling; worked by hand."""
    assert reaches(preset(name), layer) == expected


def test_the_tile_is_padded_to_the_canvas():
    """What lies before and behind the tile is told for both axes."""
    canvas = Canvas(8, 20, range(6, 17), 1, 3)
    assert canvas.around == (6, 3, 6, 3) and canvas.seen == range(14, 25)


def test_unknown_layer():
    """A layer that the network does not have is refused."""
    with pytest.raises(AlexNetError, match="no layer named 'conv6'"):
        canvas_of(Recipe(), "conv6")
