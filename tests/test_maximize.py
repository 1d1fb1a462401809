import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.layers import sums
from alexnet_cli.core.maximize import Maximized, MaximizeOptions, maximize, unit_sums
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.painting import Prior
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import preset
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.views import test_views as views_of
from tests.networks import narrow

CPU, FP32, FP64 = torch.device("cpu"), Precision("fp32"), Precision("fp64")


def weights_of(recipe: Recipe, classes: int = 5, mean: float = 120.0) -> Weights:
    """Random weights and a mean that differs a little from pixel to pixel."""
    tensors = dict(AlexNet(recipe, classes, seed=0).requires_grad_(False).state_dict())
    names = tuple(f"class {index}" for index in range(classes))
    side = recipe.stored_size
    noise = torch.randn(3, side, side, generator=torch.Generator().manual_seed(2))
    return Weights(recipe, names, names, tensors, mean + 5 * noise)


def find(weights: Weights, layer: str, units: list[int], *, precision: Precision = FP32, **options) -> list[Maximized]:
    """Pictures on the processor."""
    return maximize(weights, layer, units, MaximizeOptions(**options), device=CPU, precision=precision)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of all values of two pictures."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def tile_mean(weights: Weights, found: Maximized) -> np.ndarray:
    """The mean under a picture, (T, T, 3): the network's input is the centre of the stored size."""
    first = (weights.recipe.stored_size - weights.recipe.input_size) // 2 + found.first
    rows = slice(first, first + len(found.image))
    return weights.mean[:, rows, rows].permute(1, 2, 0).numpy()


# conv1: the kernels themselves -----------------------------------------------------------------------------------------------


def gratings(count: int) -> torch.Tensor:
    """Kernels (count, 3, 11, 11) of gratings, from the coarsest to the finest there is, of several directions and colours."""
    y, x = torch.meshgrid(torch.arange(11.0) - 5, torch.arange(11.0) - 5, indexing="ij")
    kernels = []
    for index in range(count):
        angle, frequency = math.pi * index / count, 0.05 + 0.45 * index / (count - 1)
        wave = torch.sin(0.7 + 2 * math.pi * frequency * (x * math.cos(angle) + y * math.sin(angle)))
        colour = torch.tensor([(1.0, 1, 1), (1, -1, 0), (-1, -1, 2), (0, 1, 0)][index % 4])
        kernels.append(colour[:, None, None] * wave * torch.exp(-(x**2 + y**2) / 30))
    return torch.stack(kernels)


@pytest.mark.parametrize("structured", [True, False])
def test_conv1s_best_pictures_are_its_kernels(structured):
    """A sum is linear in conv1, so the best picture of a given contrast is the kernel: gratings up to the finest, and noise."""
    weights = weights_of(narrow())
    if structured:
        weights.tensors["conv1.weight"] = 0.1 * gratings(8)
    kernels = weights.tensors["conv1.weight"].permute(0, 2, 3, 1).numpy()
    for found in find(weights, "conv1", list(range(8))):
        assert found.image.shape == (11, 11, 3) and found.image.dtype == np.uint8
        assert correlation(found.image - tile_mean(weights, found), kernels[found.unit]) > 0.95


def test_conv1s_activation_by_hand():
    """What the unit adds up of its picture is kernel times difference, and the bias."""
    weights = weights_of(narrow())
    weights.tensors["conv1.bias"] += 3
    (found,) = find(weights, "conv1", [2])
    kernel = weights.tensors["conv1.weight"][2].permute(1, 2, 0).numpy().astype(np.float64)
    expected = (kernel * (found.image - tile_mean(weights, found))).sum() + 3
    assert found.activation == pytest.approx(expected, rel=1e-4)
    assert found.to_dict() == {"unit": 2, "activation": found.activation, "size": 11, "first": 108}


def test_colours_of_a_bgr_network_with_scaled_pixels():
    """A kernel that adds up a network's third channel, which is red there, gives a red picture."""
    recipe = narrow(preset("bvlc"), pixel_scale=1 / 255, pixel_stdevs=(0.229, 0.224, 0.225))
    weights = weights_of(recipe)
    weights.tensors["conv1.weight"].zero_()
    weights.tensors["conv1.weight"][1, 2] = 1.0
    (found,) = find(weights, "conv1", [1])
    red, green, blue = (found.image - tile_mean(weights, found)).mean(axis=(0, 1))
    assert red > 50 and abs(green) < 5 and abs(blue) < 5


