"""The first layer's sums, shared among the ten views of a test."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.evaluate import average_probabilities
from alexnet_cli.core.model import AlexNet, _images_at_a_time
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import preset
from alexnet_cli.core.shared_views import can_share, first_sums
from alexnet_cli.core.views import test_views as views_of
from tests.networks import narrow

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "stored_size": 96,
    "input_size": 80,
}  # ten views 0, 8 and 16 pixels apart, the last window on zeros as of 224


def weights_of(recipe: Recipe, classes: int = 5) -> Weights:
    """Random weights, and a mean that differs from pixel to pixel."""
    names = tuple("abcdefgh"[:classes])
    tensors = {name: value.detach() for name, value in AlexNet(recipe, classes, seed=0).named_parameters()}
    mean = 255 * torch.rand(3, recipe.stored_size, recipe.stored_size, generator=torch.Generator().manual_seed(2))
    return Weights(recipe, names, names, tensors, mean)


def pictures(recipe: Recipe) -> torch.Tensor:
    """Two random pictures of the stored size."""
    side = recipe.stored_size
    return torch.randint(0, 256, (2, side, side, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        SMALL,
        {**SMALL, "mirror": False},
        {**SMALL, "mean": "channel"},
        {**SMALL, "channel_order": "bgr", "pixel_scale": 1 / 255, "pixel_stdevs": (0.2, 0.3, 0.4)},
        {**SMALL, "input_size": 79, "stored_size": 95, "input_padding": (0, 0)},  # of which every window ends inside
        {**SMALL, "input_padding": (0, 9), "strides": (2, 1, 1, 1, 1)},  # four rows and columns end on zeros
    ],
    ids=["224", "80", "no mirror", "channel mean", "bgr and scaled", "no zeros", "many zeros"],
)
def test_sums_are_those_of_the_views(changes):
    """They equal torch's convolution of every view by itself, edges on zeros included, in float64."""
    recipe = narrow(**changes)
    assert can_share(recipe, 10)
    weights, images = weights_of(recipe), pictures(recipe)
    network = build_network(weights, CPU, Precision("fp64"))
    views = views_of(images, weights.mean.double(), recipe, 10).flatten(0, 1)
    weight, bias = (weights.tensors[f"conv1.{name}"].double() for name in ("weight", "bias"))
    expected = F.conv2d(F.pad(views, recipe.input_padding * 2), weight, bias, stride=recipe.strides[0])
    found = first_sums(network, images, weights.mean.double(), recipe)
    assert found.shape == expected.shape and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("name", ["bvlc", "caffenet", "tiny"])
def test_views_that_share_nothing(name):
    """Caffe's views are no whole strides apart, and the small net's pictures are padded before their first pixel."""
    assert not can_share(preset(name), 10)


def test_one_view_shares_nothing():
    """The centre alone has no other view, and a mean at the crop's own place is another for each."""
    assert not can_share(preset("original"), 1)
    assert not can_share(replace(preset("original"), mean_crop="aligned"), 10)


def test_probabilities_are_those_of_the_views():
    """The mean over the views' softmax, each view passed through the network by itself, in float64."""
    recipe = narrow(**SMALL, test_crops=10)
    weights, images = weights_of(recipe), pictures(recipe)
    precision = Precision("fp64")
    network = build_network(weights, CPU, precision)
    mean = weights.mean.double()
    one_by_one = torch.stack([network(views).softmax(1).mean(0) for views in views_of(images, mean, recipe, 10)])
    torch.testing.assert_close(average_probabilities(network, images, mean, recipe, 10, precision), one_by_one)


@pytest.mark.parametrize("crops", [10, 1])
def test_weights_that_are_cast_once_give_the_same_answers(crops):
    """In bf16 the answers are bit for bit those of weights that autocast casts anew for each pass."""
    recipe = narrow(**SMALL)
    weights, images, precision = weights_of(recipe), pictures(recipe), Precision("bf16")
    once, anew = (
        average_probabilities(build_network(weights, CPU, precision, cast=cast), images, weights.mean, recipe, crops, precision)
        for cast in (True, False)
    )
    assert build_network(weights, CPU, precision, cast=True).get_parameter("fc6.weight").dtype == torch.bfloat16
    assert once is not None and anew is not None and torch.equal(once, anew)


@pytest.mark.parametrize(("count", "expected"), [(120, 15), (128, 16), (32, 16), (127, 127), (14, 14), (10, 10), (3, 3)])
def test_images_at_a_time(count, expected):
    """The largest divisor from 6 to 16, so that all parts are alike; the whole batch where there is none."""
    assert _images_at_a_time(count) == expected
