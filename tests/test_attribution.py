"""Deconvnet, guided back-propagation and gradient against Captum on torch's own modules, and against the way back written out."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_cli.core.attribution import METHODS, deconvolve, gradient, guided
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import preset
from tests.networks import narrow

TORCHVISION: dict[str, Any] = {
    "pixel_scale": 1 / 255,
    "pixel_stdevs": (0.229, 0.224, 0.225),
    "dropout_before": True,
    "dropout_inverted": True,
}


def network_of(recipe: Recipe) -> AlexNet:
    """A network in float64, of which about half the units are active whatever they see."""
    network = AlexNet(recipe, 7, seed=0).double().requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(5)
    for name, values in network.named_parameters():
        if name.endswith("weight"):
            values.mul_(3)
        else:
            values.copy_(torch.randn(values.shape, generator=generator, dtype=torch.float64) / 10)
    return network


def pictures(recipe: Recipe, count: int = 3) -> Tensor:
    """Random inputs in the scale of the network."""
    shape = (count, 3, recipe.input_size, recipe.input_size)
    pixels = 60 * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return pixels * recipe.pixel_scale / torch.tensor(recipe.pixel_stdevs, dtype=torch.float64)[:, None, None]


# The same network of torch's modules ------------------------------------------------------------------------------------------


class Run(nn.Module):
    """A function as a module; straight: what comes back passes it unchanged."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, straight: bool = False) -> None:
        super().__init__()
        self.function, self.straight = function, straight

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return x + (self.function(x) - x).detach() if self.straight else self.function(x)