# Deeper ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tower", [0, 1])
def test_a_unit_sees_its_own_towers_maps(tower):
    """A conv2 unit of either tower that passes on its tower's fourth map finds that map's kernel, not the other tower's."""
    weights = weights_of(narrow(follows=("activation", "activation", "activation", "activation", "pool activation"), hidden=(8, 8)))
    weights.tensors["conv1.weight"] = 0.1 * gratings(16)[4:12]
    weights.tensors["conv1.bias"] = torch.full((8,), 500.0)  # no map is ever cut at 0
    weights.tensors["conv2.weight"].zero_()
    weights.tensors["conv2.weight"][[5, 13], 3, 2, 2] = 1.0
    (found,) = find(weights, "conv2", [(5, 13)[tower]], prior=Prior(0, 0, 0), contrast=20.0)
    difference = found.image - tile_mean(weights, found)
    at = (len(difference) - 11) // 2  # the unit's own place: the middle of what it sees
    kernels = weights.tensors["conv1.weight"].permute(0, 2, 3, 1).numpy()
    middle = difference[at : at + 11, at : at + 11]
    assert correlation(middle, kernels[(3, 7)[tower]]) > 0.9
    assert abs(correlation(middle, kernels[(7, 3)[tower]])) < 0.5


def planted() -> tuple[Weights, np.ndarray]:
    """A network whose fc unit 1 looks for a pattern: conv1 passes all pixels on, its bias keeps them above 0."""
    recipe = replace(
        preset("tiny"),
        layers=("conv1", "fc2"),
        channels=(3,),
        kernels=(1,),
        strides=(1,),
        paddings=(0,),
        follows=("activation",),
        reads_both_towers=("fc2",),
        init_stdevs=(0.01, 0.01),
        init_biases=(0.0, 0.0),
    )
    weights = weights_of(recipe)
    y, x = np.mgrid[0:32, 0:32]
    pattern = np.stack([np.where((y - 12) ** 2 + (x - 20) ** 2 < 36, 1.0, -0.2), np.where(x < 9, 0.7, -0.2), 0 * x])
    weights.tensors["conv1.weight"] = torch.eye(3)[:, :, None, None]
    weights.tensors["conv1.bias"] = torch.full((3,), 300.0)
    weights.tensors["fc2.weight"][1] = 0.01 * torch.from_numpy(pattern.ravel()).float()
    return weights, pattern.transpose(1, 2, 0)


def test_a_planted_unit_finds_its_pattern():
    """A fully connected unit that looks for a red disc beside a green bar gets that picture, with the prior for depth."""
    weights, pattern = planted()
    (found,) = find(weights, "fc2", [1])
    difference = found.image - tile_mean(weights, found)
    assert found.image.shape == (32, 32, 3)
    assert correlation(difference, pattern) > 0.9
    assert difference[12, 20, 0] > 50 and difference[16, 3, 1] > 30


def test_climbing_leads_up():
    """Each of eight units, four of either tower, adds up more after 10 steps than after one, and after 40 than after 10."""
    weights, units = weights_of(narrow()), [0, 1, 2, 3, 12, 13, 14, 15]
    one, ten, forty = ([found.activation for found in find(weights, "conv2", units, steps=steps)] for steps in (1, 10, 40))
    assert all(first < second < third for first, second, third in zip(one, ten, forty, strict=True))
    assert np.mean(forty) > np.mean(one) + 3


