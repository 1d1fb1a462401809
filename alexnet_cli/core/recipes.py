"""The recipes by name: the authors' nets, the paper's text, Caffe's copies, and #145 with one thing left out (stdlib only).

Each is a function that returns what differs from net #145, `Recipe`'s defaults. Sources as in `recipe`; `#146` and the like
are other nets of the authors' release, `Caffe` the models of its repository.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.rates import EVENTS_145, EVENTS_PAPER, EVENTS_SMALL, Event
from alexnet_cli.core.recipe import LAYERS, Recipe

RELU_NORM_POOL = ("activation lrn pool", "activation lrn pool", "activation", "activation", "activation pool")
RELU_POOL_NORM = ("activation pool lrn", "activation pool lrn", "activation", "activation", "activation pool")
# Caffe: divided by ten every 100,000 of 450,000 steps, the biases with the weights.
EVENTS_CAFFE = tuple(Event(part * 100 / 450, weight_factor=10.0**-part, bias_factor=10.0**-part) for part in (1, 2, 3, 4))


def original() -> Recipe:
    """Net #145 of the authors' 2012 code, which gave the paper's 40.7 / 18.2 % on ILSVRC-2012's validation images."""
    return Recipe()


def paper() -> Recipe:
    """Build the paper's text taken literally; read so, it stays at chance for a long time."""
    return Recipe(
        name="paper",
        follows=("activation lrn pool", "activation lrn pool", "activation", "activation", "pool activation"),  # P 3.5
        lrn_alpha_divided=False,  # P 3.3's formula
        init_stdevs=(0.01,) * len(LAYERS),  # P 5
        bias_rate_factor=1.0,  # P 5: an equal rate for all layers
        bias_weight_decay=0.0005,  # P 5: one update rule is given
        epochs=90,  # P 5
        events=EVENTS_PAPER,
        crop_chunk=1,  # P 4.1: random patches
        colour_noise_scale="eigenvalue",  # P 4.1
        colour_noise_rescale=False,
        shuffle="full",
    )


def small() -> Recipe:
    """Net #145, its initial weights and update rule, with the schedule and augmentation of small data and short runs."""
    return Recipe(name="small", epochs=24, events=EVENTS_SMALL, crop_chunk=1, colour_noise=0.0, shuffle="full")


# One thing changed -----------------------------------------------------------------------------------------------------------


def one_gpu() -> Recipe:
    """Net #145-half: one tower of about as many weights (P 3.2), for which conv5 keeps the width of two."""
    return Recipe(name="one-gpu", towers=1, channels=(48, 128, 192, 192, 256))


def no_lrn() -> Recipe:
    """Net #148: without the norms of layers 1 and 2, the spatial one too (P 3.3)."""
    return Recipe(name="no-lrn", follows=("pool activation", "activation pool", "activation", "activation", "pool activation"))


def no_overlap() -> Recipe:
    """Net #147: 2/2 pooling (P 3.4), with paddings that end on 6x6 as before."""
    return Recipe(name="no-overlap", pool_size=2, pool_stride=2, paddings=(0, 1, 1, 1, 0))


def no_colour_noise() -> Recipe:
    """Without the second augmentation of P 4.1."""
    return Recipe(name="no-color-noise", colour_noise=0.0)


def no_dropout() -> Recipe:
    """Without dropout (P 4.2)."""
    return Recipe(name="no-dropout", dropout=0.0)


def tanh() -> Recipe:
    """With tanh for the ReLU (P 3.1)."""
    return Recipe(name="tanh", activation="tanh")


