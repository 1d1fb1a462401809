"""The network against the paper's counts and against a plain assembly of torch's own functions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from alexnet_cli.core import dropout
from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.model import AlexNet, dropout_keys
from alexnet_cli.core.recipe import LAYERS, Recipe
from alexnet_cli.core.recipes import original, paper
from tests.networks import narrow

CPU = torch.device("cpu")


def images(count: int = 2, size: int = 224, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return random pictures at the scale of pixels minus the mean."""
    return torch.randn(count, 3, size, size, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 60


def spatial_reference(x):
    """Return net #145's cnorm2 by unfolding every 5x5 window."""
    B, C, H, W = x.shape
    windows = F.unfold(x.reshape(B * C, 1, H, W), 5, padding=2)
    return x / (1 + 0.001 / 25 * (windows**2).sum(1).view(B, C, H, W)) ** 0.75


def towers_reference(network: AlexNet, x: torch.Tensor, masks: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Return net #145's logits from two explicit towers, each with its own weights, and torch's own layers."""
    p = {name: value.detach() for name, value in network.named_parameters()}

    def layer(name, inputs, tower, stride=1, padding=0):
        weight, bias = p[f"{name}.weight"].chunk(2)[tower], p[f"{name}.bias"].chunk(2)[tower]
        return F.conv2d(inputs, weight, bias, stride, padding)

    def norm(maps):
        return F.local_response_norm(maps, 5, 1e-4, 0.75, 2.0)

    x = F.pad(x, (0, 3, 0, 3))
    own = [F.relu(F.max_pool2d(norm(layer("conv1", x, tower, 4)), 3, 2)) for tower in (0, 1)]
    own = [F.relu(layer("conv2", own[tower], tower, 1, 2)) for tower in (0, 1)]
    own = [F.max_pool2d(spatial_reference(norm(maps)), 3, 2) for maps in own]
    both = torch.cat(own, 1)
    own = [F.relu(layer("conv3", both, tower, 1, 1)) for tower in (0, 1)]
    own = [F.relu(layer("conv4", own[tower], tower, 1, 1)) for tower in (0, 1)]
    own = [F.relu(F.max_pool2d(layer("conv5", own[tower], tower, 1, 1), 3, 2)) for tower in (0, 1)]
    hidden = torch.cat([maps.flatten(1) for maps in own], 1)
    for name in ("fc6", "fc7"):
        hidden = F.relu(F.linear(hidden, p[f"{name}.weight"], p[f"{name}.bias"]))
        hidden = hidden * (0.5 if masks is None else masks[name])
    return F.linear(hidden, p["fc8.weight"], p["fc8.bias"])


def test_counts_of_the_paper():
    """The two-tower network has 60,965,224 parameters, in the shapes of the groups."""
    with torch.device("meta"):
        network = AlexNet(original(), 1000)
    counts = {layer: sum(p.numel() for p in getattr(network, layer).parameters()) for layer in LAYERS}
    assert sum(counts.values()) == 60_965_224
    assert counts["conv1"] == 34_944 and counts["conv2"] == 307_456 and counts["conv3"] == 885_120
    assert counts["conv4"] == 663_936 and counts["conv5"] == 442_624
    assert counts["fc6"] == 37_752_832 and counts["fc7"] == 16_781_312 and counts["fc8"] == 4_097_000
    shapes = parameter_shapes(original(), 1000)
    assert shapes["conv2.weight"] == (256, 48, 5, 5)
    assert shapes["conv3.weight"] == (384, 256, 3, 3)
    assert shapes["fc6.weight"] == (4096, 9216)


def test_one_tower_counts():
    """Without groups the same widths have 62,378,344 parameters."""
    with torch.device("meta"):
        network = AlexNet(replace(original(), towers=1), 1000)
    assert sum(p.numel() for p in network.parameters()) == 62_378_344


def test_two_towers_by_hand():
    """The network's test pass is that of two explicit towers that meet before conv3, fc6, fc7 and fc8."""
    network = AlexNet(narrow(), 7, seed=0).double()
    with torch.no_grad():
        torch.testing.assert_close(network(images()), towers_reference(network, images()), rtol=1e-10, atol=1e-12)


def test_training_pass_drops_without_rescaling():
    """In training, dropped units are zero and the others are as they are (paper 4.2), not doubled."""
    network = AlexNet(narrow(), 7, seed=0).double()
    keys = dropout_keys(original(), 0, 5, CPU)
    masks = {layer: dropout.kept_units(keys[layer], 2, 0, 32, 0.5) for layer in ("fc6", "fc7")}
    with torch.no_grad():
        torch.testing.assert_close(network(images(), keys), towers_reference(network, images(), masks), rtol=1e-10, atol=1e-12)
    assert not torch.equal(network(images(), keys), network(images(), dropout_keys(original(), 0, 6, CPU)))


def test_inverted_dropout_is_another_function():
    """Recipes with inverted dropout double in training and leave a test pass alone."""
    network = AlexNet(narrow(dropout_inverted=True), 7, seed=0).double()
    plain = AlexNet(narrow(), 7, seed=0).double()
    with torch.no_grad():
        for name in ("fc7", "fc8"):  # what reads a dropped layer sees half of it in the plain network's test pass
            getattr(plain, name).weight.mul_(2)
        torch.testing.assert_close(network(images()), plain(images()), rtol=1e-10, atol=1e-12)


def test_the_text_normalises_after_the_relu():
    """The paper's own order, with its undivided alpha: torch's norm with five times the alpha, behind the ReLU."""
    recipe = narrow(paper())
    network = AlexNet(recipe, 7, seed=0).double()
    p = {name: value.detach() for name, value in network.named_parameters()}
    with torch.no_grad():
        x = F.relu(F.conv2d(F.pad(images(), (0, 3, 0, 3)), p["conv1.weight"], p["conv1.bias"], 4))
        x = torch.cat([F.local_response_norm(half, 5, 5e-4, 0.75, 2.0) for half in x.chunk(2, 1)], 1)
        expected = F.max_pool2d(x, 3, 2)
        found = network._follow("conv1", F.conv2d(F.pad(images(), (0, 3, 0, 3)), p["conv1.weight"], p["conv1.bias"], 4))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_torchvisions_network_can_be_built():
    """With torchvision's column of the differences, our network is torchvision's to rounding."""
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.alexnet().eval()
    recipe = Recipe(
        towers=1,
        input_padding=(2, 2),
        channels=(64, 192, 384, 256, 256),
        follows=("activation pool", "activation pool", "activation", "activation", "activation pool"),
        dropout_inverted=True,
        dropout_before=True,
    )
    ours = AlexNet(recipe, 1000)
    ours.load_state_dict(dict(zip(dict(ours.named_parameters()), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_initial_weights():
    """Weights are Gaussian with net #145's deviations, biases the paper's constants."""
    network = AlexNet(original(), 10, seed=3)
    for layer, stdev in zip(LAYERS, (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01), strict=True):
        weight = getattr(network, layer).weight.detach()
        count = weight.numel()
        assert abs(weight.std().item() / stdev - 1) < 5 / (2 * count) ** 0.5
        assert abs(weight.mean().item()) < 5 * stdev / count**0.5
    for layer, bias in zip(LAYERS, (0, 1, 0, 1, 1, 1, 1, 0), strict=True):
        assert (getattr(network, layer).bias == bias).all()


def test_loss_at_the_start_is_that_of_chance():
    """Before training, the logits of #145 vary over images by some hundredths: the loss is close to ln 1000."""
    network = AlexNet(original(), 1000, seed=0)
    with torch.no_grad():
        logits = network(images(4, dtype=torch.float32))
    spread = logits.std(dim=0).mean().item()
    loss = F.cross_entropy(logits, torch.arange(4)).item()
    assert 0.001 < spread < 0.5
    assert 6.4 < loss < 7.6


def test_default_initial_weights():
    """A deviation of None is PyTorch's default: uniform up to one over the root of the inputs."""
    network = AlexNet(narrow(init_stdevs=(None,) * 8, init_biases=(None,) * 8), 7, seed=0)
    for layer in LAYERS:
        weight = getattr(network, layer).weight.detach()
        bound = weight[0].numel() ** -0.5
        assert 0.9 * bound < weight.abs().max() <= bound
        assert getattr(network, layer).bias.abs().max() <= bound


def test_pooling_rounds_up():
    """The paper's ablation pools 2/2 without overlap: 55 gives 28, and the last map is 6x6 wide through rounding up."""
    with torch.device("meta"):
        network = AlexNet(replace(original(), pool_size=2), 10)
    assert dict(network.named_parameters())["fc6.weight"].shape[1] == 256 * 7 * 7  # 55 > 28 > 14 > 7, with the paper's own paddings


@pytest.mark.filterwarnings("ignore")  # torch warns about itself while it compiles
def test_compiled_is_eager():
    """Fused by torch.compile or not, values and gradients agree to 1e-5 in fp32."""
    x = images(4, dtype=torch.float32)
    results = []
    for fused in (False, True):
        network = AlexNet(narrow(), 7, seed=0)
        if fused:
            network.compile_normalisation()
        logits = network(x, dropout_keys(original(), 0, 1, CPU))
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad for p in network.parameters())])
    for eager, compiled in zip(*results, strict=True):
        assert (eager - compiled).norm() <= 1e-5 * eager.norm()


@pytest.mark.parametrize("groups", [1, 2])
def test_channels_last_changes_nothing(groups):
    """The layout in memory that training uses gives the same logits."""
    network = AlexNet(narrow(towers=groups), 7, seed=0).double()
    with torch.no_grad():
        expected = network(images())
        found = network.to(memory_format=torch.channels_last)(images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
