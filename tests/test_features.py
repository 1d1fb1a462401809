import numpy as np
import pytest
import torch
from torch import nn

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.features import Features, feature_shape, last_hidden
from alexnet_cli.core.input_places import PixelPlace
from alexnet_cli.core.inputs import Input, Picture
from alexnet_cli.core.predict import Failure, Model
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import PRESETS
from tests.networks import narrow
from tests.test_predict import squares, tiny_weights

CPU, FP32 = torch.device("cpu"), Precision("fp32")
# One tower and no norms: layer for layer what torch's own modules are.
PLAIN = Recipe(
    name="plain",
    towers=1,
    channels=(8, 16, 24, 24, 16),
    hidden=(32, 30),
    follows=("activation pool", "activation pool", "activation", "activation", "activation pool"),
)


def plain_network(weights: Weights) -> tuple[nn.Sequential, dict[str, int]]:
    """The same network of torch's modules, and how many of them each layer ends with."""
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    modules: list[nn.Module] = [nn.ZeroPad2d((0, 3, 0, 3))]
    ends = {}
    for name, (read, made, size, stride, padding), pools in (
        ("conv1", (3, 8, 11, 4, 0), True),
        ("conv2", (8, 16, 5, 1, 2), True),
        ("conv3", (16, 24, 3, 1, 1), False),
        ("conv4", (24, 24, 3, 1, 1), False),
        ("conv5", (24, 16, 3, 1, 1), True),
    ):
        modules += [nn.Conv2d(read, made, size, stride, padding), nn.ReLU(), *([pool] if pools else [])]
        ends[name] = len(modules)
    modules.append(nn.Flatten())
    for name, read, made in (("fc6", 16 * 6 * 6, 32), ("fc7", 32, 30)):
        modules += [nn.Linear(read, made), nn.ReLU()]
        ends[name] = len(modules)
    with_weights = [module for module in modules if isinstance(module, (nn.Conv2d, nn.Linear))]
    for name, module in zip(ends, with_weights, strict=True):
        module.weight = nn.Parameter(weights.tensors[f"{name}.weight"])
        module.bias = nn.Parameter(weights.tensors[f"{name}.bias"])
    return nn.Sequential(*modules).requires_grad_(False), ends


def cut(image: np.ndarray, weights: Weights, y: int, x: int, mirrored: bool) -> torch.Tensor:
    """One view without the mean's centre, by hand."""
    view = torch.from_numpy(image.copy()).permute(2, 0, 1).float()[:, y : y + 224, x : x + 224]
    return (view.flip(2) if mirrored else view) - weights.mean[:, 16:240, 16:240]


@pytest.mark.parametrize(("layer", "factor"), [("conv1", 1), ("conv3", 1), ("conv5", 1), ("fc6", 0.5), ("fc7", 0.25)])
def test_agrees_with_a_plain_torch_network(layer, factor):
    """A layer's values are those of torch's own modules, hidden ones halved as a test does; ten views' are their mean."""
    weights = tiny_weights(PLAIN)
    network, ends = plain_network(weights)
    for index in ("fc6.bias", "fc7.bias"):
        weights.tensors[index].zero_()  # so that halving passes through fc7 as a factor
    images = [squares(256, 256, seed) for seed in range(3)]
    places = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    for crops, views in ((1, [(16, 16, False)]), (10, [(y, x, side) for side in (False, True) for y, x in places])):
        found = list(Model(weights, CPU, FP32).features(images, layer=layer, crops=crops))
        for image, one in zip(images, found, strict=True):
            assert isinstance(one, Features)
            expected = network[: ends[layer]](torch.stack([cut(image, weights, *view) for view in views])).mean(dim=0)
            np.testing.assert_allclose(one.values, factor * expected.numpy(), rtol=2e-4, atol=1e-4 * float(expected.abs().max()))
            assert one.values.dtype == np.float32 and one.values.std() > 0


@pytest.mark.parametrize("name", [*PRESETS, "narrow"])
def test_shapes_of_all_recipes(name):
    """Of every recipe the layer before the scores is the last hidden one, and each layer's shape is known without a network."""
    recipe = narrow() if name == "narrow" else PRESETS[name]()
    assert last_hidden(recipe) == recipe.layers[-2]
    shapes = {layer: feature_shape(recipe, 10, layer) for layer in recipe.layers}
    assert shapes[recipe.layers[-1]] == (10,)
    if name in ("original", "paper"):
        # Paper 3.5 and figure 2: 96, 256 and 256 maps after their pooling, 4096 units.
        assert (shapes["conv1"], shapes["conv2"], shapes["conv5"]) == ((96, 27, 27), (256, 13, 13), (256, 6, 6))
        assert shapes["conv4"] == (384, 13, 13) and shapes["fc7"] == (4096,)
    if name == "narrow":
        model = Model(tiny_weights(narrow()), CPU, FP32)
        for layer in recipe.layers:
            (one,) = model.features(squares(256, 256, 0), layer=layer)
            assert isinstance(one, Features)
            assert one.values.shape == feature_shape(recipe, 4, layer)


def test_order_failures_and_truths():
    """Bad pictures are failures in their places, whatever the passes; a known class stays with its picture; some carry images."""
    model = Model(tiny_weights(), CPU, FP32)
    pictures: list[Picture | Input] = [
        squares(256, 256, 0),
        b"rubbish",
        Input("named", PixelPlace(squares(256, 256, 1)), "n77"),
        squares(256, 256, 2),
    ]
    found = list(model.features(pictures, batch_size=2, num_images=2))
    assert [type(one) for one in found] == [Features, Failure, Features, Features]
    first, bad, named, last = found
    assert isinstance(first, Features) and isinstance(named, Features) and isinstance(last, Features)
    assert [one.path for one in found] == ["[0]", "[1]", "named", "[3]"] and isinstance(bad, Failure)
    assert (first.truth, named.truth) == (None, "n77") and first.values.shape == (32,)
    np.testing.assert_array_equal(named.image, squares(256, 256, 1))
    assert last.image is None
    (alone,) = model.features(squares(256, 256, 2))
    assert isinstance(alone, Features)
    np.testing.assert_allclose(last.values, alone.values, rtol=1e-4, atol=1e-5)


def test_no_such_layer():
    """A layer that the network does not have is an error that names those that it has."""
    with pytest.raises(AlexNetError, match="no layer named 'fc9'") as raised:
        list(Model(tiny_weights(), CPU, FP32).features([], layer="fc9"))
    assert "conv1, conv2" in raised.value.hint
