"""How sure a measured error is (stdlib only)."""

import math

QUANTILE_95 = 1.959963984540054  # of the normal distribution: 95 % lie within so many deviations


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, 0-1, that was found among `count` pictures.

    Source: Wilson 1927, which holds for few pictures and for shares near 0 and 1, where the usual one does not.
    """
    square = QUANTILE_95**2 / count
    middle = (share + square / 2) / (1 + square)
    reach = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)
