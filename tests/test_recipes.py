"""Every recipe by its published or hand-worked counts, as a network that trains, and as a file."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.core.architecture import layer_table, parameter_shapes
from alexnet_cli.core.checkpoint import Weights, load_weights, save_weights
from alexnet_cli.core.config import read_config, write_config
from alexnet_cli.core.local import local_conv
from alexnet_cli.core.model import AlexNet, dropout_keys
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import PRESETS, bvlc, caffenet, difference, preset, tiny

CPU = torch.device("cpu")
# #146: 60,965,224 and conv6's 256 * 256 * 3 * 3 + 256. tiny: 64*75+64, 64*64*25+64, 64 places of 32*64*9+32, 64 of 32*32*9+32,
# 2048*10+10. The others: published counts of the paper's net, of #145-half and of Caffe's models.
COUNTS = {
    "original": 60_965_224,
    "one-gpu": 59_798_312,
    "no-lrn": 60_965_224,
    "no-overlap": 60_965_224,
    "pretrained": 61_555_304,
    "bvlc": 60_965_224,
    "caffenet": 60_965_224,
    "tiny": 4_864 + 102_464 + 1_181_696 + 591_872 + 20_490,
}


def narrow(recipe: Recipe) -> Recipe:
    """Return a recipe with few channels."""
    return replace(recipe, channels=(8, 8, 8, 8, 8, 8)[: len(recipe.channels)], hidden=(16,) * len(recipe.hidden), batch_size=2)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    """Table and shapes have the parameters that are published, or that were counted by hand."""
    num_classes = 10 if name == "tiny" else 1000
    rows = layer_table(preset(name), num_classes)
    assert sum(row.parameters for row in rows) == COUNTS[name]
    assert sum(math.prod(shape) for shape in parameter_shapes(preset(name), num_classes).values()) == COUNTS[name]


def test_sizes_without_overlap():
    """Pooling of 2/2 makes 55>28>26>13>11>6, as the authors' net #147."""
    rows = {row.name: row for row in layer_table(preset("no-overlap"), 1000)}
    sides = [rows[layer].output[1] for layer in ("conv1", "conv2", "conv3", "conv5")]
    assert sides == [55, 26, 13, 11]
    assert [rows[layer].pooled[1] for layer in ("conv1", "conv2", "conv5")] == [28, 13, 6]


def test_cost_of_local_layers():
    """A local layer multiplies as often as a convolution of its size: 64 places of 32 x 64 x 9."""
    rows = {row.name: row for row in layer_table(tiny(), 10)}
    assert rows["local3"].multiply_adds == 64 * 32 * 64 * 9
    assert rows["local4"].multiply_adds == 64 * 32 * 32 * 9


@pytest.mark.parametrize(("stride", "padding", "side"), [(1, 1, 5), (2, 0, 2)])
def test_a_local_layer_by_loops(stride, padding, side):
    """Each place has its own kernels and biases: what loops over places and outputs give."""
    x, weight, bias = (
        torch.randn(2, 3, 5, 5).double(),
        torch.randn(4, 3, 3, 3, side, side).double(),
        torch.randn(4, side, side).double(),
    )
    around = F.pad(x, (padding,) * 4)
    expected = torch.zeros(2, 4, side, side).double()
    for image in range(2):
        for output in range(4):
            for i in range(side):
                for j in range(side):
                    under = around[image, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
                    expected[image, output, i, j] = (under * weight[output, :, :, :, i, j]).sum() + bias[output, i, j]
    torch.testing.assert_close(local_conv(x, weight, bias, stride, padding), expected)


def caffe(network: AlexNet, x: Tensor, *, norm_last: bool) -> Tensor:
    """Restate Caffe's forward pass in PyTorch's own functions."""
    p = dict(network.named_parameters())
    settings = {"conv1": (4, 0, 1), "conv2": (1, 2, 2), "conv3": (1, 1, 1), "conv4": (1, 1, 2), "conv5": (1, 1, 2)}
    for layer, (stride, padding, groups) in settings.items():
        x = F.relu(F.conv2d(x, p[f"{layer}.weight"], p[f"{layer}.bias"], stride, padding, groups=groups))
        if layer in ("conv1", "conv2"):
            x = x if norm_last else F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0) if norm_last else x
    x = F.max_pool2d(x, 3, 2, ceil_mode=True).flatten(1)
    for layer in ("fc6", "fc7"):
        x = F.relu(F.linear(x, p[f"{layer}.weight"], p[f"{layer}.bias"]))
    return F.linear(x, p["fc8.weight"], p["fc8.bias"])


@pytest.mark.parametrize("recipe", [bvlc(), caffenet()], ids=lambda recipe: recipe.name)
def test_caffes_networks(recipe):
    """A test pass of Caffe's copies is that of their published layers, with norms over all channels."""
    network = AlexNet(narrow(recipe), 7, seed=0).double()
    x = 50 * torch.randn(2, 3, 227, 227, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        torch.testing.assert_close(network(x), caffe(network, x, norm_last=recipe.name == "caffenet"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PRESETS)
def test_a_step_reaches_every_parameter(name):
    """From a training pass every parameter of every recipe gets a finite gradient, the weights one that is not all zero."""
    recipe = narrow(preset(name))
    network = AlexNet(recipe, 3, seed=0)
    x = 50 * torch.randn(2, 3, recipe.input_size, recipe.input_size, generator=torch.Generator().manual_seed(1))
    F.cross_entropy(network(x, dropout_keys(recipe, 0, 0, CPU)), torch.tensor([0, 1])).backward()
    for parameter, value in network.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), parameter
        assert value.grad.any() or parameter.endswith("bias"), parameter


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_survives_files(name, tmp_path):
    """TOML and a weights file give a recipe back as it was, and the tensors in its shapes."""
    recipe = narrow(preset(name))
    write_config(tmp_path / "recipe.toml", recipe.to_dict())
    assert Recipe.from_dict(read_config(tmp_path / "recipe.toml")) == recipe
    tensors = {key: torch.full(shape, 0.5) for key, shape in parameter_shapes(recipe, 2).items()}
    side = recipe.stored_size
    save_weights(tmp_path / "w.safetensors", Weights(recipe, ("a", "b"), ("a", "b"), tensors, torch.ones(3, side, side)))
    back = load_weights(tmp_path / "w.safetensors")
    assert back.recipe == recipe and back.mean.shape == (3, side, side)
    assert {key: value.shape for key, value in back.tensors.items()} == {key: value.shape for key, value in tensors.items()}


def test_tanh_is_everywhere():
    """With tanh every hidden unit answers an odd function: the sign of all weights' inputs turns with the pictures'."""
    recipe = replace(tiny(), activation="tanh")
    assert all("relu" not in row.operations for row in layer_table(recipe, 10))
    unpooled = replace(narrow(recipe), follows=("activation",) * 4, strides=(2, 2, 1, 1))
    network = AlexNet(unpooled, 10, seed=0).double()
    x = torch.randn(2, 3, 32, 32).double()
    with torch.no_grad():
        torch.testing.assert_close(network(-x), -network(x))


def test_one_thing_changes():
    """An ablation differs from original in what its name says, and in nothing else."""
    assert set(difference(preset("no-color-noise"))) == {"colour_noise"}
    assert set(difference(preset("no-dropout"))) == {"dropout"}
    assert set(difference(preset("tanh"))) == {"activation"}
    assert set(difference(preset("one-gpu"))) == {"towers", "channels"}
    assert set(difference(preset("no-lrn"))) == {"follows"}
    assert difference(preset("original")) == {}
