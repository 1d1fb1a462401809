"""Starting from trained weights: what is taken, what is new, what is refused and what is told."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.errors import CheckpointError, RecipeError
from alexnet_cli.core.initial import UNRELATED, choose_initial, differences, initial_tensors, parse_layers, start_from
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import LAYERS, Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.towers import Layout
from tests.networks import narrow

CLASSES = ("ant", "bee", "cat", "dog")


class Told(Reporter):
    """Keeps notes and warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a weights file of a narrow network with four classes, whose biases differ from class to class."""
    path = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    tensors = AlexNet(narrow(), 4, seed=9).state_dict()
    tensors["fc8.bias"] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    save_weights(path, Weights(narrow(), CLASSES, CLASSES, tensors, torch.zeros(3, 256, 256)))
    return path


def choose(trained: Path, layers: str = "all", recipe: Recipe | None = None, classes=CLASSES, told: Reporter | None = None):
    """Return what is taken from the file."""
    return choose_initial(str(trained), layers, runs=Path("none"), recipe=recipe or narrow(), classes=classes, reporter=told)


def begun(initial, layout: Layout | None = None, classes: int = 4) -> dict[str, torch.Tensor]:
    """Return a network's weights, drawn from seed 3, after it was started from some tensors."""
    network = AlexNet(narrow(), classes, layout=layout or Layout(), seed=3)
    start_from(network, initial_tensors(initial))
    return network.state_dict()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", LAYERS),
        ("conv1", ("conv1",)),
        ("conv1-conv5", LAYERS[:5]),
        ("conv4-fc6", ("conv4", "conv5", "fc6")),
        (" conv2 , conv1", ("conv1", "conv2")),
        ("conv1-conv2,conv2,fc7 - fc8", ("conv1", "conv2", "fc7", "fc8")),
    ],
)
def test_layers_are_named(text, expected):
    """Names, ranges and both, in whatever order, once each and in the network's order."""
    assert parse_layers(text, LAYERS) == expected


@pytest.mark.parametrize("text", ["", "conv6", "conv1,", "conv1-", "-conv2", "conv5-conv1", "conv1-conv2-conv3", "All"])
def test_layers_that_do_not_exist(text):
    """What names no layers is refused with those that there are."""
    with pytest.raises(RecipeError, match=r"no layers .*, expected some of conv1, conv2"):
        parse_layers(text, LAYERS)


def test_taken_layers_bit_for_bit_and_the_rest_from_the_seed(trained):
    """conv1 to conv3 are the file's; all others are those of a start from the same seed without a file."""
    from_file, from_seed = AlexNet(narrow(), 4, seed=9).state_dict(), AlexNet(narrow(), 4, seed=3).state_dict()
    for name, value in begun(choose(trained, "conv1-conv3")).items():
        taken = name.split(".")[0] in ("conv1", "conv2", "conv3")
        assert torch.equal(value, (from_file if taken else from_seed)[name]), name


@pytest.mark.parametrize("tower", [0, 1])
def test_each_tower_takes_its_half(trained, tower):
    """Tower a starts with the first half of each layer's outputs and fc8, tower b with the second half."""
    whole = begun(choose(trained))
    held = begun(choose(trained), Layout(tower, 2))
    assert ("fc8.weight" in held) == (tower == 0)
    for name, value in held.items():
        half = len(whole[name]) // 2
        expected = whole[name] if name.startswith("fc8") else whole[name][tower * half : (tower + 1) * half]
        assert torch.equal(value, expected), name


def test_the_same_classes_in_another_order(trained):
    """Rows and biases of fc8 go to their class's place, and a note says so."""
    told = Told()
    held = begun(choose(trained, classes=("dog", "ant", "cat", "bee"), told=told))
    assert held["fc8.bias"].tolist() == [3.0, 0.0, 2.0, 1.0]
    before = AlexNet(narrow(), 4, seed=9).state_dict()["fc8.weight"]
    assert torch.equal(held["fc8.weight"], torch.stack([before[3], before[0], before[2], before[1]]))
    assert told.notes[0].endswith("; fc8's outputs are put in this data's order of classes")
    assert not told.warnings


@pytest.mark.parametrize("classes", [("ant", "bee", "cat"), ("ant", "bee", "cat", "fox"), (*CLASSES, "fox")])
def test_other_classes_get_a_new_last_layer(trained, classes):
    """Fewer, other or more classes: fc8 is drawn from the seed, the rest is taken, and a note says so."""
    told = Told()
    initial = choose(trained, classes=classes, told=told)
    assert initial.layers == LAYERS[:-1]
    held, fresh = begun(initial, classes=len(classes)), AlexNet(narrow(), len(classes), seed=3).state_dict()
    assert torch.equal(held["fc8.weight"], fresh["fc8.weight"])
    assert torch.equal(held["fc7.weight"], AlexNet(narrow(), 4, seed=9).state_dict()["fc7.weight"])
    assert told.notes == [f"{', '.join(LAYERS[:-1])} start from {trained}; new: fc8 (the classes are others)"]


def test_fc8_of_other_classes_cannot_be_asked_for(trained):
    """Named outright, an fc8 that cannot be taken is refused instead of left out."""
    with pytest.raises(CheckpointError, match=r"fc8 in .* is for other classes than the 3 here"):
        choose(trained, "conv1-fc8", classes=CLASSES[:3])


def test_shapes_that_differ_are_refused(trained):
    """The tensors are named with both shapes; layers that fit can be taken alone."""
    wide = narrow(channels=(8, 16, 24, 24, 32))
    with pytest.raises(CheckpointError) as caught:
        choose(trained, recipe=wide)
    assert caught.value.message == (
        f"{trained} does not fit this recipe: conv5.weight is (16, 12, 3, 3), expected (32, 12, 3, 3); "
        "conv5.bias is (16,), expected (32,); fc6.weight is (32, 576), expected (32, 1152)"
    )
    assert choose(trained, "conv1-conv4", wide).layers == LAYERS[:4]


def test_what_changes_the_layers_is_told(trained):
    """Fields that change what trained layers compute are named with both values; those of the training are not."""
    told = Told()
    choose(trained, recipe=replace(narrow(), lrn_k=1.0, channel_order="bgr", activation="tanh"), told=told)
    assert told.warnings == [
        f"the layers of {trained} were trained with channel_order rgb (here bgr), activation relu (here tanh), "
        "lrn_k 2.0 (here 1.0): here they compute something else"
    ]
    other = replace(narrow(), epochs=3, learning_rate=0.5, mirror=False, layer_rates={"conv1": 0.0}, schedule="plateau", name="x")
    assert differences(narrow(), other) == ""


def test_every_field_is_known():
    """A field that was renamed does not stay behind in the list of those that change nothing."""
    assert {field.name for field in fields(Recipe)} >= UNRELATED
