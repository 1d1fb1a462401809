"""How coloured kernels are, and whether two towers differ in it."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.recipes import bvlc, one_gpu, original
from alexnet_cli.core.specialisation import all_in_words, colour_shares, compare, initial_energy, measure


def noise(seed: int, count: int = 96, stdev: float = 0.01) -> np.ndarray:
    """Draw kernels as they are before the first step."""
    return np.random.default_rng(seed).normal(0, stdev, (count, 3, 11, 11)).astype(np.float32)


def grey(seed: int, count: int, stdev: float = 0.1) -> np.ndarray:
    """Draw kernels whose channels are equal."""
    return noise(seed, count, stdev)[:, :1].repeat(3, axis=1)


# Shares of colour ----------------------------------------------------------------------------------------------------------------


def test_grey_has_no_colour():
    """Kernels whose three channels are equal have a share of 0, dark and bright places alike."""
    assert colour_shares(grey(0, 5)) == pytest.approx(np.zeros(5), abs=1e-12)


def test_grey_towers_are_equal():
    """What rounding leaves of grey kernels is no colour to rank them by: where all are grey, every pair is equal."""
    found = measure(grey(1, 96), original()).of_all
    assert (found.a.upper_quartile, found.b.upper_quartile, found.b_above_a, found.p) == (0, 0, 0.5, 1)


def test_opponent_colours_have_nothing_else():
    """Red against green, or yellow against blue, which sum to zero at every place: 1."""
    kernels = np.zeros((2, 3, 4, 4), np.float32)
    kernels[0, 0], kernels[0, 1] = 0.25, -0.25
    kernels[1, :2], kernels[1, 2] = 1.0, -2.0
    assert colour_shares(kernels).tolist() == [1, 1]


def test_shares_by_hand():
    """(1, 0, 0) is 1/3 grey; (3, 2, 1) has energy 14, its grey (2, 2, 2) has 12; both places together 3 of 15; zeros have none."""
    kernels = np.zeros((4, 3, 1, 2), np.float32)
    kernels[0, :, 0, 0] = [1, 0, 0]
    kernels[1, :, 0, 0] = [3, 2, 1]
    kernels[2, :, 0] = np.array([[3, 2, 1], [1, 0, 0]]).T
    shares = colour_shares(kernels)
    assert shares[:3] == pytest.approx([2 / 3, 2 / 14, (2 + 2 / 3) / 15])
    assert math.isnan(shares[3])


def test_each_place_has_its_own_grey():
    """Red here and cyan there is coloured, although the kernel's sums of the three channels are equal."""
    kernel = np.zeros((1, 3, 1, 2), np.float32)
    kernel[0, :, 0, 0], kernel[0, :, 0, 1] = [1, 0, 0], [0, 1, 1]
    assert colour_shares(kernel) == pytest.approx([(2 / 3 + 2 / 3) / 3])


def test_order_and_scale_do_not_matter():
    """BGR gives the shares of RGB, and so do weights as small as float32 has them."""
    kernels = noise(3)
    assert colour_shares(kernels[:, ::-1]) == pytest.approx(colour_shares(kernels))
    assert colour_shares(kernels * np.float32(2.0**-110)) == pytest.approx(colour_shares(kernels))


def test_noise_has_two_thirds():
    """Of 4,000 kernels drawn at random the mean is 2/3; the standard error of the mean is 0.0006."""
    assert colour_shares(noise(1, 4000)).mean() == pytest.approx(2 / 3, abs=0.002)


# Two towers ----------------------------------------------------------------------------------------------------------------------


def pairs(a: np.ndarray, b: np.ndarray) -> float:
    """Count the pairs in which b is above a one by one, half of those that are equal."""
    return sum((y > x) + (y == x) / 2 for x in a for y in b) / (len(a) * len(b))


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_counted(seed):
    """b_above_a is the count of pairs, with many ties too; with the towers exchanged it is the rest."""
    drawn = np.random.default_rng(seed)
    a, b = drawn.integers(0, 9, 20) / 10, drawn.integers(2, 11, 17) / 10
    found = compare(a, b)
    assert found.b_above_a == pytest.approx(pairs(a, b))
    other = compare(b, a)
    assert (other.b_above_a, other.difference, other.p) == pytest.approx((1 - found.b_above_a, -found.difference, found.p))


def test_p_of_three_against_three_by_hand():
    """Of the 20 ways to deal six kernels, one puts the three largest into b and one into a: p is 2 / 20."""
    found = compare(np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6]))
    assert found.b_above_a == 1 and found.p == pytest.approx(0.1) and not found.coloured
    assert found.difference == pytest.approx(0.3)
    assert (found.a.lower_quartile, found.a.median, found.a.upper_quartile) == pytest.approx((0.15, 0.2, 0.25))


def test_p_is_that_of_all_ways_to_deal():
    """For 5 against 5, p is the part of the 252 ways whose pairs are as far from a half, counted one by one."""
    shares = np.random.default_rng(4).random(10)
    shares[5:] += 0.2
    found = compare(shares[:5], shares[5:])
    seen = abs(pairs(shares[:5], shares[5:]) - 0.5)
    ways = list(itertools.combinations(range(10), 5))
    as_far = sum(abs(pairs(np.delete(shares, chosen), shares[list(chosen)]) - 0.5) >= seen - 1e-12 for chosen in ways)
    assert found.p == pytest.approx(as_far / len(ways))


