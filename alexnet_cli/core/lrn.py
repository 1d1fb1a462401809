"""Local response normalisation: across maps (paper 3.3) and across places of one map (net #145's `cnorm2`).

Both are x * (k + coefficient * S) ** -beta with S the sum of x^2 over a window that is clipped at the borders. Across maps, the
sum over neighbouring channels is a matrix product of the channels with a banded 0/1 matrix: the fastest form there is on a
processor, and one that torch.compile joins with everything around it. The square is taken of x * sqrt(coefficient), which
keeps it in range in float16. Everything but that product is computed in float32 (float64 for float64 inputs).

Legend: B batch, C channels, H, W.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_map_norm(
    maps_BCHW: Tensor, *, size: int = 5, coefficient: float = 2e-5, beta: float = 0.75, k: float = 2.0, groups: int = 1
) -> Tensor:
    """Divide each value by a power of the energy of the `size` maps around its own, at the same place.

    maps_BCHW: any float type. coefficient: factor of the sum of squares. groups: independent halves of the channels (towers)
    that no window crosses. Returns the same shape, type and memory format as given.
    Source: paper 3.3; the 2012 code divides the paper's alpha by `size`, which gives the 2e-5 here.
    """
    maps_BHWC = maps_BCHW.permute(0, 2, 3, 1)
    scaled_BHWC = maps_BHWC * math.sqrt(coefficient)
    band_CC = _band(maps_BCHW.shape[1], size, groups, maps_BCHW)
    energy_BHWC = (scaled_BHWC * scaled_BHWC) @ band_CC
    return _divide(maps_BHWC, energy_BHWC, beta, k).permute(0, 3, 1, 2)


def spatial_norm(maps_BCHW: Tensor, *, size: int = 5, coefficient: float = 4e-5, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide each value by a power of the energy of the size x size places around it, in its own map.

    Arguments and result as in `cross_map_norm`. Source: net #145, layer `cnorm2` (scale 0.001 over 25 places).
    """
    wide_BCHW = maps_BCHW.to(_wide(maps_BCHW)) * math.sqrt(coefficient)
    mean_BCHW = F.avg_pool2d(wide_BCHW * wide_BCHW, size, stride=1, padding=size // 2, count_include_pad=True)
    return _divide(maps_BCHW, mean_BCHW * float(size * size), beta, k)


def _wide(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _band(channels: int, size: int, groups: int, like: Tensor) -> Tensor:
    """Return the (C, C) matrix that is 1 where two channels are at most size // 2 apart and in one group."""
    index = torch.arange(channels, device=like.device)
    near = (index[:, None] - index[None, :]).abs() <= size // 2
    width = channels // groups
    return (near & (index[:, None] // width == index[None, :] // width)).to(like.dtype)


def _divide(maps: Tensor, energy: Tensor, beta: float, k: float) -> Tensor:
    base = energy.to(_wide(maps)) + k
    # base ** -0.75 by two square roots: pow costs several times more on a processor.
    factor = torch.rsqrt(base * torch.sqrt(base)) if beta == 0.75 else base**-beta
    return (maps * factor).to(maps.dtype)
