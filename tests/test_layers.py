import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.layers import outputs, receptive_field, steps, sums
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import preset
from alexnet_cli.core.views import centre_mean, from_pixel_differences, pixel_differences
from alexnet_cli.core.views import test_views as views_of
from tests.networks import narrow


def network_of(recipe: Recipe) -> AlexNet:
    """A network with random weights, in float64."""
    return AlexNet(recipe, 7, seed=0).double().requires_grad_(False).eval()


def pictures(recipe: Recipe, count: int = 2) -> torch.Tensor:
    """Random inputs of the network's own size."""
    shape = (count, 3, recipe.input_size, recipe.input_size)
    return 60 * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", ["original", "paper", "caffenet", "bvlc", "tanh", "no-overlap", "no-dropout"])
def test_the_steps_are_the_network(name):
    """One after the other the steps give the very logits of `forward`, whatever the recipe's order of operations."""
    recipe = narrow(preset(name))
    network, x = network_of(recipe), pictures(recipe)
    expected = network(x)
    for step in steps(network):
        x = step.run(x)
    assert torch.equal(x, expected)


def test_steps_are_named_in_the_order_of_net_145():
    """The operations of #145, as its configuration file has them: the first norm before the pooling, the ReLU after it."""
    names = [f"{step.layer} {step.operation}" for step in steps(network_of(narrow()))]
    assert names[:5] == ["conv1 pad", "conv1 conv", "conv1 lrn", "conv1 pool", "conv1 relu"]
    assert names[5:10] == ["conv2 conv", "conv2 relu", "conv2 lrn", "conv2 spatial", "conv2 pool"]
    assert names[-8:] == [
        "fc6 flatten",
        *(f"{layer} {what}" for layer in ("fc6", "fc7") for what in ("fc", "relu", "dropout")),
        "fc8 fc",
    ]


def test_sums_and_outputs_of_layers():
    """conv1's sums are torch's convolution of the padded picture; fc7's outputs are what fc8 multiplies; fc8's are the logits."""
    recipe = narrow()
    network, x = network_of(recipe), pictures(recipe)
    tensors = dict(network.named_parameters())
    expected = F.conv2d(F.pad(x, (0, 3, 0, 3)), tensors["conv1.weight"], tensors["conv1.bias"], stride=4)
    assert torch.equal(sums(network, x, "conv1"), expected)
    scores = outputs(network, x, "fc7") @ tensors["fc8.weight"].T + tensors["fc8.bias"]
    torch.testing.assert_close(scores, network(x))
    assert torch.equal(outputs(network, x, "fc8"), network(x)) and torch.equal(sums(network, x, "fc8"), network(x))
    assert outputs(network, x, "conv5").shape == (2, 16, 6, 6)
    # Halved in a test, as half of the units are dropped in training.
    torch.testing.assert_close(outputs(network, x, "fc6"), F.relu(sums(network, x, "fc6")) / 2)


def test_unknown_layer():
    """A layer that the network does not have is named, with those that it has."""
    network = network_of(narrow())
    with pytest.raises(AlexNetError, match="no layer named 'pool5' in a network of recipe original") as caught:
        sums(network, pictures(network.recipe), "pool5")
    assert caught.value.hint == "its layers are conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8"


@pytest.mark.parametrize(
    "layer, size, stride", [("conv1", 11, 4), ("conv2", 51, 8), ("conv3", 99, 16), ("conv4", 131, 16), ("conv5", 163, 16)]
)
def test_receptive_fields_of_the_paper(layer, size, stride):
    """Sizes and distances, worked by hand from kernels, strides and pooling."""
    field = receptive_field(narrow(), layer)
    assert (field.size, field.stride) == (size, stride)


@pytest.mark.parametrize("name, place", [("no-lrn", 6), ("no-overlap", 7), ("bvlc", 6)])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5"])
def test_receptive_field_is_where_the_gradient_is(name, place, layer):
    """The pixels with a gradient are those that the receptive field names, cut at the picture's edge."""
    unnormed = tuple(
        " ".join(what for what in follows.split() if what in ("activation", "pool")) for follows in preset(name).follows
    )
    recipe = narrow(preset(name), activation="tanh", follows=unnormed)  # which gives a gradient everywhere
    network, x = network_of(recipe), pictures(recipe, 12).requires_grad_()
    for parameter, value in network.named_parameters():
        value.mul_(0.3 if "weight" in parameter else 1)  # far from saturation
    sums(network, x / 60, layer)[:, :, place, place - 1].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    field = receptive_field(recipe, layer)
    for axis, at in ((1, place), (0, place - 1)):
        found = torch.nonzero(seen.any(dim=axis)).flatten()
        rows = [row for row in field.rows(at) if 0 <= row < recipe.input_size]
        assert (int(found.min()), int(found.max())) == (rows[0], rows[-1])


@pytest.mark.parametrize("name", ["original", "caffenet"])
def test_pixels_of_views(name):
    """A view without its mean becomes the picture's own pixels again, whatever the network's order of channels; and back."""
    recipe = preset(name)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8))
    mean = torch.arange(3 * 256 * 256, dtype=torch.float64).reshape(3, 256, 256) / 1000
    view = views_of(image, mean, recipe, 1)[:, 0]
    differences = pixel_differences(view, recipe)
    edge = (256 - recipe.input_size) // 2
    crop = image[:, edge : edge + recipe.input_size, edge : edge + recipe.input_size].permute(0, 3, 1, 2)
    torch.testing.assert_close(differences + centre_mean(mean, recipe), crop.double())
    torch.testing.assert_close(from_pixel_differences(differences, recipe), view)


def test_pixels_of_a_scaled_network():
    """In torchvision's scale a value of 1 is one standard deviation of a channel of pixels from 0 to 1."""
    recipe = Recipe(pixel_scale=1 / 255, pixel_stdevs=(0.229, 0.224, 0.225))
    differences = pixel_differences(torch.ones(1, 3, 2, 2, dtype=torch.float64), recipe)
    torch.testing.assert_close(differences[0, :, 0, 0], torch.tensor([58.395, 57.12, 57.375], dtype=torch.float64))
