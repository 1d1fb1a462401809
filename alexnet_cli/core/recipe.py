"""One frozen dataclass says what the network is, how it starts, how it is trained and how it is tested (stdlib only).

The defaults are net #145 of the authors' released 2012 code; `recipes` has the others. Sources in the trailing comments:
`P 3.3` is a section of the NIPS 2012 paper, `#145` the configuration `layers-145.cfg` with its parameters, `code` the rest of
that release.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.rates import EVENTS_145, Event, Rates, events_from

STORED_SIZE = 256  # P 2: shorter side 256, central 256x256
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")  # P 3.5
KINDS = ("conv", "local", "fc")
OPERATIONS = ("activation", "lrn", "spatial", "pool")
CHOICES = {
    "activation": ("relu", "tanh"),
    "resize": ("short_side", "warp"),
    "channel_order": ("rgb", "bgr"),
    "mean": ("image", "channel"),
    "mean_crop": ("centre", "aligned"),
    "colour_noise_scale": ("stdev", "eigenvalue"),
    "shuffle": ("once", "full", "block"),
    "schedule": ("events", "quarters", "milestones", "plateau"),
    "test_crops": (10, 1),
}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RecipeError(message)


@dataclass(frozen=True)
class Recipe:
    """Every choice that tells one AlexNet from another; the defaults are those of the authors' net #145.

    Raises RecipeError when a value is impossible or contradicts another.
    """

    name: str = "original"

    # What the network sees
    stored_size: int = STORED_SIZE  # P 2: pictures are prepared as squares of this side
    input_size: int = 224  # P 4.1; Caffe 227
    input_padding: tuple[int, int] = (0, 3)  # code: zeros before and after each side; the 55th window ends on 3 of them
    resize: Literal["short_side", "warp"] = "short_side"  # P 2; Caffe's tutorial warps
    channel_order: Literal["rgb", "bgr"] = "rgb"  # code; Caffe BGR
    pixel_scale: float = 1.0  # code: 0-255, never divided; torchvision 1/255
    pixel_stdevs: tuple[float, float, float] = (1.0, 1.0, 1.0)  # torchvision divides by channel
    mean: Literal["image", "channel"] = "image"  # P 2, code: one mean per pixel
    mean_crop: Literal["centre", "aligned"] = "centre"  # code: the centre crop for every crop; Caffe: the crop's own place

    # Layers: conv, then local (a convolution whose kernels differ from place to place), then fc; one value for each conv or local
    layers: tuple[str, ...] = LAYERS
    towers: int = 2  # P 3.2
    channels: tuple[int, ...] = (96, 256, 384, 384, 256)  # P 3.5, both towers together
    kernels: tuple[int, ...] = (11, 5, 3, 3, 3)  # P 3.5
    strides: tuple[int, ...] = (4, 1, 1, 1, 1)  # P 3.5
    paddings: tuple[int, ...] = (0, 2, 1, 1, 1)  # #145; before conv1 `input_padding` comes on top
    # What follows each conv or local, in order. #145: layer 1 is normalised before its ReLU; the spatial norm is not in the paper
    follows: tuple[str, ...] = ("lrn pool activation", "activation lrn spatial pool", "activation", "activation", "pool activation")
    hidden: tuple[int, ...] = (4096, 4096)  # P 3.5: units of each fc but the last, which has one per class
    activation: Literal["relu", "tanh"] = "relu"  # P 3.1
    reads_both_towers: tuple[str, ...] = ("conv3", "fc6", "fc7", "fc8")  # P 3.5, #145
    pool_size: int = 3  # P 3.4
    pool_stride: int = 2  # P 3.4
    # Layers whose pooling drops what fills no whole window; all others round up (code, Caffe). ONNX model zoo: conv1 and conv2
    pools_rounded_down: tuple[str, ...] = ()

    # Response normalisation: x * (k + coefficient * sum of x^2 over the window) ** -beta
    lrn_size: int = 5  # P 3.3: n
    lrn_alpha: float = 1e-4  # P 3.3
    lrn_alpha_divided: bool = True  # code: alpha / n, as torch and Caffe; the paper's formula does not divide
    lrn_beta: float = 0.75  # P 3.3
    lrn_k: float = 2.0  # P 3.3; Caffe 1
    lrn_crosses_towers: bool = False  # code; Caffe's runs over all channels
    spatial_size: int = 5  # #145 cnorm2
    spatial_alpha: float = 1e-3  # #145 cnorm2, divided by the window's 25 places
    spatial_beta: float = 0.75  # #145 cnorm2
    spatial_k: float = 1.0  # the successor's default

    # Dropout
    dropout: float = 0.5  # P 4.2: share of outputs set to zero
    dropout_inverted: bool = False  # P 4.2, code: halved at test instead; PyTorch and Caffe double in training
    dropout_before: bool = False  # torchvision drops the inputs of fc6 and fc7 instead of their outputs

    # Initial weights: a Gaussian's standard deviation, None for PyTorch's default; biases constant
    init_stdevs: tuple[float | None, ...] = (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01)  # #145; P 5: .01 throughout
    init_biases: tuple[float | None, ...] = (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0)  # P 5, #145

    # Update rule
    batch_size: int = 128  # P 5
    epochs: int = 91  # #145's log
    learning_rate: float = 0.01  # P 5
    bias_rate_factor: float = 2.0  # #145 epsB 0.02
    momentum: float = 0.9  # P 5
    weight_decay: float = 0.0005  # P 5
    bias_weight_decay: float = 0.0  # code: biases are built without decay
    rate_inside_velocity: bool = True  # P 5: a drop of the rate leaves the velocity as it is; torch's SGD shrinks it at once
    layer_rates: Mapping[str, float] = field(default_factory=dict)  # P 5: equal for all; a layer's factor, 0 freezes it

    # Schedule: when the rates drop
    schedule: Literal["events", "quarters", "milestones", "plateau"] = "events"  # #145: by hand, as its log has it
    events: tuple[Event, ...] = field(default=EVENTS_145)
    milestones: tuple[int, ...] = ()  # epochs after which all rates drop
    milestone_factor: float = 0.1  # P 5: divided by 10
    plateau_factor: float = 0.1  # P 5: divided by 10
    plateau_patience: int = 5  # epochs without improvement; not published
    plateau_improvement: float = 0.001  # of the top-1 error, 0-1; not published
    plateau_drops: int = 3  # P 5: "reduced three times"

    # Augmentation and order
    mirror: bool = True  # P 4.1; governs the test views too
    crop_chunk: int = 32  # code: one crop and mirror per 32 images; the paper's text and most others: 1
    colour_noise: float = 0.1  # P 4.1; 0 for none
    colour_noise_scale: Literal["stdev", "eigenvalue"] = "stdev"  # code; P 4.1 says eigenvalues
    colour_noise_rescale: bool = True  # code: divided by 1 + strength
    shuffle: Literal["once", "full", "block"] = "once"  # code: one order for all epochs; block: full, but of nearby records

    # Test
    test_crops: Literal[10, 1] = 10  # P 4.1

    def __post_init__(self) -> None:
        self._check_layers()
        self._check_shape()
        self._check_numbers()
        self._check_schedule()
        for name, choices in CHOICES.items():
            _require(getattr(self, name) in choices, f"{name} is {getattr(self, name)!r}, expected one of {choices}")

    def _check_layers(self) -> None:
        kinds = [kind for kind in KINDS for layer in self.layers if layer.startswith(kind)]
        _require(
            len(kinds) == len(self.layers) == len(set(self.layers)) and self.layers == (*self.maps, *self.full),
            f"layers are {', '.join(self.layers)}, expected each once, named conv..., local... and fc..., in this order",
        )
        _require(bool(self.maps and self.full), "expected at least one conv or local layer, and one fc")
        for name in ("channels", "kernels", "strides", "paddings", "follows"):
            count = len(getattr(self, name))
            _require(count == len(self.maps), f"{count} {name}, expected {len(self.maps)}: one for each of {', '.join(self.maps)}")
        _require(len(self.hidden) == len(self.full) - 1, f"{len(self.hidden)} hidden widths, expected {len(self.full) - 1}")
        for name in ("init_stdevs", "init_biases"):
            count = len(getattr(self, name))
            _require(count == len(self.layers), f"{count} {name}, expected {len(self.layers)}")
        for layer, follows in zip(self.maps, self.follows, strict=True):
            wrong = [operation for operation in follows.split() if operation not in OPERATIONS]
            _require(not wrong, f"{layer} is followed by unknown operations {wrong}, expected some of {', '.join(OPERATIONS)}")
            _require(follows.split().count("pool") <= 1, f"{layer} is followed by more than one pool")
        unknown = [layer for layer in self.pools_rounded_down if layer not in self.maps]
        _require(not unknown, f"pools_rounded_down names {unknown}, expected some of {', '.join(self.maps)}")
        for event in self.events:
            unknown = [layer for layer in event.layers if layer not in self.layers]
            _require(not unknown, f"event names unknown layers {unknown}, expected some of {', '.join(self.layers)}")

    def _check_shape(self) -> None:
        _require(self.towers in (1, 2), f"{self.towers} towers, expected 1 or 2")
        _require(self.stored_size >= 8, f"stored size {self.stored_size}, expected at least 8")
        _require(
            8 <= self.input_size <= self.stored_size,
            f"input size {self.input_size}, expected at least 8 and at most {self.stored_size}, the stored size",
        )
        odd = [width for width in self.channels + self.hidden if width < 1 or width % self.towers]
        _require(not odd, f"widths {odd} cannot be split over {self.towers} towers")
        reading = set(self.reads_both_towers)
        _require(
            set(self.full) <= reading <= set(self.layers[1:]),
            f"reads_both_towers must have {', '.join(self.full)} and otherwise layers after the first",
        )
        # A layout of two ranks keeps the layer of this name whole, beside the loss.
        _require(self.towers == 1 or self.layers[-1] == "fc8", f"the last of two towers' layers is {self.layers[-1]}, expected fc8")
        _require(self.towers == 1 or not self.local, "local layers are made for one tower")
        _require(self.lrn_size % 2 == 1 and self.spatial_size % 2 == 1, "normalisation windows must be odd")
        _require(min(self.kernels + self.strides) >= 1 and min(self.paddings) >= 0, "kernels and strides must be 1 or more")

    def _check_numbers(self) -> None:
        for name in ("batch_size", "epochs", "crop_chunk", "lrn_size", "spatial_size", "pool_size", "pool_stride"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("learning_rate", "bias_rate_factor", "weight_decay", "bias_weight_decay", "colour_noise"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, f"{name} is {value}, expected a number from 0 on")
        _require(self.learning_rate > 0, "learning_rate is 0, expected a number above it")
        _require(0 <= self.dropout < 1, f"dropout is {self.dropout}, expected a share from 0 to below 1")
        _require(0 <= self.momentum < 1, f"momentum is {self.momentum}, expected a number from 0 to below 1")
        _require(list(self.events) == sorted(self.events, key=lambda event: event.at), "events are not in order of time")

    def _check_schedule(self) -> None:
        unknown = [layer for layer in self.layer_rates if layer not in self.layers]
        _require(not unknown, f"layer_rates names unknown layers {unknown}, expected some of {', '.join(self.layers)}")
        for layer, factor in self.layer_rates.items():
            _require(0 <= factor < math.inf, f"layer_rates.{layer} is {factor}, expected a number from 0 on")
        for name in ("milestone_factor", "plateau_factor"):
            _require(0 < getattr(self, name) <= 1, f"{name} is {getattr(self, name)}, expected a number above 0 and at most 1")
        _require(self.plateau_patience >= 1, f"plateau_patience is {self.plateau_patience}, expected at least 1 epoch")
        _require(0 <= self.plateau_improvement < 1, f"plateau_improvement is {self.plateau_improvement}, expected a share of 0-1")
        _require(self.plateau_drops >= 0, f"plateau_drops is {self.plateau_drops}, expected a number from 0 on")
        needed = self.schedule == "milestones"
        _require(needed or not self.milestones, f"milestones are for schedule 'milestones', but it is {self.schedule!r}")
        _require(bool(self.milestones) or not needed, "schedule 'milestones' needs some, such as milestones = [30, 60, 80]")
        inside = [milestone for milestone in self.milestones if 0 < milestone < self.epochs]
        _require(
            list(self.milestones) == sorted(set(inside)),
            f"milestones are {list(self.milestones)}, expected rising epochs above 0 and below {self.epochs}",
        )

    @property
    def maps(self) -> tuple[str, ...]:
        """The layers that make maps: conv and local ones."""
        return tuple(layer for layer in self.layers if not layer.startswith("fc"))

    @property
    def local(self) -> tuple[str, ...]:
        """The layers whose kernels differ from place to place."""
        return tuple(layer for layer in self.layers if layer.startswith("local"))

    @property
    def full(self) -> tuple[str, ...]:
        """The fully connected layers."""
        return tuple(layer for layer in self.layers if layer.startswith("fc"))

    def operations(self, layer: str) -> tuple[str, ...]:
        """Return what follows a layer of maps, with the activation's own name: ("lrn", "pool", "relu")."""
        names = self.follows[self.maps.index(layer)].split()
        return tuple(self.activation if name == "activation" else name for name in names)

    def groups(self, layer: str) -> int:
        """How many independent halves the layer's channels fall into: 1 where it reads both towers and for the first."""
        return 1 if layer == self.layers[0] or layer in self.reads_both_towers else self.towers

    def initial_rates(self) -> Rates:
        """Return what the first step uses where no event and no layer's own factor says otherwise."""
        biases = self.learning_rate * self.bias_rate_factor
        return Rates(dict.fromkeys(self.layers, self.learning_rate), dict.fromkeys(self.layers, biases), self.colour_noise)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for TOML or JSON: lists for tuples, no key where a value is None, "default" in lists."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Build a recipe from what `to_dict` gave; absent fields keep the defaults of net #145.

        Raises RecipeError for an unknown field or a value of the wrong kind.
        """
        known = {entry.name: entry for entry in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        _require(not unknown, f"unknown recipe fields: {', '.join(unknown)}")
        defaults = cls()
        return cls(**{key: _typed(key, value, getattr(defaults, key)) for key, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (tuple, list)):
        return ["default" if inner is None else _plain(inner) for inner in value]
    return value


def _typed(name: str, value: Any, default: Any) -> Any:
    """Bring a value read from TOML or JSON to the kind of its field's default."""
    if name == "events":
        return events_from(value)
    example = EXAMPLES.get(name, _plain(default))
    # Of an empty list the example says what it may hold.
    typed = _like(value, tuple(example) if default == () else default, none_allowed=name.startswith("init_"))
    if typed is None:
        raise RecipeError(f"recipe field {name} is {value!r}, expected something like {example!r}")
    return typed


# Of fields that are empty by default.
EXAMPLES: dict[str, Any] = {"milestones": [30, 60, 80], "layer_rates": {"conv1": 0.1}, "pools_rounded_down": ["conv1", "conv2"]}


def _like(value: Any, default: Any, *, none_allowed: bool = False) -> Any:
    """Return a value in the default's kind, whole numbers as floats where those are meant; None where it is of another kind."""
    if isinstance(default, tuple):
        return _like_tuple(value, default, none_allowed) if isinstance(value, (list, tuple)) else None
    if isinstance(default, Mapping):
        typed = {key: _like(inner, 1.0) for key, inner in value.items()} if isinstance(value, Mapping) else {"": None}
        return None if None in typed.values() else typed
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is type(default) else None


def _like_tuple(values: Any, default: tuple[Any, ...], none_allowed: bool) -> tuple[Any, ...] | None:
    kind = next((inner for inner in default if inner is not None), 0)
    gone = [none_allowed and inner in ("default", None) for inner in values]
    typed = tuple(None if none else _like(inner, kind) for inner, none in zip(values, gone, strict=True))
    return typed if [inner is None for inner in typed] == gone else None
