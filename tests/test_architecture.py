import dataclasses

import pytest
import torch

from alexnet_cli.core.architecture import LayerRow, layer_table, pooled_size
from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original, paper

ONE_TOWER = dataclasses.replace(original(), towers=1)
HALF_145 = Recipe(towers=1, channels=(48, 128, 192, 192, 256))
TORCHVISION = Recipe(
    towers=1,
    channels=(64, 192, 384, 256, 256),
    input_padding=(2, 2),
    follows=("activation pool", "activation pool", "activation", "activation", "pool activation"),
    dropout_before=True,
)
CAFFE = Recipe(input_size=227, input_padding=(0, 0))


def table(recipe: Recipe) -> dict[str, LayerRow]:
    """Rows by name, for 1,000 classes."""
    return {row.name: row for row in layer_table(recipe, 1000)}


def total_parameters(recipe: Recipe) -> int:
    """Sum over the rows, for 1,000 classes."""
    return sum(row.parameters for row in layer_table(recipe, 1000))


# The 2012 configuration of net #145 (both towers), the paper's section 3.5, and sums worked out from them by hand.
EXPECTED = {
    # name: kernel, stride, padding, inputs of a unit, output, pooled, parameters, multiply-adds, crossing, back
    "input": (0, 0, (0, 0), 0, (3, 224, 224), (3, 224, 224), 0, 0, 0, False),
    "conv1": (11, 4, (0, 3), 3, (96, 55, 55), (96, 27, 27), 34_944, 105_415_200, 0, False),
    "conv2": (5, 1, (2, 2), 48, (256, 27, 27), (256, 13, 13), 307_456, 223_948_800, 0, False),
    "conv3": (3, 1, (1, 1), 256, (384, 13, 13), (384, 13, 13), 885_120, 149_520_384, 21_632, True),
    "conv4": (3, 1, (1, 1), 192, (384, 13, 13), (384, 13, 13), 663_936, 112_140_288, 0, False),
    "conv5": (3, 1, (1, 1), 192, (256, 13, 13), (256, 6, 6), 442_624, 74_760_192, 0, False),
    "fc6": (0, 0, (0, 0), 9216, (4096, 1, 1), (4096, 1, 1), 37_752_832, 37_748_736, 4608, True),
    "fc7": (0, 0, (0, 0), 4096, (4096, 1, 1), (4096, 1, 1), 16_781_312, 16_777_216, 2048, True),
    "fc8": (0, 0, (0, 0), 4096, (1000, 1, 1), (1000, 1, 1), 4_097_000, 4_096_000, 2048, False),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_layer_of_145(name):
    """Each row of net #145 has the published sizes and counts."""
    row = table(original())[name]
    found = (row.kernel, row.stride, row.padding, row.inputs, row.output, row.pooled, row.parameters, row.multiply_adds)
    assert (*found, row.crossing, row.crosses_back) == EXPECTED[name]


def test_rows_are_in_order():
    """The rows go from the input to fc8 without a gap."""
    assert [row.name for row in layer_table(original(), 1000)] == list(EXPECTED)


def test_totals_of_145():
    """The whole network has 60,965,224 parameters and 724,406,816 multiply-adds, of them 665,784,864 in convolutions."""
    rows = layer_table(original(), 1000)
    assert sum(row.parameters for row in rows) == 60_965_224
    assert sum(row.multiply_adds for row in rows) == 724_406_816
    assert sum(row.multiply_adds for row in rows if row.name.startswith("conv")) == 665_784_864
    assert sum(row.multiply_adds for row in rows if row.name.startswith("fc")) == 58_621_952


def test_neurons_of_the_paper():
    """Units without the input are 659,272: the paper's abstract says 650,000."""
    rows = layer_table(original(), 1000)[1:]
    assert sum(row.output[0] * row.output[1] * row.output[2] for row in rows) == 659_272
    assert table(original())["input"].output[0] * 224 * 224 == 150_528


def test_operations_follow_the_recipe():
    """The order within a layer is the recipe's: before the ReLU in net #145's first layer, after it in the paper."""
    assert table(original())["conv1"].operations == ("conv", "lrn", "pool", "relu")
    assert table(paper())["conv1"].operations == ("conv", "relu", "lrn", "pool")
    assert table(original())["conv2"].operations == ("conv", "relu", "lrn", "spatial", "pool")
    assert table(original())["conv4"].operations == ("conv", "relu")
    assert table(original())["fc6"].operations == ("fc", "relu", "dropout")
    assert table(TORCHVISION)["fc6"].operations == ("dropout", "fc", "relu")
    assert table(original())["fc8"].operations == ("fc",)


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [(ONE_TOWER, 62_378_344), (HALF_145, 59_798_312), (TORCHVISION, 61_100_840), (CAFFE, 60_965_224)],
    ids=["ungrouped", "145-half", "torchvision", "caffe"],
)
def test_parameters_of_known_relatives(recipe, parameters):
    """The one-tower net, the ablation net, torchvision's and Caffe's have their published numbers of parameters."""
    assert total_parameters(recipe) == parameters


