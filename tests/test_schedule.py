"""The schedules by hand: the authors' automatic one, milestones, and the one that waits for the error to stop improving."""

import json
from dataclasses import replace

import pytest

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.rates import Event
from alexnet_cli.core.recipe import LAYERS
from alexnet_cli.core.recipes import original, small, tiny
from alexnet_cli.core.schedule import PlateauState, after_epoch, rates_at, require_possible

START = PlateauState()
PLATEAU = replace(small(), schedule="plateau", epochs=40, plateau_patience=2, plateau_improvement=0.01, plateau_drops=3)
# Each epoch's error, and how many drops there are after it: two epochs without an improvement of more than 0.01 make one.
ERRORS = [
    (0.90, 0),
    (0.80, 0),
    (0.795, 0),  # too little
    (0.785, 0),  # counts: 0.015 below the 0.80 that counted last
    (0.785, 0),
    (0.79, 1),  # the second without
    (0.60, 1),
    (0.61, 1),
    (0.61, 2),
    (0.61, 2),
    (0.61, 3),
    (0.61, 3),
    (0.61, 3),
    (0.61, 3),  # three at most
]


@pytest.mark.parametrize(
    ("epoch", "conv1", "others", "conv1_bias", "biases", "noise"),
    [
        (0, 0.01, 0.01, 0.02, 0.02, 0.1),
        (23.7, 0.01, 0.01, 0.02, 0.02, 0.1),
        (23.8, 0.001587, 0.001587, 0.02, 0.02, 0.1),
        (47.4, 0.001587, 0.001587, 0.02, 0.02, 0.1),
        (47.6, 0.000252, 0.000252, 0.002, 0.002, 0.1),
        (67.9, 0.000252, 0.000252, 0.002, 0.002, 0.1),
        (68.1, 0.000252, 0.000252, 0.002, 0.002, 0.0),
        (71.3, 0.00004, 0.00004, 0.002, 0.002, 0.0),
        (73.9, 0.00004, 0.00004, 0.002, 0.002, 0.0),
        (74.1, 0.0, 0.00004, 0.0, 0.002, 0.0),
        (94.9, 0.0, 0.00004, 0.0, 0.002, 0.0),
    ],
)
def test_quarters(epoch, conv1, others, conv1_bias, biases, noise):
    """The authors' later figures: .01, .001587, .000252, .00004; biases .02, .002; noise to 68, conv1 to 74 of 95 epochs."""
    rates = rates_at(replace(original(), schedule="quarters", epochs=95), round(epoch * 1000), 95_000, START)
    assert rates.weights == pytest.approx({**dict.fromkeys(LAYERS, others), "conv1": conv1}, rel=3e-4)
    assert rates.biases == pytest.approx({**dict.fromkeys(LAYERS, biases), "conv1": conv1_bias})
    assert rates.colour_noise == noise


def test_quarters_freeze_the_first_layer_by_any_name():
    """The layer that is frozen early is the recipe's first, whatever it is called."""
    recipe = replace(tiny(), layers=("conv_in", "conv2", "local3", "local4", "fc5"), schedule="quarters")
    rates = rates_at(recipe, 999, 1000, START)
    assert (rates.weights["conv_in"], rates.biases["conv_in"]) == (0, 0)
    assert set(rates.weights) == set(recipe.layers)


@pytest.mark.parametrize(("step", "factor"), [(0, 1), (299, 1), (300, 0.1), (599, 0.1), (600, 0.01), (899, 0.01)])
def test_milestones(step, factor):
    """After epochs 30 and 60 of 90, ten steps each, weights and biases of all layers drop to a tenth."""
    rates = rates_at(replace(original(), schedule="milestones", epochs=90, milestones=(30, 60)), step, 900, START)
    assert rates.weights == pytest.approx(dict.fromkeys(LAYERS, 0.01 * factor))
    assert rates.biases == pytest.approx(dict.fromkeys(LAYERS, 0.02 * factor))
    assert rates.colour_noise == 0.1


def test_milestones_fall_on_the_epochs_first_step():
    """Whatever the lengths, the drop comes with the first step after its epoch: shares are no exact numbers."""
    for epochs in range(2, 100):
        recipe = replace(original(), schedule="milestones", epochs=epochs, milestones=(epochs - 1,), milestone_factor=0.5)
        last = (epochs - 1) * 10_010
        found = [rates_at(recipe, step, epochs * 10_010, START).weights["fc8"] for step in (last - 1, last)]
        assert found == [0.01, 0.005]