@pytest.mark.parametrize("name, layer", [("original", "conv5"), ("one-gpu", "conv4"), ("tiny", "local4"), ("tiny", "conv2")])
def test_activation_is_that_of_the_image_in_the_mean_picture(name, layer):
    """With the image at its place in the mean, the middle unit adds up what was told; where kernels know their place, too."""
    recipe = preset(name) if name == "tiny" else narrow(preset(name))
    weights = weights_of(recipe)
    (found,) = find(weights, layer, [3], steps=3)
    network = build_network(weights, CPU, FP64)
    view = torch.zeros(1, 3, recipe.input_size, recipe.input_size, dtype=torch.float64)
    rows = slice(found.first, found.first + len(found.image))
    view[0, :, rows, rows] = torch.from_numpy(found.image - tile_mean(weights, found)).permute(2, 0, 1)
    maps = sums(network, view, layer)[0, 3]
    assert found.activation == pytest.approx(float(maps[len(maps) // 2, len(maps) // 2]), rel=1e-4, abs=1e-4)


def test_a_classs_activation_is_its_logit():
    """A picture for a class, seen as any picture is, gets the logit that was told."""
    recipe = narrow(preset("bvlc"))
    weights = weights_of(recipe)
    (found,) = find(weights, "fc8", [4], steps=3)
    stored = np.zeros((1, 256, 256, 3), dtype=np.uint8)
    edge = (256 - 227) // 2
    stored[0, edge : edge + 227, edge : edge + 227] = found.image
    view = views_of(torch.from_numpy(stored), weights.mean.double(), recipe, 1)[:, 0]
    assert found.activation == pytest.approx(float(build_network(weights, CPU, FP64)(view)[0, 4]), rel=1e-4, abs=1e-5)


# Draws, batches, reports -----------------------------------------------------------------------------------------------------


def test_a_picture_depends_on_unit_and_seed_alone():
    """Alone, among others, in batches of two or of all: the same picture to one level; another seed gives another one."""
    weights = weights_of(narrow())
    (alone,) = find(weights, "conv2", [6], precision=FP64, steps=10)
    for units, batch_size in (([1, 6, 3], 2), ([3, 1, 2, 6], 16), ([6], 1)):
        found = find(weights, "conv2", units, precision=FP64, steps=10, batch_size=batch_size)
        assert [one.unit for one in found] == units
        same = found[units.index(6)]
        assert np.abs(same.image.astype(int) - alone.image).max() <= 1
        assert same.activation == pytest.approx(alone.activation, rel=1e-3)
    assert np.array_equal(find(weights, "conv2", [6], precision=FP64, steps=10)[0].image, alone.image)
    (other,) = find(weights, "conv2", [6], precision=FP64, steps=10, seed=1)
    assert np.abs(other.image.astype(int) - alone.image).max() > 20


@pytest.mark.parametrize("name", ["original", "bvlc", "one-gpu"])
@pytest.mark.parametrize("layer", ["conv2", "conv4", "conv5"])
def test_what_a_unit_does_not_see_is_left_out_rightly(name, layer):
    """A unit's sum and gradient are those of the whole maps, in the middle of them as at their first and last place."""
    recipe = narrow(preset(name))
    network = AlexNet(recipe, 5, seed=0).double().requires_grad_(False)
    size = 27 if layer == "conv2" else 13
    shape = (3, 3, recipe.input_size, recipe.input_size)
    pictures = 50 * torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for place in (0, size // 2, size - 1):
        shown = pictures.requires_grad_()
        found = unit_sums(network, shown, layer, [7, 0, 2], place)
        wanted = sums(network, shown.flip(1) if name == "bvlc" else shown, layer)[[0, 1, 2], [7, 0, 2], place, place]
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), shown), torch.autograd.grad(wanted.sum(), shown))


def test_gradients_in_bf16():
    """Through conv1's and conv2's norms bf16's gradient points where float64's does."""
    weights = weights_of(narrow())
    picture = 50 * torch.randn(1, 3, 99, 99, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    gradients = []
    for precision in (FP64, Precision("bf16")):
        shown = picture.to(precision.dtype).requires_grad_()
        with precision.autocast(CPU):
            reached = unit_sums(build_network(weights, CPU, precision), shown, "conv3", [5], 2)
        gradients.append(torch.autograd.grad(reached.sum(), shown)[0].double().flatten())
    assert float(torch.cosine_similarity(gradients[0], gradients[1], dim=0)) > 0.95


def test_progress_counts_every_step_of_every_picture():
    """The bar has the pictures' steps, and ends also where a picture fails."""

    class Listener(Reporter):
        def __init__(self) -> None:
            self.total, self.count, self.ended = 0, 0, False

        def start(self, task: str, total: int | None, unit: str, *, done: int = 0) -> None:
            assert task == "pictures for conv1" and total is not None and unit == "steps"
            self.total = total

        def advance(self, amount: int = 1, **figures: float) -> None:
            self.count += amount
            if self.count == 8:
                raise KeyboardInterrupt
            assert math.isfinite(figures["activation"])

        def finish(self) -> None:
            self.ended = True

    listener = Listener()
    options = MaximizeOptions(steps=4, batch_size=2)
    maximize(weights_of(narrow()), "conv1", [5], options, device=CPU, precision=FP32, reporter=listener)
    assert (listener.total, listener.count, listener.ended) == (4, 4, True)
    listener = Listener()
    with pytest.raises(KeyboardInterrupt):
        maximize(weights_of(narrow()), "conv1", [5, 6], options, device=CPU, precision=FP32, reporter=listener)
    assert listener.total == 8 and listener.ended


def test_no_units_no_pictures():
    """Nothing asked for, nothing found."""
    assert find(weights_of(narrow()), "conv1", []) == []


@pytest.mark.parametrize("unit", [-1, 16])
def test_unknown_unit(unit):
    """A unit that the layer does not have is named, with those that it has."""
    with pytest.raises(AlexNetError, match=f"^conv2 has no unit {unit}$") as caught:
        find(weights_of(narrow()), "conv2", [0, unit])
    assert caught.value.hint == "its units are 0 to 15, of which tower a has 0 to 7 and tower b 8 to 15"


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"steps": 0}, "steps is 0, expected 1 or more"),
        ({"batch_size": 0}, "batch_size is 0, expected 1 or more"),
        ({"contrast": 0.0}, "contrast is 0.0, expected more than 0 and at most 255 pixel values"),
        ({"contrast": math.nan}, "contrast is nan, expected more than 0 and at most 255 pixel values"),
    ],
)
def test_impossible_options(changed, message):
    """Numbers of which no picture comes are refused before any work."""
    with pytest.raises(AlexNetError, match=f"^{message}$"):
        MaximizeOptions(**changed)