def test_torchvision_s_sizes():
    """With two zeros around a 224 input the maps are 55, 27, 13 and 6 as in the original."""
    rows = table(TORCHVISION)
    assert rows["conv1"].output == (64, 55, 55) and rows["conv1"].padding == (2, 2)
    assert [rows[name].pooled[1] for name in ("conv1", "conv2", "conv5")] == [27, 13, 6]


def test_caffe_s_sizes():
    """A 227 input without zeros gives the same 55."""
    assert table(CAFFE)["conv1"].output == (96, 55, 55)


def test_one_tower_sends_nothing():
    """Nothing crosses where there is one tower, and every layer reads all channels."""
    rows = table(ONE_TOWER)
    assert not any(row.crossing or row.crosses_back for row in rows.values())
    assert [rows[name].inputs for name in ("conv2", "conv4", "conv5")] == [96, 384, 384]


def test_more_layers_may_read_both_towers():
    """A recipe in which conv2 reads both towers sends half of layer 1 each way and has the ungrouped weights there."""
    row = table(Recipe(reads_both_towers=("conv2", "conv3", "fc6", "fc7", "fc8")))["conv2"]
    assert (row.inputs, row.crossing, row.crosses_back) == (96, 48 * 27 * 27, True)
    assert row.parameters == 256 * 96 * 25 + 256


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [(55, 3, 2, 27), (27, 3, 2, 13), (13, 3, 2, 6), (55, 2, 2, 28), (13, 2, 2, 7), (5, 1, 3, 2)],
)
def test_pooled_sizes(size, window, stride, expected):
    """Pooling rounds up: 55 gives 28 in the paper's non-overlapping ablation; PyTorch agrees."""
    assert pooled_size(size, window, stride) == expected
    assert torch.nn.functional.max_pool2d(torch.zeros(1, 1, size, size), window, stride, ceil_mode=True).shape[-1] == expected


@pytest.mark.parametrize("recipe", [original(), ONE_TOWER, HALF_145, TORCHVISION, CAFFE, Recipe(pool_size=2)])
def test_table_agrees_with_the_network(recipe):
    """The table counts, without building anything, what the built network has."""
    with torch.device("meta"):
        network = AlexNet(recipe, 10)
    for row in layer_table(recipe, 10)[1:]:
        assert row.parameters == sum(value.numel() for name, value in network.named_parameters() if name.startswith(row.name)), (
            row.name
        )


def test_pools_that_round_down():
    """The ONNX model zoo's sizes: 224 pixels give 54, pooled to 26, then 12, then 6."""
    recipe = dataclasses.replace(CAFFE, input_size=224, pools_rounded_down=("conv1", "conv2"))
    rows = {row.name: row for row in layer_table(recipe, 1000)}
    assert [rows[layer].output[1] for layer in ("conv1", "conv2", "conv5")] == [54, 26, 12]
    assert [rows[layer].pooled[1] for layer in ("conv1", "conv2", "conv5")] == [26, 12, 6]
    with pytest.raises(RecipeError, match="pools_rounded_down names"):
        dataclasses.replace(CAFFE, pools_rounded_down=("fc6",))
