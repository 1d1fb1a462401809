"""The recipes against the paper and the log of net #145, and the checks that keep a recipe possible."""

from dataclasses import replace

import pytest

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.rates import Event
from alexnet_cli.core.recipe import LAYERS, Recipe
from alexnet_cli.core.recipes import PRESETS, original, paper, preset, small
from alexnet_cli.core.schedule import rates_at

STEPS_PER_EPOCH = 10_010  # ILSVRC-2012: 1,281,167 images in batches of 128, the last one short


def rates_in_epoch(recipe: Recipe, epoch: float):
    """Return the rates in the middle of a step that lies so many epochs after the start."""
    return rates_at(recipe, int(epoch * STEPS_PER_EPOCH), recipe.epochs * STEPS_PER_EPOCH)


@pytest.mark.parametrize(
    ("epoch", "conv1", "others", "conv1_bias", "noise"),
    [
        (0, 0.01, 0.01, 0.02, 0.1),
        (24.99, 0.01, 0.01, 0.02, 0.1),
        (25, 0.001, 0.001, 0.02, 0.1),
        (51, 0.0001, 0.0001, 0.02, 0.1),
        (67, 0.00001, 0.0001, 0.02, 0.0),
        (72, 0.0, 0.0001, 0.0, 0.0),
        (79, 0.0, 0.00001, 0.0, 0.0),
        (90.99, 0.0, 0.00001, 0.0, 0.0),
    ],
)
def test_schedule_of_net_145(epoch, conv1, others, conv1_bias, noise):
    """Every drop happens at the epoch of the authors' log, and the biases' rate of 0.02 stays but for conv1's freeze."""
    rates = rates_in_epoch(original(), epoch)
    assert rates.weights["conv1"] == pytest.approx(conv1)
    assert all(rates.weights[layer] == pytest.approx(others) for layer in LAYERS[1:])
    assert rates.biases["conv1"] == pytest.approx(conv1_bias)
    assert all(rates.biases[layer] == pytest.approx(0.02) for layer in LAYERS[1:])
    assert rates.colour_noise == noise


def test_schedule_of_the_text():
    """The text divides one rate, equal for all layers, by ten three times."""
    recipe = paper()
    found = [rates_in_epoch(recipe, epoch).weights["fc8"] for epoch in (0, 25, 51, 79)]
    assert found == pytest.approx([0.01, 0.001, 0.0001, 0.00001])
    for epoch in (0, 30, 60, 85):
        rates = rates_in_epoch(recipe, epoch)
        assert rates.weights == rates.biases


@pytest.mark.parametrize(("step", "factor"), [(0, 1), (69, 1), (70, 0.1), (89, 0.1), (90, 0.01), (99, 0.01)])
def test_schedule_for_small_data(step, factor):
    """The rate of weights and biases drops to a tenth after 70 % of the steps and again after 90 %."""
    rates = rates_at(small(), step, 100)
    assert rates.weights["conv1"] == pytest.approx(0.01 * factor)
    assert rates.biases["conv1"] == pytest.approx(0.02 * factor)
    assert rates.colour_noise == 0


def test_shortened_schedule_keeps_its_shares():
    """Halving the epochs halves the time of every event."""
    short = replace(original(), epochs=24)
    assert rates_at(short, round(25 / 91 * 240) - 1, 240).weights["fc6"] == 0.01
    assert rates_at(short, round(25 / 91 * 240), 240).weights["fc6"] == pytest.approx(0.001)


def test_batch_size_changes_no_rate():
    """Rates follow from --learning-rate alone."""
    assert rates_at(replace(original(), batch_size=256), 0, 10) == rates_at(original(), 0, 10)


def test_constants_of_net_145():
    """What the authors ran and the text does not say, or says otherwise."""
    recipe = original()
    assert list(recipe.init_stdevs) == [0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01]
    assert list(recipe.init_biases) == [0, 1, 0, 1, 1, 1, 1, 0]
    assert recipe.operations("conv1") == ("lrn", "pool", "relu")
    assert recipe.operations("conv2") == ("relu", "lrn", "spatial", "pool")
    assert (recipe.crop_chunk, recipe.shuffle, recipe.epochs) == (32, "once", 91)
    assert recipe.lrn_alpha / recipe.lrn_size == pytest.approx(2e-5)
    assert recipe.spatial_alpha / recipe.spatial_size**2 == pytest.approx(4e-5)


def test_constants_of_the_text():
    """The text's own numbers, taken literally."""
    recipe = paper()
    assert set(recipe.init_stdevs) == {0.01}
    assert recipe.operations("conv1") == recipe.operations("conv2") == ("relu", "lrn", "pool")
    assert not recipe.lrn_alpha_divided
    assert recipe.colour_noise_scale == "eigenvalue"
    assert (recipe.crop_chunk, recipe.epochs, recipe.bias_rate_factor) == (1, 90, 1)


