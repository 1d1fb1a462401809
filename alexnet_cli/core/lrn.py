"""Response normalisation: across maps (paper 3.3) and across the places of one map (net #145's `cnorm2`).

Both are y = x * (k + S(c x^2)) ** -beta, where S sums over a window that is clipped at the borders and c is the coefficient.
S is its own transpose, so the gradient needs the same sum once more:
dx = dy * base ** -beta - 2 beta c x * S(dy * x * base ** (-beta - 1)), base = k + S(c x^2).
Across maps, S is a matrix product of the channels with a banded 0/1 matrix, the fastest form there is on a processor; compiled
for CUDA it is a sum of shifted slices, which torch.compile fuses with what surrounds it, as it does not a product. The CUDA form
has not been timed on a GPU. Across places S is two poolings, along the columns and along the rows. All but that matrix product
is computed in float32 (float64 for float64), also where the values are stored in fewer bits. The functions are plain enough for
torch.compile to fuse.

Legend: B batch, G groups, C channels (of a group where there is a G), H, W, N the B * H * W places.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_map_norm(
    maps_BCHW: Tensor, *, size: int = 5, coefficient: float = 2e-5, beta: float = 0.75, k: float = 2.0, groups: int = 1
) -> Tensor:
    """Divide each value by a power of the energy of the `size` maps around its own, at the same place.

    maps_BCHW: any float type. coefficient: factor of the sum of squares. groups: independent halves of the channels (towers)
    that no window crosses. Returns the same shape and type, channels last in memory.
    Source: paper 3.3; the 2012 code divides the paper's alpha by `size`, which gives the 2e-5 here.
    """
    return _ResponseNorm.apply(maps_BCHW, "maps", size, coefficient, beta, k, groups)


def spatial_norm(maps_BCHW: Tensor, *, size: int = 5, coefficient: float = 4e-5, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide each value by a power of the energy of the size x size places around it, in its own map.

    Arguments and result as in `cross_map_norm`. Source: net #145, layer `cnorm2` (scale 0.001 over 25 places).
    """
    return _ResponseNorm.apply(maps_BCHW, "places", size, coefficient, beta, k, 1)


class _ResponseNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps_BCHW: Tensor, window: str, size: int, coefficient: float, beta: float, k: float, groups: int
    ) -> Tensor:
        def normalise(maps: Tensor) -> tuple[Tensor, ...]:
            wide = maps.to(_wide(maps))
            # Scaled before it is squared: float16 holds no square above 65,504.
            scaled = wide * math.sqrt(coefficient)
            base = _window_sum(scaled * scaled, window, size, groups, maps.dtype) + k
            result = (wide * _power(base, beta)).to(maps.dtype)
            return (result, base) if ctx.needs_input_grad[0] else (result,)

        result, *base = _by_image(normalise, maps_BCHW)
        ctx.save_for_backward(maps_BCHW, *base)
        ctx.window, ctx.size, ctx.coefficient, ctx.beta, ctx.groups = window, size, coefficient, beta, groups
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        def differentiate(maps: Tensor, base: Tensor, upstream: Tensor) -> tuple[Tensor]:
            wide = maps.to(base.dtype)
            passed = upstream.to(base.dtype) * _power(base, ctx.beta)
            inner = _window_sum(passed * wide / base, ctx.window, ctx.size, ctx.groups, maps.dtype)
            gradient = passed - (2 * ctx.beta * ctx.coefficient) * wide * inner
            return (gradient.to(maps.dtype),)

        (gradient,) = _by_image(differentiate, *ctx.saved_tensors, gradients[0])
        return (gradient, *[None] * 6)


def _by_image(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Apply a function of batches; where each of its operations is a pass over memory, to one image after the other.

    On a processor an image's values stay in the cache from one operation to the next: 0.08 instead of 0.20 s for conv1's norm
    of 128 images. Compiled code and GPUs take the batch as it is.
    """
    if inputs[0].device.type != "cpu" or torch.compiler.is_compiling():
        return function(*inputs)
    first = function(*(values[:1] for values in inputs))
    results = tuple(
        torch.empty((len(inputs[0]), *one.shape[1:]), dtype=one.dtype, memory_format=torch.channels_last) for one in first
    )
    for image in range(len(inputs[0])):
        parts = function(*(values[image : image + 1] for values in inputs)) if image else first
        for whole, part in zip(results, parts, strict=True):
            whole[image : image + 1] = part
    return results


def _wide(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _power(base: Tensor, beta: float) -> Tensor:
    """Return base ** -beta; for the paper's 0.75 by two square roots, as a power costs several times more on a processor."""
    return torch.rsqrt(base * torch.sqrt(base)) if beta == 0.75 else base**-beta


def _window_sum(values_BCHW: Tensor, window: str, size: int, groups: int, product_type: torch.dtype) -> Tensor:
    if window == "places":
        half = size // 2
        columns = F.avg_pool2d(values_BCHW, (size, 1), 1, (half, 0), count_include_pad=True)
        return F.avg_pool2d(columns, (1, size), 1, (0, half), count_include_pad=True) * float(size * size)
    # Uncompiled, each slice would be several passes over memory.
    if values_BCHW.device.type == "cuda" and torch.compiler.is_compiling():
        return shifted_sum(values_BCHW, size, groups)
    return banded_sum(values_BCHW, size, groups, product_type)


def shifted_sum(values_BCHW: Tensor, size: int, groups: int) -> Tensor:
    """Sum each map and its size // 2 neighbours on both sides, within its group, by slices shifted along the channels."""
    values_BHWGC = values_BCHW.permute(0, 2, 3, 1).unflatten(3, (groups, -1))
    sums_BHWGC = values_BHWGC
    for shift in range(1, min(size // 2, values_BHWGC.shape[4] - 1) + 1):
        # Each slice is padded by itself: of one padded copy for all, compiled code would keep that copy for the gradient.
        later = F.pad(values_BHWGC[..., shift:], (0, shift))
        earlier = F.pad(values_BHWGC[..., :-shift], (shift, 0))
        sums_BHWGC = sums_BHWGC + later + earlier
    return sums_BHWGC.flatten(3).permute(0, 3, 1, 2)


def banded_sum(values_BCHW: Tensor, size: int, groups: int, product_type: torch.dtype) -> Tensor:
    """Return the same sums by a matrix product in `product_type`."""
    B, C, H, W = values_BCHW.shape
    values_NC = values_BCHW.permute(0, 2, 3, 1).reshape(-1, C).to(product_type)
    band = _band(C // groups, size, values_NC)
    # Autocast must not choose another type for this product, in which float32 stays float32.
    with torch.autocast(values_NC.device.type, enabled=False):
        sums_NC = torch.cat([part @ band for part in values_NC.split(C // groups, 1)], 1)
    return sums_NC.to(values_BCHW.dtype).view(B, H, W, C).permute(0, 3, 1, 2)


def _band(channels: int, size: int, like: Tensor) -> Tensor:
    """Return the (channels, channels) matrix that is 1 where two channels are at most size // 2 apart, else 0."""
    index = torch.arange(channels, device=like.device)
    return ((index[:, None] - index[None, :]).abs() <= size // 2).to(like.dtype)
