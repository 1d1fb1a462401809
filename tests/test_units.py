"""Which units a user means: numbers, ranges, classes and towers, and what is said of those that there are not."""

import pytest
import torch

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.recipes import one_gpu, original
from alexnet_cli.core.units import choose_units, layer_units

CLASSES = ("n01440764", "n03001627", "7", "n04120489")
WORDS = ("tench, Tinca tinca", "chair", "seven", "running shoe, sneaker")


def units(layer: str, recipe=None):
    """Return the units of a layer of a network of four classes."""
    return layer_units(Weights(recipe or original(), CLASSES, WORDS, {}, torch.empty(0)), layer)


@pytest.mark.parametrize(
    ("layer", "count", "towers"), [("conv1", 96, 2), ("conv2", 256, 2), ("conv5", 256, 2), ("fc6", 4096, 2), ("fc8", 4, 1)]
)
def test_units_of_the_papers_layers(layer, count, towers):
    """Paper 3.5's widths in two towers; the last layer has a unit for each class, in no tower."""
    assert (units(layer).count, units(layer).towers) == (count, towers)


def test_towers():
    """The first half of the units is tower a's; one tower and the last layer have no names for it."""
    of = units("conv1")
    assert [of.tower(unit) for unit in (0, 47, 48, 95)] == ["a", "a", "b", "b"]
    assert of.by_tower([60, 3, 95, 0]) == [[3, 0], [60, 95]] and of.titles() == ["tower a", "tower b"]
    for alone in (units("conv1", one_gpu()), units("fc8")):
        assert alone.tower(3) is None and alone.by_tower([2, 1]) == [[2, 1]] and alone.titles() == [""]


def test_labels():
    """Units are called by their number, those of the last layer by the first name of their class."""
    assert [units("fc7").label(12), units("fc8").label(0), units("fc8").label(3)] == ["12", "tench", "running shoe"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["3,17,40"], [3, 17, 40]),
        (["40, 3 ,17", "2"], [40, 3, 17, 2]),
        (["0-3"], [0, 1, 2, 3]),
        (["9 - 11,1,10-12"], [9, 10, 11, 1, 12]),
        (["95"], [95]),
        ([], list(range(96))),
    ],
)
def test_numbers_and_ranges(wanted, chosen):
    """Numbers and ranges with commas between, over one option or several, in the user's order, each once; without any, all."""
    assert choose_units(units("conv1"), wanted) == chosen


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["sneaker"], [3]),
        (["n03001627"], [1]),
        (["Tench"], [0]),
        (["tench, Tinca tinca"], [0]),
        (["chair,running_shoe"], [1, 3]),
        (["1,tench"], [1, 0]),
        (["2"], [2]),
        (["3"], [3]),
    ],
)
def test_classes_of_the_last_layer(wanted, chosen):
    """The last layer's units are classes too: by id or any of their names, also a name with a comma; a number is a unit's."""
    assert choose_units(units("fc8"), wanted) == chosen


def test_classes_that_share_a_name():
    """A name of two classes is refused with their ids, as the cranes and maillots of ILSVRC-2012; each id names its own class."""
    classes, words = ("n1", "n2", "n3", "a, b", "maillot"), ("crane", "Crane", "tank suit, maillot", "bar, pub", "maillot")
    of = layer_units(Weights(original(), classes, words, {}, torch.empty(0)), "fc8")
    with pytest.raises(AlexNetError) as caught:
        choose_units(of, ["crane"])
    assert (caught.value.message, caught.value.hint) == ("2 classes are called 'crane'", "name them by id: n1, n2")
    assert choose_units(of, ["n2,n1"]) == [1, 0] and choose_units(of, ["a, b"]) == [3]
    assert choose_units(of, ["maillot"]) == [4] and choose_units(of, ["tank suit, maillot"]) == [2]  # an id comes first


def test_one_tower_of_them():
    """--tower alone takes that tower's units, and with others it only checks them."""
    assert choose_units(units("conv1"), tower="b") == list(range(48, 96))
    assert choose_units(units("conv1"), ["50,48"], "b") == [50, 48]


@pytest.mark.parametrize(
    ("layer", "wanted", "tower", "message", "hint"),
    [
        ("conv1", ["96"], None, "conv1 has no unit 96", "its units are 0 to 95, of which tower a has 0 to 47 and tower b 48 to 95"),
        (
            "conv1",
            ["90-99"],
            None,
            "conv1 has no unit 99",
            "its units are 0 to 95, of which tower a has 0 to 47 and tower b 48 to 95",
        ),
        ("fc8", ["4"], None, "fc8 has no unit 4", "its units are 0 to 3"),
        ("conv1", ["5-3"], None, "5-3 is a range that ends before it begins", "write 3-5"),
        (
            "conv1",
            ["-3"],
            None,
            "'-3' is no unit of conv1, expected numbers and ranges, such as 3,17,40 or 0-15",
            "only the units of",
        ),
        ("conv1", ["3,,4"], None, "'' is no unit of conv1", "only the units of the last layer have names"),
        ("conv1", ["²"], None, "'²' is no unit of conv1", ""),
        ("conv1", ["9" * 30], None, "is no unit of conv1", ""),
        ("fc7", ["sneaker"], None, "'sneaker' is no unit of fc7", "only the units of the last layer have names"),
        ("fc8", ["sneker"], None, "'sneker' is no unit of fc8, expected numbers and ranges, such as 3,17,40 or 0-15, or a", ""),
        ("fc8", ["chairs"], None, "'chairs' is no unit of fc8", "did you mean chair?"),
        ("fc8", ["zebra"], None, "'zebra' is no unit of fc8", "its classes are tench, chair, seven, running shoe"),
        ("conv1", ["3,50"], "b", "unit 3 of conv1 is not in tower b", "tower a has 0 to 47"),
        ("fc8", [], "a", "fc8 has no tower a: its units are in no tower", "leave --tower out"),
        ("conv9", [], None, "no layer named 'conv9'", "its layers are conv1"),
    ],
)
def test_what_is_no_unit(layer, wanted, tower, message, hint):
    """What there is not is named, with what there is."""
    with pytest.raises(AlexNetError) as caught:
        choose_units(units(layer), wanted, tower)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_network_of_one_tower_has_no_tower_b():
    """--tower means nothing where there is one tower."""
    with pytest.raises(AlexNetError, match="conv1 has no tower b: this network has one tower"):
        choose_units(units("conv1", one_gpu()), tower="b")
