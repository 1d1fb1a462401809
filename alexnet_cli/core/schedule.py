"""When the learning rates drop: the four schedules of a recipe, and what the one that watches the validation error remembers.

`events`, `quarters` and `milestones` are known beforehand and are lists of events; `plateau` follows the test after each epoch,
so its state belongs to the training and is saved with it (stdlib only).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.rates import Event, Rates, rates_after
from alexnet_cli.core.recipe import Recipe

FINE = 1_000_000  # steps into which a training is cut to look at its schedule


def quarters(first: str = "conv1") -> tuple[Event, ...]:
    """Return the authors' later schedule, which needs no hand (their net #170).

    In four equal quarters the weights' rate falls to a 250th: .01, .001587, .000252, .00004. The biases' is divided by ten at
    half time. The colour noise ends after epoch 68, and the first layer is frozen after epoch 74 of 95.
    """
    step = 250 ** (-1 / 3)
    return (
        Event(1 / 4, weight_factor=step),
        Event(2 / 4, weight_factor=step**2, bias_factor=0.1),
        Event(68 / 95, layers=(first,), weight_factor=step**2, colour_noise=0.0),
        Event(3 / 4, weight_factor=step**3),
        Event(74 / 95, layers=(first,), weight_factor=0.0, bias_factor=0.0),
    )


def milestones(after_epochs: Sequence[int], epochs: int, factor: float) -> tuple[Event, ...]:
    """Return the drops of all rates, weights and biases, by one factor after each of some epochs."""
    factors = [factor ** (number + 1) for number in range(len(after_epochs))]
    return tuple(
        Event(epoch / epochs, weight_factor=total, bias_factor=total) for epoch, total in zip(after_epochs, factors, strict=True)
    )


@dataclass(frozen=True)
class PlateauState:
    """What the schedule `plateau` remembers: the best top-1 error (0-1) so far, epochs since, drops made."""

    best: float | None = None
    epochs_since: int = 0
    drops: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PlateauState":
        """Return what `to_dict` gave."""
        return cls(**values)


def after_epoch(state: PlateauState, recipe: Recipe, val_error: float) -> PlateauState:
    """Take note of the test after an epoch: an improvement, one more epoch without, or the drop that follows from it.

    val_error: top-1 error, 0-1. Errors that creep down by less than the recipe's improvement are measured against the last one
    that counted, so that together they count. Other schedules than `plateau` leave the state as it is.
    Source: paper 5, "divide the learning rate by 10 when the validation error rate stopped improving".
    """
    if recipe.schedule != "plateau":
        return state
    if state.best is None or val_error < state.best - recipe.plateau_improvement:
        return replace(state, best=val_error, epochs_since=0)
    waited = state.epochs_since + 1
    if waited < recipe.plateau_patience or state.drops >= recipe.plateau_drops:
        return replace(state, epochs_since=waited)
    return replace(state, epochs_since=0, drops=state.drops + 1)


def rates_at(recipe: Recipe, step: int, total_steps: int, plateau: PlateauState = PlateauState()) -> Rates:
    """Return the rates of one step by the recipe's schedule, times the layers' own factors.

    step: steps already made, 0 to total_steps - 1. plateau: the state after the last whole epoch.
    """
    rates = rates_after(recipe.initial_rates(), events_of(recipe, plateau), step, total_steps)
    factors = {layer: recipe.layer_rates.get(layer, 1.0) for layer in rates.weights}
    return Rates(
        {layer: rate * factors[layer] for layer, rate in rates.weights.items()},
        {layer: rate * factors[layer] for layer, rate in rates.biases.items()},
        rates.colour_noise,
    )


def events_of(recipe: Recipe, plateau: PlateauState) -> tuple[Event, ...]:
    """Return the recipe's schedule as events; for `plateau` what holds between two tests, as one event from the start on."""
    if recipe.schedule == "plateau":
        factor = recipe.plateau_factor**plateau.drops
        return (Event(0.0, weight_factor=factor, bias_factor=factor),)
    if recipe.schedule == "milestones":
        return milestones(recipe.milestones, recipe.epochs, recipe.milestone_factor)
    return quarters(recipe.layers[0]) if recipe.schedule == "quarters" else recipe.events


def require_possible(recipe: Recipe, *, labelled: bool) -> None:
    """Refuse a schedule that cannot be followed.

    labelled: whether there are validation labels, without which no error is measured. Raises RecipeError.
    """
    if recipe.schedule == "plateau" and not labelled:
        raise RecipeError(
            "schedule 'plateau' follows the validation error, but these validation pictures have no labels",
            hint="choose another --schedule, or prepare labelled validation pictures",
        )
    events = events_of(recipe, PlateauState())
    for moment in [0.0, *(event.at for event in events if event.at < 1)]:
        rates = rates_at(recipe, math.ceil(moment * FINE), FINE, PlateauState())
        if not any([*rates.weights.values(), *rates.biases.values()]):
            raise RecipeError(
                f"from {moment:.0%} of the training on no layer would learn: every rate is 0",
                hint="leave a layer out of layer_rates, or give it a factor above 0",
            )