def test_other_networks_can_be_expressed():
    """Caffe's and torchvision's columns of differences are fields, so that a recipe of theirs can be written."""
    caffe = replace(
        original(),
        input_size=227,
        input_padding=(0, 0),
        channel_order="bgr",
        mean_crop="aligned",
        resize="warp",
        follows=("activation lrn pool", "activation lrn pool", "activation", "activation", "pool activation"),
        lrn_k=1.0,
        lrn_crosses_towers=True,
        dropout_inverted=True,
    )
    torchvision = replace(
        original(),
        input_padding=(2, 2),
        pixel_scale=1 / 255,
        pixel_stdevs=(0.229, 0.224, 0.225),
        mean="channel",
        towers=1,
        channels=(64, 192, 384, 256, 256),
        follows=("activation pool", "activation pool", "activation", "activation", "activation pool"),
        dropout_inverted=True,
        dropout_before=True,
        init_stdevs=(None,) * 8,
        init_biases=(None,) * 8,
        rate_inside_velocity=False,
    )
    for recipe in (caffe, torchvision):
        assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_survives_plain_values(name):
    """What is written to a file and read back is the same recipe."""
    recipe = preset(name)
    assert recipe.name == name
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"towers": 3}, "3 towers, expected 1 or 2"),
        ({"channels": (95, 256, 384, 384, 256)}, r"widths \[95\] cannot be split over 2 towers"),
        ({"input_size": 300}, "input size 300"),
        ({"follows": ("pool",) * 4}, "4 follows, expected 5: one for each of conv1, conv2, conv3, conv4, conv5"),
        ({"follows": ("pool pool", *("activation",) * 4)}, "conv1 is followed by more than one pool"),
        ({"follows": (*("activation",) * 4, "gelu pool")}, r"conv5 is followed by unknown operations \['gelu'\]"),
        ({"layers": ("conv1", "fc2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")}, "in this order"),
        ({"layers": ("conv1", "conv1", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")}, "expected each once"),
        ({"hidden": (4096,)}, "1 hidden widths, expected 2"),
        ({"activation": "gelu"}, "activation is 'gelu', expected one of"),
        ({"stored_size": 200}, "input size 224, expected at least 8 and at most 200"),
        ({"events": (Event(0.5, layers=("conv6",)),)}, r"event names unknown layers \['conv6'\]"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 0.0}, "learning_rate is 0, expected a number above it"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"shuffle": "often"}, r"shuffle is 'often', expected one of \('once', 'full', 'block'\)"),
        ({"events": (Event(0.5), Event(0.2))}, "events are not in order"),
        ({"lrn_size": 4}, "windows must be odd"),
    ],
)
def test_impossible_recipes(changes, message):
    """A value that cannot be is refused in words."""
    with pytest.raises(RecipeError, match=message):
        replace(original(), **changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 0.1}, "unknown recipe fields: learning_rat"),
        ({"epochs": "many"}, "recipe field epochs is 'many', expected something like 91"),
        ({"channels": 96}, "recipe field channels is 96"),
        ({"channels": ["a", 256, 384, 384, 256]}, r"recipe field channels is \['a', 256"),
        ({"channels": ["96", "256", "384", "384", "256"]}, r"recipe field channels is \['96', '256'"),
        ({"channels": ["default", 256, 384, 384, 256]}, "recipe field channels is"),
        ({"hidden": [4096, True]}, "recipe field hidden is"),
        ({"reads_both_towers": [3]}, "recipe field reads_both_towers is"),
        ({"init_stdevs": [0.1, "small"]}, "recipe field init_stdevs is"),
        ({"milestones": [0.5]}, r"recipe field milestones is \[0.5\], expected something like \[30, 60, 80\]"),
        ({"layer_rates": 0.1}, "recipe field layer_rates is 0.1, expected something like {'conv1': 0.1}"),
        ({"layer_rates": {"conv1": "low"}}, "recipe field layer_rates is"),
        ({"events": [{"when": 1}]}, "recipe field events"),
        ({"events": [{"at": 2.0}]}, "expected a share of the training"),
        ({"events": [{"at": 0.5, "layers": ["conv9"]}]}, "unknown layers"),
    ],
)
def test_wrong_files(values, message):
    """A file with a wrong field says which, and what was expected."""
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(values)


def test_unknown_preset():
    """A name that is no preset is answered with those that are."""
    with pytest.raises(RecipeError, match="no recipe named 'big', expected one of original, paper, small"):
        preset("big")
