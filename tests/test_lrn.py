"""Response normalisation against values worked by hand, a slow float64 reference and torch's own."""

import pytest
import torch
import torch.nn.functional as F

from alexnet_cli.core.lrn import banded_sum, cross_map_norm, shifted_sum, spatial_norm


def slow_cross_map(x, size, coefficient, beta, k, groups):
    """Return the paper's formula, one channel at a time."""
    width = x.shape[1] // groups
    rows = []
    for channel in range(x.shape[1]):
        first = max(channel // width * width, channel - size // 2)
        last = min((channel // width + 1) * width - 1, channel + size // 2)
        rows.append(x[:, channel] / (k + coefficient * (x[:, first : last + 1] ** 2).sum(1)) ** beta)
    return torch.stack(rows, 1)


def slow_spatial(x, size, coefficient, beta, k):
    """Return the same over places, one place at a time."""
    result = torch.empty_like(x)
    half = size // 2
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            window = x[:, :, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
            result[:, :, row, column] = x[:, :, row, column] / (k + coefficient * (window**2).sum((2, 3))) ** beta
    return result


def distance(a, b):
    """Return how far apart two tensors are, relative to the second."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


def test_five_numbers_by_hand():
    """Five maps of one place: each is divided by the energy of at most two neighbours on each side."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64).view(1, 5, 1, 1)
    # Sums of squares: 1+4+9, 1+4+9+16, 1+4+9+16+25, 4+9+16+25, 9+16+25; base = 2 + 0.1 * sum.
    bases = torch.tensor([3.4, 5.0, 7.5, 7.4, 7.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64) / bases**0.75
    torch.testing.assert_close(cross_map_norm(x, coefficient=0.1).flatten(), expected, rtol=1e-14, atol=0)


def test_a_row_of_places_by_hand():
    """Six places in a row of one map: a window of five, clipped at the ends."""
    x = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.0, 3.0], dtype=torch.float64).view(1, 1, 1, 6)
    bases = torch.tensor([5.0, 6.0, 6.0, 14.0, 10.0, 10.0], dtype=torch.float64) + 1
    expected = x.flatten() / bases**0.75
    torch.testing.assert_close(spatial_norm(x, coefficient=1.0).flatten(), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_across_maps_agrees_with_slow_reference(dtype, bound, groups):
    """Values and gradients are those of the formula in float64, to the rounding of the type."""
    torch.manual_seed(0)
    x = (torch.randn(3, 16, 6, 5) * 60).to(dtype).requires_grad_()
    upstream = torch.randn(3, 16, 6, 5).to(dtype)
    exact = x.detach().double().requires_grad_()
    # A coefficient that matters: with the recipe's 2e-5 these values hardly change.
    expected = slow_cross_map(exact, 5, 2e-4, 0.75, 2.0, groups)
    result = cross_map_norm(x, coefficient=2e-4, groups=groups)
    assert distance(result, expected) <= bound
    (gradient,) = torch.autograd.grad(result, x, upstream)
    (exact_gradient,) = torch.autograd.grad(expected, exact, upstream.double())
    assert distance(gradient, exact_gradient) <= bound


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-3)])
def test_across_places_agrees_with_slow_reference(dtype, bound):
    """Values and gradients of the spatial norm are those of the formula in float64."""
    torch.manual_seed(1)
    x = (torch.randn(2, 4, 9, 7) * 60).to(dtype).requires_grad_()
    upstream = torch.randn(2, 4, 9, 7).to(dtype)
    exact = x.detach().double().requires_grad_()
    expected = slow_spatial(exact, 5, 4e-4, 0.75, 1.0)
    result = spatial_norm(x, coefficient=4e-4)
    assert distance(result, expected) <= bound
    (gradient,) = torch.autograd.grad(result, x, upstream)
    (exact_gradient,) = torch.autograd.grad(expected, exact, upstream.double())
    assert distance(gradient, exact_gradient) <= bound


@pytest.mark.parametrize(("size", "channels", "groups"), [(5, 16, 1), (5, 16, 2), (3, 6, 3), (9, 6, 2), (5, 2, 2), (1, 4, 1)])
def test_both_forms_of_the_sum(size, channels, groups):
    """The processor's product and CUDA's slices both add up each map's window, channel by channel, in its own group alone."""
    torch.manual_seed(4)
    values = torch.rand(2, channels, 3, 4, dtype=torch.float64)
    width = channels // groups
    expected = torch.zeros_like(values)
    for one in range(channels):
        for other in range(channels):
            if one // width == other // width and abs(one - other) <= size // 2:
                expected[:, one] += values[:, other]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        laid_out = values.contiguous(memory_format=memory_format)
        torch.testing.assert_close(shifted_sum(laid_out, size, groups), expected)
        torch.testing.assert_close(banded_sum(laid_out, size, groups, torch.float64), expected)


def test_the_slices_keep_float32():
    """Sums by slices are as exact as float32 is, and lie in memory as the maps do."""
    torch.manual_seed(5)
    values = (torch.rand(2, 96, 5, 5) * 1000).to(memory_format=torch.channels_last)
    result = shifted_sum(values, 5, 2)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert distance(result, banded_sum(values.double(), 5, 2, torch.float64)) <= 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-3)])