def cross_map(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """The library's norm, of each tower by itself unless the recipe says otherwise."""
    towers = 1 if recipe.lrn_crosses_towers else recipe.towers
    numbers = (recipe.lrn_size, recipe.lrn_alpha, recipe.lrn_beta, recipe.lrn_k)
    return lambda x: torch.cat([F.local_response_norm(part, *numbers) for part in x.chunk(towers, 1)], 1)


def spatial(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """Net #145's norm over 5x5 places: 0.001 times the mean of the squares, plus 1, to the power of -0.75."""
    return lambda x: x * (1 + 0.001 * F.avg_pool2d(x * x, 5, 1, 2)) ** -0.75


def local(weight_OCkkHW: Tensor, bias_OHW: Tensor) -> Callable[[Tensor], Tensor]:
    """A layer of 3x3 kernels that differ from place to place, by the library's unfolding."""
    size = weight_OCkkHW.shape[4:]
    weight_ONP = weight_OCkkHW.flatten(4).flatten(1, 3)
    return lambda x: torch.einsum("onp,bnp->bop", weight_ONP, F.unfold(x, 3, padding=1)).unflatten(2, size) + bias_OHW


def twin(network: AlexNet, layer: str, method: str) -> nn.Sequential:
    """Build the network up to a layer's sums of torch's modules, with our weights."""
    recipe, weights = network.recipe, dict(network.named_parameters())
    half = Run(lambda x: x * (1 if recipe.dropout_inverted else 1 - recipe.dropout))
    straight = method == "deconvolution"
    modules: list[nn.Module] = [nn.ZeroPad2d(recipe.input_padding * 2)]
    for index, name in enumerate(recipe.layers):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if name == recipe.full[0]:
            modules.append(nn.Flatten())
        if name in recipe.full:
            modules.append(Run(functools.partial(F.linear, weight=weight, bias=bias)))
            following = [] if name == recipe.full[-1] else [{"relu": nn.ReLU, "tanh": nn.Tanh}[recipe.activation](), half]
        else:
            stride, padding = recipe.strides[index], recipe.paddings[index]
            groups = 2 if recipe.towers == 2 and name in ("conv2", "conv4", "conv5") else 1
            conv = nn.Conv2d(weight.shape[1] * groups, len(weight), weight.shape[2], stride, padding, groups=groups)
            conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
            modules.append(Run(local(weight, bias)) if name.startswith("local") else conv)
            made: dict[str, Callable[[], nn.Module]] = {
                "pool": lambda: nn.MaxPool2d(recipe.pool_size, recipe.pool_stride, ceil_mode=True),
                "lrn": lambda: Run(cross_map(recipe), straight=straight),
                "spatial": lambda: Run(spatial(recipe), straight=straight),
                "activation": nn.ReLU if recipe.activation == "relu" else nn.Tanh,
            }
            following = [made[operation]() for operation in recipe.follows[index].split()]
        if name == layer:
            break
        modules += following
    return nn.Sequential(*modules)


CASES = [
    (recipe, layer)
    for recipe, layers in {
        "no-lrn": ("conv1", "conv2", "conv3", "conv5", "fc6", "fc8"),
        "original": ("conv2", "conv3", "conv5", "fc8"),
        "no-overlap": ("conv5",),
        "caffenet": ("conv3", "fc7"),
        "tanh": ("conv4",),
        "tiny": ("conv2", "local4", "fc5"),
    }.items()
    for layer in layers
]


def recipe_of(name: str) -> Recipe:
    """A narrow recipe, for which the layers of `tiny` are narrow enough."""
    return preset(name) if name == "tiny" else narrow(preset(name))


@pytest.mark.parametrize("method", ["deconvolution", "guided", "gradient"])
@pytest.mark.parametrize(("name", "layer"), CASES)
def test_like_captum(name, layer, method):
    """Captum gives the same for the same network of torch's modules: grouped, local, normed, pooled in any way, RGB or BGR."""
    captum = pytest.importorskip("captum.attr", reason="Captum is not installed")
    recipe = recipe_of(name)
    network, x = network_of(recipe), pictures(recipe)
    units = [1, 0, 3]
    places = [(5, 2), (0, 0), (3, 7)] if layer in recipe.maps else [(), (), ()]
    of_captum = {"deconvolution": captum.Deconvolution, "guided": captum.GuidedBackprop, "gradient": captum.Saliency}[method]
    targets: Any = [(unit, *place) for unit, place in zip(units, places, strict=True)] if layer in recipe.maps else units
    signed = {"abs": False} if method == "gradient" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of its hooks
        expected = of_captum(twin(network, layer, method)).attribute(x.clone().requires_grad_(), targets, **signed).detach()
    expected = expected.flip(1) if recipe.channel_order == "bgr" else expected
    found = METHODS[method](network, x, layer, units, places)
    assert expected.abs().amax(dim=(1, 2, 3)).min() > 0
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


# The way back written out -----------------------------------------------------------------------------------------------------


def unpool(signal: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    """Put each value where the largest of its window was; where windows overlap, values add up."""
    flat = torch.zeros_like(like).flatten(2)
    return flat.scatter_add(2, indices.flatten(2), signal.flatten(2)).view_as(like)


def test_deconvnet_of_net_145_written_out():
    """From conv2 and conv3: transposed convolutions, unpooling by switches, ReLUs of what comes back, nothing for the norms."""
    network = network_of(narrow())
    w = dict(network.named_parameters())
    x = pictures(network.recipe, 1)
    conv1 = F.conv2d(F.pad(x, (0, 3, 0, 3)), w["conv1.weight"], w["conv1.bias"], stride=4)
    norm1 = cross_map(network.recipe)(conv1)
    pool1, switches1 = F.max_pool2d(norm1, 3, 2, return_indices=True)
    conv2 = F.conv2d(F.relu(pool1), w["conv2.weight"], w["conv2.bias"], padding=2, groups=2)
    norm2 = spatial(network.recipe)(cross_map(network.recipe)(F.relu(conv2)))
    _, switches2 = F.max_pool2d(norm2, 3, 2, return_indices=True)

    def from_conv2(signal: Tensor) -> Tensor:
        signal = F.relu(F.conv_transpose2d(signal, w["conv2.weight"], padding=2, groups=2))
        signal = unpool(signal, switches1, norm1)
        return F.conv_transpose2d(signal, w["conv1.weight"], stride=4)[:, :, :224, :224]

    start2 = torch.zeros_like(conv2)
    start2[0, 9, 13, 4] = 1
    torch.testing.assert_close(deconvolve(network, x, "conv2", [9], [(13, 4)]), from_conv2(start2))
    start3 = torch.zeros(1, 24, 13, 13, dtype=torch.float64)
    start3[0, 20, 0, 12] = 1
    signal = F.conv_transpose2d(start3, w["conv3.weight"], padding=1)
    expected = from_conv2(F.relu(unpool(signal, switches2, norm2)))
    assert expected.abs().max() > 0
    torch.testing.assert_close(deconvolve(network, x, "conv3", [20], [(0, 12)]), expected)


def test_relu_by_hand():
    """Of two hidden units, one that was off: the gradient knows the other alone, and the guided one its positive part."""
    recipe = Recipe(
        name="hand",
        stored_size=8,
        input_size=8,
        input_padding=(0, 0),
        layers=("conv1", "fc2", "fc3"),
        towers=1,
        channels=(3,),
        kernels=(8,),
        strides=(1,),
        paddings=(0,),
        follows=("activation",),
        hidden=(1,),
        reads_both_towers=("fc2", "fc3"),
        dropout=0.0,
        init_stdevs=(0.01, 0.01, 0.01),
        init_biases=(0.0, 0.0, 0.0),
        events=(),
    )
    network = AlexNet(recipe, 1).double().requires_grad_(False)
    held = dict(network.named_parameters())
    held["conv1.weight"].zero_()
    for unit in range(3):
        held["conv1.weight"][unit, unit, 0, 0] = 1  # unit 0 reads the red of the first pixel, 1 its green, 2 its blue
    held["conv1.bias"].zero_()
    held["fc2.weight"].copy_(torch.tensor([[2.0, 3.0, -5.0]]))
    held["fc2.bias"].zero_()
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    x[0, :, 0, 0] = torch.tensor([4.0, -4.0, 4.0])  # green is off
    first = {name: method(network, x, "fc2", [0], [()])[0, :, 0, 0].tolist() for name, method in METHODS.items()}
    assert first == {"gradient": [2, 0, -5], "guided": [2, 0, 0], "deconvolution": [2, 3, 0]}


@pytest.mark.parametrize("method", [deconvolve, guided, gradient])
def test_per_grey_level(method):
    """Of a network of scaled pixels it is per grey level, whatever a channel is divided by: the chain rule of that division."""
    recipe = narrow(**TORCHVISION)
    plain = network_of(narrow(dropout_before=True, dropout_inverted=True))
    network = AlexNet(recipe, 7).double().requires_grad_(False)
    network.load_state_dict(plain.state_dict())
    factors_C11 = torch.tensor([1 / (255 * stdev) for stdev in (0.229, 0.224, 0.225)], dtype=torch.float64)[:, None, None]
    x = pictures(plain.recipe, 2)
    expected = method(plain, x, "conv3", [2, 4], [(1, 1), (5, 6)]) * factors_C11
    torch.testing.assert_close(method(network, x, "conv3", [2, 4], [(1, 1), (5, 6)]), expected)


def test_each_image_by_itself():
    """Units and places of one batch do not mix, also inside torch.no_grad, and weights keep no gradient."""
    network = network_of(narrow())
    x = pictures(network.recipe, 3)
    units, places = [3, 3, 0], [(2, 2), (12, 12), (0, 5)]
    with torch.no_grad():
        together = guided(network, x, "conv4", units, places)
    for index in range(3):
        alone = guided(network, x[index : index + 1], "conv4", units[index : index + 1], places[index : index + 1])
        torch.testing.assert_close(alone[0], together[index])
    assert not together.requires_grad and all(values.grad is None for values in network.parameters())


def test_unknown_layer():
    """A layer that the network does not have is named."""
    network = network_of(narrow())
    with pytest.raises(AlexNetError, match="no layer named 'pool5' in a network of recipe original"):
        deconvolve(network, pictures(network.recipe), "pool5", [0, 0, 0], [(0, 0)] * 3)