def pretrained() -> Recipe:
    """Net #146, the paper's CNN*: a sixth convolution over both towers' last pooled maps (P 6, table 2)."""
    return Recipe(
        name="pretrained",
        layers=(*LAYERS[:5], "conv6", *LAYERS[5:]),  # fc6 to fc8 keep their names
        channels=(96, 256, 384, 384, 256, 256),
        kernels=(11, 5, 3, 3, 3, 3),
        strides=(4, 1, 1, 1, 1, 1),
        paddings=(0, 2, 1, 1, 1, 1),
        follows=(*Recipe().follows, "activation"),
        reads_both_towers=("conv3", "conv6", "fc6", "fc7", "fc8"),
        init_stdevs=(0.01, 0.01, 0.03, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
        init_biases=(0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
        events=(*EVENTS_145[:-1], replace(EVENTS_145[-1], layers=(*LAYERS[1:5], "conv6", *LAYERS[5:]))),
    )


# Relatives -------------------------------------------------------------------------------------------------------------------


def bvlc() -> Recipe:
    """Caffe's bvlc_alexnet, the copy that most published comparisons use."""
    return Recipe(
        name="bvlc",
        input_size=227,
        input_padding=(0, 0),
        resize="warp",
        channel_order="bgr",
        mean_crop="aligned",
        follows=RELU_NORM_POOL,
        lrn_k=1.0,
        lrn_crosses_towers=True,
        dropout_inverted=True,
        init_stdevs=(0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01),
        init_biases=(0.0, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1, 0.0),
        batch_size=256,
        epochs=90,
        events=EVENTS_CAFFE,
        crop_chunk=1,
        colour_noise=0.0,
        test_crops=1,
    )


def caffenet() -> Recipe:
    """Caffe's bvlc_reference_caffenet: normalised after the pooling, biases of 1."""
    return replace(bvlc(), name="caffenet", follows=RELU_POOL_NORM, init_biases=(0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0))


def tiny() -> Recipe:
    """The authors' four layers for CIFAR-10's 32x32 pictures (layers-conv-local-13pct.cfg), as in P 3.1's figure 1."""
    # DEPARTS tiny-net: the released file does not say what figure 1's net was; docs/decisions.md lists what is chosen here.
    return Recipe(
        name="tiny",
        stored_size=32,
        input_size=32,
        input_padding=(0, 0),
        layers=("conv1", "conv2", "local3", "local4", "fc5"),
        towers=1,
        channels=(64, 64, 32, 32),
        kernels=(5, 5, 3, 3),
        strides=(1, 1, 1, 1),
        paddings=(2, 2, 1, 1),
        follows=("pool activation", "pool activation", "activation", "activation"),
        hidden=(),
        reads_both_towers=("fc5",),
        dropout=0.0,
        init_stdevs=(0.0001, 0.01, 0.04, 0.04, 0.01),
        init_biases=(0.0, 0.0, 0.0, 0.0, 0.0),
        learning_rate=0.001,
        weight_decay=0.0,  # P figure 1: no regularisation of any kind
        epochs=40,
        events=(),
        mirror=False,
        crop_chunk=1,
        colour_noise=0.0,
        shuffle="full",
        test_crops=1,
    )


@dataclass(frozen=True)
class Entry:
    """A recipe by name. effect: what is published of it, empty where nothing is."""

    build: Callable[[], Recipe]
    effect: str = ""


# Errors in %, top-1 / top-5; what an ablation costs in points. val: ILSVRC-2012's validation images.
ENTRIES = {
    "original": Entry(original, "40.7 / 18.2 on val, ten views (P table 2)"),
    "paper": Entry(paper),
    "small": Entry(small),
    "one-gpu": Entry(one_gpu, "+1.7 / +1.2 points (P 3.2); 39.17 / 18.23 on the 2010 test set"),
    "no-lrn": Entry(no_lrn, "+1.4 / +1.2 points (P 3.3); 42.03 / 19.36 on val"),
    "no-overlap": Entry(no_overlap, "+0.4 / +0.3 points (P 3.4)"),
    "no-color-noise": Entry(no_colour_noise, "over +1 point top-1 (P 4.1)"),
    "no-dropout": Entry(no_dropout, "substantial overfitting in half the iterations (P 4.2)"),
    "tanh": Entry(tanh, "six times as long to 25 % training error, on CIFAR-10 (P figure 1)"),
    "pretrained": Entry(pretrained, "39.0 / 16.6 on val, pre-trained on Fall 2011 (P table 2)"),
    "bvlc": Entry(bvlc, "42.9 / 19.8 on val, centre (Caffe)"),
    "caffenet": Entry(caffenet, "42.6 / 19.6 on val, centre (Caffe)"),
    "tiny": Entry(tiny, "13 % on CIFAR-10, 11 % with response normalisation (P 3.3)"),
}
PRESETS = {name: entry.build for name, entry in ENTRIES.items()}


def preset(name: str) -> Recipe:
    """Return the recipe of that name. Raises RecipeError for another name."""
    if name not in PRESETS:
        raise RecipeError(f"no recipe named {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def difference(recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the fields, but the name, in which a recipe is not `original`: its value and the original's, by the field."""
    base = original()
    pairs = {entry.name: (getattr(recipe, entry.name), getattr(base, entry.name)) for entry in fields(Recipe)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name != "name"}


def spoken(field: str, value: Any) -> str:
    """Return a field's value as people read it."""
    if field == "events":
        return "; ".join(f"x{event.weight_factor:g} from {event.at:.0%} on" for event in value) or "none"
    if field == "follows":
        return "; ".join(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