def test_across_maps_on_a_gpu(dtype, bound, compiled):
    """On CUDA, compiled or not, values and gradients are those of the formula in float64."""
    torch.manual_seed(0)
    x = (torch.randn(3, 16, 6, 5) * 60).to(dtype)
    upstream = torch.randn(3, 16, 6, 5).to(dtype)
    exact = x.double().requires_grad_()
    expected = slow_cross_map(exact, 5, 2e-4, 0.75, 2.0, 2)
    on_gpu = x.cuda().requires_grad_()
    norm = torch.compile(cross_map_norm, dynamic=False) if compiled else cross_map_norm
    result = norm(on_gpu, coefficient=2e-4, groups=2)
    assert distance(result.cpu(), expected) <= bound
    (gradient,) = torch.autograd.grad(result, on_gpu, upstream.cuda())
    (exact_gradient,) = torch.autograd.grad(expected, exact, upstream.double())
    assert distance(gradient.cpu(), exact_gradient) <= bound


def test_under_autocast_float32_stays_float32():
    """Autocast shortens convolutions, not the normalisation of values that are stored in float32."""
    torch.manual_seed(2)
    x = torch.randn(2, 16, 5, 5) * 100
    with torch.autocast("cpu", torch.bfloat16):
        result = cross_map_norm(x)
    assert result.dtype == torch.float32
    assert distance(result, slow_cross_map(x.double(), 5, 2e-5, 0.75, 2.0, 1)) <= 1e-5


def test_agrees_with_torch_on_each_tower():
    """With the 2012 code's constants, each tower's half is torch's own local_response_norm of that half."""
    torch.manual_seed(3)
    x = torch.randn(2, 96, 5, 5) * 100
    expected = torch.cat([F.local_response_norm(half, 5, 1e-4, 0.75, 2.0) for half in x.chunk(2, 1)], 1)
    torch.testing.assert_close(cross_map_norm(x, groups=2), expected, rtol=1e-5, atol=1e-4)
    across = F.local_response_norm(x, 5, 1e-4, 0.75, 2.0)
    differs = (across - expected).abs().amax((0, 2, 3)) > 1e-6
    assert differs.nonzero().flatten().tolist() == [46, 47, 48, 49]  # the four maps at the border of the towers


def test_other_exponents():
    """An exponent other than the paper's takes the general power."""
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    result = cross_map_norm(x, size=3, coefficient=0.5, beta=0.6, k=1.5)
    torch.testing.assert_close(result, slow_cross_map(x, 3, 0.5, 0.6, 1.5, 1))


def test_float16_holds_large_values():
    """Squares beyond float16's largest number do not overflow."""
    x = torch.full((1, 8, 2, 2), 3000.0, dtype=torch.float16)
    expected = slow_cross_map(x.double(), 5, 2e-5, 0.75, 2.0, 1)
    assert distance(cross_map_norm(x), expected) <= 2e-3


def test_channels_last_stays_channels_last():
    """The result lies in memory as the convolutions want it."""
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert cross_map_norm(x).is_contiguous(memory_format=torch.channels_last)
    assert spatial_norm(x).is_contiguous(memory_format=torch.channels_last)
