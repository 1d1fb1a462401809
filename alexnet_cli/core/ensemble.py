"""What each network of an ensemble counts: the authors' search, one coefficient after the other.

Legend: M networks, N pictures, K classes, L right classes of a picture.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from alexnet_cli.core.scoring import TOP, score
from alexnet_cli.core.towers import Layout

GRID = tuple(step / 20 for step in range(21))  # 2012 code, avg-valid.py: 0, 0.05, ... 1
ROWS = 512  # pictures that are added up at a time, so that memory stays that of the probabilities

Errors = Callable[[Sequence[float]], float]


def search(errors: Errors, members: int) -> list[float]:
    """Return the coefficients with the lowest error that the search meets, of the sum 1.

    errors: of given coefficients, which need no sum. It begins with plain averaging and goes through the members in turn, each time
    to the value of GRID that is best while the others stay, until a whole turn changes nothing. Of equally good values the one
    nearest to the one before is taken. Source: 2012 code, avg-valid.py; its error is top-5.
    """
    coefficients = [1.0] * members
    lowest = errors(coefficients)
    changed = True
    while changed:
        changed = False
        for index in range(members):
            before = coefficients[index]
            for value in sorted(set(GRID) - {before}, key=lambda value: abs(value - before)):
                tried = [*coefficients[:index], value, *coefficients[index + 1 :]]
                found = errors(tried) if any(tried) else 1.0
                if found < lowest:
                    lowest, coefficients, changed = found, tried, True
    total = sum(coefficients)
    return [value / total for value in coefficients]


def top5_errors(parts: Sequence[tuple[Tensor, Tensor]], layout: Layout) -> Errors:
    """Return the function that gives the top-5 error of coefficients over what all ranks have scored.

    parts: probabilities_MNK and right_NL of this rank's pictures. Every rank must call it with the same coefficients.
    """

    def errors(coefficients: Sequence[float]) -> float:
        sums_2 = torch.zeros(2, dtype=torch.float64)
        for probabilities_MNK, right_NL in parts:
            weights_M = torch.tensor(coefficients, dtype=probabilities_MNK.dtype)
            for first in range(0, len(right_NL), ROWS):
                rows = slice(first, first + ROWS)
                mixed_NK = torch.einsum("m,mnk->nk", weights_M, probabilities_MNK[:, rows])
                *_, credit_N = score(mixed_NK, right_NL[rows], min(TOP, mixed_NK.shape[1]))
                sums_2 += torch.stack([credit_N.sum(), (right_NL[rows] >= 0).any(dim=1).sum().double()])
        credit, images = layout.total(sums_2).tolist()
        return 1 - credit / max(1.0, images)

    return errors