def test_p_with_ties_is_near_that_of_dealing():
    """For 48 against 48 with equal shares among them, p is what 4,000 deals find, to their chance."""
    drawn = np.random.default_rng(8)
    a, b = np.round(drawn.normal(0.5, 0.1, 48), 2), np.round(drawn.normal(0.52, 0.1, 48), 2)
    found, all_N = compare(a, b), np.concatenate([a, b])
    above_NN = (all_N[:, None] > all_N) + (all_N[:, None] == all_N) / 2
    seen, hits = abs(pairs(a, b) - 0.5), 0
    for _ in range(4000):
        order = drawn.permutation(96)
        hits += abs(above_NN[np.ix_(order[48:], order[:48])].mean() - 0.5) >= seen - 1e-12
    assert 0.01 < found.p < 0.5 and found.p == pytest.approx(hits / 4000, abs=0.02)


def test_equal_shares_are_no_difference():
    """Where all shares are equal, half of the pairs count and p is 1."""
    found = compare(np.full(48, 0.5), np.full(48, 0.5))
    assert (found.b_above_a, found.difference, found.p) == (0.5, 0, 1)
    assert found.in_words == "no difference that chance would not make: p = 1"


@pytest.mark.parametrize("coloured", ["a", "b"])
def test_planted_towers_are_found(coloured):
    """48 grey kernels and 48 of all colours: the tower of the latter is named, by all kernels and by the learned ones."""
    halves = [grey(1, 48), noise(2, 48, 0.1)]
    kernels = np.concatenate(halves if coloured == "b" else halves[::-1])
    found = measure(kernels, original())
    assert found.of_all.coloured == coloured and found.of_all.p < 1e-15
    assert found.of_all.b_above_a == (1 if coloured == "b" else 0)
    assert found.of_all.in_words.startswith(f"tower {coloured} is the more coloured one: p = ")
    assert found.learned_N.all() and found.of_learned == found.of_all
    assert abs(found.of_all.difference) == pytest.approx(2 / 3, abs=0.02)


def test_random_towers_are_not():
    """Of 200 networks before their first step, about 1 in 20 seems to have a coloured tower, and none has a learned kernel."""
    found = [measure(noise(seed), original()) for seed in range(200)]
    assert 2 <= sum(bool(one.of_all.coloured) for one in found) <= 20  # 10 are expected, deviation 3.1
    assert not any(one.learned_N.any() or one.of_learned for one in found)


def test_unlearned_kernels_are_told_apart():
    """Kernels that stayed noise make towers alike that are not: without them the difference is whole."""
    kernels = noise(5)
    kernels[:8], kernels[48:56] = grey(1, 8) + noise(3, 8, 0.001), noise(2, 8, 0.1)
    found = measure(kernels, original())
    assert np.flatnonzero(found.learned_N).tolist() == [*range(8), *range(48, 56)]
    assert found.of_learned is not None and found.of_learned.b_above_a == 1
    assert found.of_learned.p == pytest.approx(2 / math.comb(16, 8))  # two of all ways to deal 16 kernels
    assert found.of_all.b_above_a < 0.75


@pytest.mark.parametrize("stdev", [0.01, None])
def test_energy_of_the_initial_noise(stdev):
    """The mean energy of drawn kernels is the foretold one, PyTorch's own draws too."""
    import torch

    recipe = replace(original(), init_stdevs=(stdev, *original().init_stdevs[1:]))
    torch.manual_seed(0)
    kernels = torch.nn.Conv2d(3, 2000, 11).weight.detach().numpy() if stdev is None else noise(0, 2000)
    assert np.square(kernels).sum(axis=(1, 2, 3)).mean() == pytest.approx(initial_energy(recipe), rel=0.01)


def test_a_kernel_of_zeros_counts_nowhere():
    """A dead kernel has no colour: the others are compared, 47 with 48."""
    kernels = noise(0)
    kernels[3] = 0
    found = measure(kernels, original())
    assert (found.of_all.a.kernels, found.of_all.b.kernels) == (47, 48)
    assert math.isfinite(found.of_all.p)


def test_several_networks_in_words():
    """Every network, none, or some; whichever tower it is; with the largest p where it is every one."""
    low, high = np.arange(10) / 100, np.arange(10) / 100 + 0.5
    b, a, neither = compare(low, high), compare(high[:6], low), compare(low, low)
    assert b.p < a.p == pytest.approx(2 / math.comb(16, 6))  # 0.00025
    every = all_in_words([b, a, b])
    assert every == "in each of 3 networks one tower is the more coloured one (tower a in 1, tower b in 2): p = 0.00025 at most"
    assert all_in_words([b, neither]) == (
        "in 1 of 2 networks one tower is the more coloured one (tower a in 0, tower b in 1); chance alone makes it so in 1 of 20"
    )
    assert all_in_words([neither, neither]) == "in none of 2 networks is there a difference that chance would not make"


# What is refused -----------------------------------------------------------------------------------------------------------------


def test_one_tower_is_refused():
    """A network of one tower has nothing to compare."""
    with pytest.raises(AlexNetError, match=r"x\.safetensors has one tower") as caught:
        measure(noise(0, 64), one_gpu(), "x.safetensors")
    assert caught.value.hint == "weights of two towers: alexnet train, or bvlc"


def test_other_channels_are_refused():
    """Kernels that read 48 maps have no colour."""
    with pytest.raises(
        AlexNetError, match=r"the first layer of x is \(96, 48, 5, 5\), expected an even number of kernels of three"
    ):
        measure(np.ones((96, 48, 5, 5), np.float32), original(), "x")


def test_a_tower_of_zeros_is_refused():
    """Where a whole tower is zero there is nothing to compare."""
    kernels = noise(0)
    kernels[48:] = 0
    with pytest.raises(AlexNetError, match="all kernels of a tower of x are zero"):
        measure(kernels, bvlc(), "x")
