import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from alexnet_cli.core.ensemble import GRID, search, top5_errors
from alexnet_cli.core.towers import ONE_DEVICE


def slow_errors(probabilities_MNK: np.ndarray, truths: list[int], coefficients: Sequence[float]) -> float:
    """Top-5 error by sorting; no two sums are equal here."""
    mixed = sum(c * p for c, p in zip(coefficients, probabilities_MNK, strict=True))
    return float(np.mean([truth not in np.argsort(-row)[:5] for row, truth in zip(mixed, truths, strict=True)]))


@pytest.fixture
def case():
    """Three networks of random probabilities, of which the second knows most."""
    generator = np.random.default_rng(1)
    truths = generator.integers(0, 20, 300).tolist()
    logits = generator.normal(size=(3, 300, 20))
    for member, gain in enumerate((0.3, 1.2, 0.6)):
        logits[member, np.arange(300), truths] += gain
    powers = np.exp(logits)
    return powers / powers.sum(axis=2, keepdims=True), truths


def test_errors_are_those_of_sorting(case):
    """The error of any coefficients is that of a plain sort, however the pictures are shared out in parts."""
    probabilities, truths = case
    right = torch.tensor(truths)[:, None]
    parts = [(torch.from_numpy(probabilities[:, rows]), right[rows]) for rows in (slice(0, 100), slice(100, 300))]
    errors = top5_errors(parts, ONE_DEVICE)
    for coefficients in ([1, 1, 1], [0.05, 1, 0.3], [0, 0, 1]):
        assert errors(coefficients) == pytest.approx(slow_errors(probabilities, truths, coefficients))


def test_search_ends_where_no_single_change_helps(case):
    """The result is better than plain averaging here, has the sum 1, and no other value of one coefficient is better."""
    probabilities, truths = case
    found = search(lambda coefficients: slow_errors(probabilities, truths, coefficients), 3)
    assert sum(found) == pytest.approx(1)
    lowest = slow_errors(probabilities, truths, found)
    assert lowest < slow_errors(probabilities, truths, [1, 1, 1])
    scaled = [value * max(1.0, 1 / max(found)) for value in found]
    on_grid = [min(GRID, key=lambda step: abs(step - value)) for value in scaled]
    assert np.allclose(np.array(on_grid) / sum(on_grid), found), "the largest coefficient of this case is 1"
    for index, value in itertools.product(range(3), GRID):
        tried = [*on_grid[:index], value, *on_grid[index + 1 :]]
        if any(tried):
            assert slow_errors(probabilities, truths, tried) >= lowest


def test_alike_members_stay_plain():
    """Where nothing is gained the coefficients stay those of plain averaging."""
    assert search(lambda coefficients: 0.25, 4) == [0.25] * 4
