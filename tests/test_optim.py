"""The update rule against the paper's formula in NumPy, above all where the rate drops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_cli.core.optim import UpdateRule
from alexnet_cli.core.recipe import LAYERS, Rates
from alexnet_cli.core.recipes import original, paper

STEPS = 60


def rates(weight: float, bias: float) -> Rates:
    """Return the same rates for all layers."""
    return Rates(dict.fromkeys(LAYERS, weight), dict.fromkeys(LAYERS, bias), 0.0)


def parameters() -> dict[str, nn.Parameter]:
    """Return one layer's weights and biases, in float64."""
    generator = torch.Generator().manual_seed(0)
    return {
        f"conv1.{kind}": nn.Parameter(torch.randn(size, dtype=torch.float64, generator=generator))
        for kind, size in (("weight", 7), ("bias", 3))
    }


def run(recipe, schedule, gradients):
    """Return the parameters after steps with the given rates and gradients."""
    held = parameters()
    update = UpdateRule(held, recipe)
    for step_rates, gradient in zip(schedule, gradients, strict=True):
        update.set_rates(step_rates)
        for name, parameter in held.items():
            parameter.grad = torch.from_numpy(gradient[name]) if parameter.requires_grad else None
        update.step()
    return {name: parameter.detach().numpy() for name, parameter in held.items()}


def by_formula(schedule, gradients, bias_decay):
    """Return the same by v = 0.9 v - 0.0005 e w - e g, w = w + v; a rate of 0 freezes weight and velocity."""
    values = {name: parameter.detach().numpy().copy() for name, parameter in parameters().items()}
    velocities = {name: np.zeros_like(value) for name, value in values.items()}
    for step_rates, gradient in zip(schedule, gradients, strict=True):
        for name in values:
            rate = (step_rates.weights if name.endswith("weight") else step_rates.biases)["conv1"]
            if rate == 0:
                continue
            decay = 0.0005 if name.endswith("weight") else bias_decay
            velocities[name] = 0.9 * velocities[name] - decay * rate * values[name] - rate * gradient[name]
            values[name] = values[name] + velocities[name]
    return values


@pytest.fixture
def gradients():
    """Return random gradients for every step."""
    generator = np.random.default_rng(1)
    return [{"conv1.weight": generator.normal(size=7), "conv1.bias": generator.normal(size=3)} for _ in range(STEPS)]


SCHEDULE = [rates(0.01, 0.02)] * 20 + [rates(0.001, 0.02)] * 20 + [rates(0.0001, 0.002)] * 20


def test_velocity_survives_the_drops(gradients):
    """Sixty steps with two drops end where the paper's formula ends: the rate is inside the velocity."""
    found, expected = run(original(), SCHEDULE, gradients), by_formula(SCHEDULE, gradients, bias_decay=0.0)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-13, atol=1e-14)


def test_torchs_own_rule_differs(gradients):
    """With the rate outside of the velocity a drop shrinks it at once, and the weights end elsewhere."""
    outside = run(replace(original(), rate_inside_velocity=False), SCHEDULE, gradients)
    inside = by_formula(SCHEDULE, gradients, bias_decay=0.0)
    assert np.abs(outside["conv1.weight"] - inside["conv1.weight"]).max() > 1e-2


def test_frozen_layer_stops_at_once(gradients):
    """A rate of 0 freezes weights and velocity; when it comes back, the velocity is what it was."""
    schedule = [rates(0.01, 0.02)] * 20 + [rates(0.0, 0.0)] * 20 + [rates(0.001, 0.02)] * 20
    found, expected = run(original(), schedule, gradients), by_formula(schedule, gradients, bias_decay=0.0)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-13, atol=1e-14)


def test_the_texts_rule_decays_biases_too(gradients):
    """The text has one rule for all parameters."""
    schedule = [rates(0.01, 0.01)] * STEPS
    found, expected = run(paper(), schedule, gradients), by_formula(schedule, gradients, bias_decay=0.0005)
    np.testing.assert_allclose(found["conv1.bias"], expected["conv1.bias"], rtol=1e-13, atol=1e-14)


def test_frozen_parameters_ask_for_no_gradient():
    """Nothing is computed for a frozen layer."""
    held = parameters()
    update = UpdateRule(held, original())
    update.set_rates(Rates(dict.fromkeys(LAYERS, 0.0), dict.fromkeys(LAYERS, 0.02), 0.0))
    assert not held["conv1.weight"].requires_grad
    assert held["conv1.bias"].requires_grad


@pytest.mark.parametrize("stop", [20, 30, 40])
def test_continues_from_its_velocities(gradients, stop):
    """Stopped between or exactly at the drops and taken up by a new object, the rule ends bit for bit where it would have."""
    expected = run(original(), SCHEDULE, gradients)
    held = parameters()
    update = UpdateRule(held, original())
    for step, (step_rates, gradient) in enumerate(zip(SCHEDULE, gradients, strict=True)):
        if step == stop:
            old, update = update, UpdateRule(held, original())
            update.load(old.velocities(), old.rates)
        update.set_rates(step_rates)
        for name, parameter in held.items():
            parameter.grad = torch.from_numpy(gradient[name])
        update.step()
    for name, parameter in held.items():
        np.testing.assert_array_equal(parameter.detach().numpy(), expected[name])
