"""The learning rates of one step, and the events that change them in the course of a training (stdlib only).

The comments name the sources as `recipe` does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alexnet_cli.core.errors import RecipeError


@dataclass(frozen=True)
class Rates:
    """What one step uses: learning rate of each layer's weights and biases, and the strength of the colour noise."""

    weights: Mapping[str, float]
    biases: Mapping[str, float]
    colour_noise: float


@dataclass(frozen=True)
class Event:
    """A change of the rates from one moment of the training on.

    at: share of all steps that lies before it, 0-1, so that it keeps its place when the run is shortened.
    layers: whose rates change, none for all. weight_factor, bias_factor: rate divided by the initial one from now on; a
    bias_factor of None leaves the biases as they are. colour_noise: its strength from now on; None leaves it as it is.
    """

    at: float
    layers: tuple[str, ...] = ()
    weight_factor: float = 1.0
    bias_factor: float | None = None
    colour_noise: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.at <= 1:
            raise RecipeError(f"event at {self.at}, expected a share of the training between 0 and 1")
        for name in ("weight_factor", "bias_factor", "colour_noise"):
            value = getattr(self, name)
            known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
            if value is not None and not known:
                raise RecipeError(f"event at {self.at} has {name} {value!r}, expected a number from 0 on")


def events_from(values: Any) -> tuple[Event, ...]:
    """Build events from what TOML or JSON has, a list of tables. Raises RecipeError for anything else."""
    try:
        return tuple(Event(**{**value, "layers": tuple(value.get("layers", ()))}) for value in values)
    except (TypeError, AttributeError) as error:
        raise RecipeError(f"recipe field events is {values!r}, expected tables with at, layers, weight_factor") from error


def rates_after(initial: Rates, events: tuple[Event, ...], step: int, total_steps: int) -> Rates:
    """Return the rates of one step: the initial ones, changed by the events until then.

    events: in order of time, of layers that have initial rates. step: steps already made, 0 to total_steps - 1. An event takes
    hold on the first step at or after its share.
    """
    weights, biases, noise = dict(initial.weights), dict(initial.biases), initial.colour_noise
    for event in events:
        if step < math.ceil(event.at * total_steps - 1e-6):  # a share of a third is no exact number
            break
        for layer in event.layers or initial.weights:
            weights[layer] = initial.weights[layer] * event.weight_factor
            if event.bias_factor is not None:
                biases[layer] = initial.biases[layer] * event.bias_factor
        noise = noise if event.colour_noise is None else min(event.colour_noise, initial.colour_noise)
    return Rates(weights, biases, noise)


# #145's log: 0.01 until epoch 25, /10 there, at 51 and at 79; conv1 and the colour noise leave early; stopped after 91.
EVENTS_145 = (
    Event(25 / 91, weight_factor=0.1),
    Event(51 / 91, weight_factor=0.01),
    Event(67 / 91, layers=("conv1",), weight_factor=0.001, colour_noise=0.0),
    Event(72 / 91, layers=("conv1",), weight_factor=0.0, bias_factor=0.0),
    Event(79 / 91, layers=("conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"), weight_factor=0.001),
)
# P 5: divided by ten three times, equal for all layers. The text gives no epochs: those of #145's log, of 90.
EVENTS_PAPER = tuple(
    Event(epoch / 90, weight_factor=factor, bias_factor=factor) for epoch, factor in ((25, 0.1), (51, 0.01), (79, 0.001))
)
EVENTS_SMALL = (Event(0.7, weight_factor=0.1, bias_factor=0.1), Event(0.9, weight_factor=0.01, bias_factor=0.01))