def test_drops_where_the_error_stops_improving():
    """A sequence of errors made by hand: what counts as an improvement, two epochs of patience, three drops at most."""
    state, drops = START, []
    for error, _ in ERRORS:
        state = after_epoch(state, PLATEAU, error)
        drops.append(state.drops)
    assert drops == [expected for _, expected in ERRORS]
    assert state.best == 0.60


@pytest.mark.parametrize(("drops", "factor"), [(0, 1), (1, 0.1), (3, 0.001)])
@pytest.mark.parametrize("step", [0, 500, 999])
def test_rates_of_a_plateau(drops, factor, step):
    """Each drop divides all rates by ten from the next step on, whatever the step and the recipe's own events."""
    rates = rates_at(replace(PLATEAU, colour_noise=0.1), step, 1000, PlateauState(0.5, 0, drops))
    assert rates.weights == pytest.approx(dict.fromkeys(LAYERS, 0.01 * factor))
    assert rates.biases == pytest.approx(dict.fromkeys(LAYERS, 0.02 * factor))
    assert rates.colour_noise == 0.1


def test_a_saved_plateau_goes_on():
    """Stopped after any epoch and taken up from JSON, the drops fall where they fall without a stop."""
    for stop in range(len(ERRORS)):
        state = START
        for error, _ in ERRORS[:stop]:
            state = after_epoch(state, PLATEAU, error)
        state = PlateauState.from_dict(json.loads(json.dumps(state.to_dict())))
        drops = []
        for error, _ in ERRORS[stop:]:
            state = after_epoch(state, PLATEAU, error)
            drops.append(state.drops)
        assert drops == [expected for _, expected in ERRORS[stop:]]


def test_other_schedules_watch_nothing():
    """Where events decide, the tests leave no trace."""
    assert after_epoch(START, original(), 0.5) == START


@pytest.mark.parametrize("schedule", [{}, {"schedule": "plateau"}, {"schedule": "milestones", "milestones": (12,)}])
def test_layers_have_their_own_factors(schedule):
    """A layer's factor multiplies the rate of its weights and biases under every schedule; 0 freezes it."""
    recipe = replace(small(), **schedule)
    own = replace(recipe, layer_rates={"conv1": 0.0, "fc8": 10.0})
    for step in (0, 600, 999):
        before, after = rates_at(recipe, step, 1000, START), rates_at(own, step, 1000, START)
        for kind in ("weights", "biases"):
            expected = {**getattr(before, kind), "conv1": 0.0, "fc8": 10 * getattr(before, kind)["fc8"]}
            assert getattr(after, kind) == pytest.approx(expected)


def test_a_plateau_needs_labels():
    """Without validation labels there is no error to follow."""
    require_possible(PLATEAU, labelled=True)
    require_possible(original(), labelled=False)
    with pytest.raises(RecipeError, match="follows the validation error"):
        require_possible(PLATEAU, labelled=False)


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        (replace(small(), layer_rates=dict.fromkeys(LAYERS, 0.0)), "0%"),
        (replace(original(), layer_rates=dict.fromkeys(LAYERS[1:], 0.0)), "79%"),  # conv1 is frozen after 72 of 91 epochs
        (replace(small(), events=(Event(1 / 3, weight_factor=0.0, bias_factor=0.0),)), "33%"),
    ],
    ids=["all frozen", "conv1 alone, frozen late", "by an event"],
)
def test_something_must_learn(recipe, share):
    """A schedule that freezes every layer is refused, with when that begins."""
    with pytest.raises(RecipeError, match=f"from {share} of the training on no layer would learn"):
        require_possible(recipe, labelled=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "schedule is 'cosine', expected one of"),
        ({"milestones": (30,)}, "milestones are for schedule 'milestones', but it is 'events'"),
        ({"schedule": "milestones"}, "needs some"),
        ({"schedule": "milestones", "milestones": (60, 30)}, r"milestones are \[60, 30\], expected rising epochs"),
        ({"schedule": "milestones", "milestones": (30, 91)}, "above 0 and below 91"),
        ({"milestone_factor": 0.0}, "milestone_factor is 0.0"),
        ({"plateau_patience": 0}, "plateau_patience is 0, expected at least 1 epoch"),
        ({"plateau_improvement": 1.0}, "plateau_improvement is 1.0"),
        ({"layer_rates": {"conv9": 1.0}}, r"layer_rates names unknown layers \['conv9'\]"),
        ({"layer_rates": {"fc8": -1.0}}, "layer_rates.fc8 is -1.0"),
        ({"layer_rates": {"fc8": float("nan")}}, "layer_rates.fc8 is nan"),
    ],
)
def test_impossible_schedules(changes, message):
    """A schedule that cannot be is refused in words."""
    with pytest.raises(RecipeError, match=message):
        replace(original(), **changes)
