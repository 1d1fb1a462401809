"""Whether one tower's first kernels see colour and the other's do not, as the paper says of figure 3: measured and tested.

It must not import torch. Legend: N kernels, C channels, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.recipe import Recipe

# Of three channels drawn alike and each for itself: two of the three directions of a pixel are off the grey axis.
NOISE_SHARE = 2 / 3
LEVEL = 0.05  # of significance
LEARNED = 2.0  # times the energy of the initial noise: with more, the larger part of a kernel is not that noise
ROUNDING = 1e-12  # a smaller share is what rounding leaves of none: grey kernels are equal, not ranked by it
NO_DIFFERENCE = "no difference that chance would not make"


@dataclass(frozen=True)
class Spread:
    """The shares of one tower's kernels: how many, their median and quartiles, 0-1."""

    kernels: int
    lower_quartile: float
    median: float
    upper_quartile: float


@dataclass(frozen=True)
class Comparison:
    """How the kernels of tower b differ in colour from those of tower a.

    difference: of the medians, b less a. b_above_a: how often, 0-1, a kernel of b has the larger share, of all pairs of one
    kernel of each; half a pair where the shares are equal. p: how often chance makes as large a difference, in either direction.
    """

    a: Spread
    b: Spread
    difference: float
    b_above_a: float
    p: float

    @property
    def coloured(self) -> str:
        """The tower with more colour, "a" or "b"; "" where chance would make such a difference too."""
        return "" if self.p >= LEVEL else "b" if self.b_above_a > 0.5 else "a"

    @property
    def in_words(self) -> str:
        """What it says, as a clause with its p."""
        what = f"tower {self.coloured} is the more coloured one" if self.coloured else NO_DIFFERENCE
        return f"{what}: p = {self.p:.2g}"


@dataclass(frozen=True, eq=False)
class Specialisation:
    """One network's, or one epoch's.

    shares_N: of each kernel, NaN of one that is all zeros, which counts nowhere. learned_N: whether it has more energy than the
    initial noise would explain. of_all: the towers compared by all kernels. of_learned: by the learned ones; None where a tower
    has none of them.
    """

    shares_N: NDArray[np.float64]
    learned_N: NDArray[np.bool_]
    of_all: Comparison
    of_learned: Comparison | None


def require_towers(recipe: Recipe, name: str) -> None:
    """Raise AlexNetError for a network whose first layer does not have two towers of kernels that read colours."""
    if recipe.towers != 2:
        raise AlexNetError(
            f"{name} has one tower: there are no two to be compared", hint="weights of two towers: alexnet train, or bvlc"
        )


def measure(kernels_NCHW: NDArray[np.float32], recipe: Recipe, name: str = "the network") -> Specialisation:
    """Measure how much colour the kernels of each tower have, and whether the towers differ. name: of the network, for errors.

    Raises AlexNetError for one tower, for kernels of other than three channels, and where a tower's kernels are all zeros.
    Source: paper, 6.1: "color-agnostic" and "color-specific".
    """
    require_towers(recipe, name)
    if kernels_NCHW.ndim != 4 or kernels_NCHW.shape[1] != 3 or len(kernels_NCHW) % 2:
        raise AlexNetError(
            f"the first layer of {name} is {kernels_NCHW.shape}, expected an even number of kernels of three channels",
            hint="only kernels that read the picture itself have colours",
        )
    shares_N = colour_shares(kernels_NCHW)
    learned_N = _energies(kernels_NCHW) > LEARNED * initial_energy(recipe)
    of_all = _compare_halves(shares_N, np.isfinite(shares_N))
    if of_all is None:
        raise AlexNetError(
            f"all kernels of a tower of {name} are zero: they have no colour", hint="take the weights of another run"
        )
    return Specialisation(shares_N, learned_N, of_all, _compare_halves(shares_N, learned_N & np.isfinite(shares_N)))


def colour_shares(kernels_NCHW: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return of each kernel the share of its energy that is off the grey axis, 0-1; NaN for a kernel of zeros.

    The energy is the sum of the squares of all weights. At each place the grey part is the mean of the three channels, so that
    what is left, red against blue and so on, sums to zero there: 0 is a grey picture, 1 one of pure opponent colours. Neither the
    order of the channels nor a kernel's scale matters.
    """
    kernels = kernels_NCHW.astype(np.float64)
    largest_N = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    with np.errstate(invalid="ignore"):
        kernels = kernels / largest_N  # squares of tiny weights would be zero
        shares_N = _energies(kernels - kernels.mean(axis=1, keepdims=True)) / _energies(kernels)
    return np.where(shares_N < ROUNDING, 0.0, shares_N)


def initial_energy(recipe: Recipe) -> float:
    """Return the energy that a kernel of the first layer has on the average when it is drawn."""
    weights = 3 * recipe.kernels[0] ** 2
    stdev = recipe.init_stdevs[0]
    return weights * stdev**2 if stdev is not None else 1 / 3  # PyTorch's default: uniform up to 1 / sqrt(weights)


def compare(shares_a: NDArray[np.float64], shares_b: NDArray[np.float64]) -> Comparison:
    """Compare two towers' shares, at least one each, by the test of Mann and Whitney, two-sided and with ties.

    If the kernels had been dealt to the towers by chance, all ways to deal them would be equally likely: p is the part of those
    ways with at least such a difference, exact where a tower has at most 8 kernels and no shares are equal, else by the normal
    approximation.
    """
    from scipy.stats import mannwhitneyu  # takes a second to import

    found = mannwhitneyu(shares_b, shares_a, alternative="two-sided")
    a, b = _spread(shares_a), _spread(shares_b)
    above = float(found.statistic) / (len(shares_a) * len(shares_b))
    return Comparison(a, b, b.median - a.median, above, float(found.pvalue))


def all_in_words(comparisons: Sequence[Comparison]) -> str:
    """Say of several networks whether one tower is the more coloured one in every one, whichever it is.

    "In every one" is claimed with the largest p: chance would have to deceive in all of them, so nothing is to be corrected.
    """
    coloured = [comparison.coloured for comparison in comparisons]
    found, count = sum(map(bool, coloured)), len(coloured)
    which = f"tower a in {coloured.count('a')}, tower b in {coloured.count('b')}"
    if found == count:
        largest = max(comparison.p for comparison in comparisons)
        return f"in each of {count} networks one tower is the more coloured one ({which}): p = {largest:.2g} at most"
    if not found:
        return f"in none of {count} networks is there a difference that chance would not make"
    return f"in {found} of {count} networks one tower is the more coloured one ({which}); chance alone makes it so in 1 of 20"


def _compare_halves(shares_N: NDArray[np.float64], counted_N: NDArray[np.bool_]) -> Comparison | None:
    """Compare the first half of the kernels, tower a's, with the second, as far as they count."""
    halves = [shares[counted] for shares, counted in zip(np.split(shares_N, 2), np.split(counted_N, 2), strict=True)]
    return compare(*halves) if all(map(len, halves)) else None


def _energies(kernels_NCHW: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.square(kernels_NCHW.astype(np.float64)).sum(axis=(1, 2, 3))


def _spread(shares: NDArray[np.float64]) -> Spread:
    low, middle, high = (float(value) for value in np.percentile(shares, (25, 50, 75)))
    return Spread(len(shares), low, middle, high)
