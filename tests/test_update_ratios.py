"""How large a step is beside the weights."""

import pytest
import torch

from alexnet_cli.core.optim import UpdateRule
from alexnet_cli.core.schedule import rates_at
from alexnet_cli.core.update_ratios import update_ratios
from tests.networks import narrow, on_two_ranks


def test_worked_by_hand():
    """Weights 1, -3 with velocity 2, -2 at rate 0.1: |w| is 2, |dw| 0.2, the ratio 0.1; a frozen one has not moved."""
    parameters = {"a": torch.tensor([1.0, -3.0]), "b": torch.tensor([4.0])}
    velocities = {"a": torch.tensor([2.0, -2.0]), "b": torch.tensor([5.0])}
    found = update_ratios(parameters, velocities, {"a": 0.1, "b": 0.0})
    assert found["a"] == pytest.approx({"mean_weight": 2, "mean_change": 0.2, "ratio": 0.1})
    assert found["b"] == {"mean_weight": 4, "mean_change": 0, "ratio": 0}


def test_change_is_what_a_step_really_changes():
    """After a drop of the rate too, |dw| is the difference between the weights before and after the step."""
    recipe = narrow()
    parameter = torch.nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    rule = UpdateRule({"conv1.weight": parameter}, recipe)
    for step in (0, 500, 999):  # of 1,000: #145's rates drop between them
        before = parameter.detach().clone()
        rule.set_rates(rates_at(recipe, step * 9 // 10, 1000))
        parameter.grad = torch.sin(parameter.detach() + step)
        rule.step()
        found = update_ratios(rule.parameters, rule.velocities(), rule.rates)["conv1.weight"]
        assert found["mean_change"] == pytest.approx((parameter.detach() - before).abs().mean().item(), rel=1e-5)
        assert found["mean_weight"] == pytest.approx(parameter.detach().abs().mean().item(), rel=1e-5)


def test_weights_of_zeros_have_no_ratio():
    """Biases that start at zero give the ratio 0, not a division by zero."""
    assert update_ratios({"a": torch.zeros(2)}, {"a": torch.ones(2)}, {"a": 1.0})["a"]["ratio"] == 0


def _halves(layout):
    held = torch.tensor([[1.0, 3.0], [8.0, 8.0]][layout.rank])
    parameters = {"x": held} | ({"fc8": torch.tensor([6.0])} if layout.rank == 0 else {})
    return update_ratios(parameters, {name: value / 2 for name, value in parameters.items()}, {"x": 1.0, "fc8": 0.5}, layout.total)


def test_towers_on_two_ranks_are_one_network():
    """Both ranks know the means over both towers, and of fc8, which the first one holds alone."""
    for found in on_two_ranks(_halves):
        assert found["x"] == {"mean_weight": 5, "mean_change": 2.5, "ratio": 0.5}
        assert found["fc8"] == {"mean_weight": 6, "mean_change": 1.5, "ratio": 0.25}
