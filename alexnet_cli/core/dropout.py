"""Which units are dropped: a hash of (seed, step, layer, image, unit), the same on every device, rank and code path.

The hash is integer arithmetic on tensors, so it survives torch.compile and CUDA graphs, and a rank that holds half of a layer's
units computes its half alone. The key of a step is an input, not a constant: one compiled function serves all steps.
"""

import torch
from torch import Tensor

from alexnet_cli.core import draws

MASK_32 = 0xFFFFFFFF
GOLDEN = 0x9E3779B1  # 2**32 divided by the golden ratio, odd: spreads consecutive units


def step_keys(seed: int, step: int, layer: str, device: torch.device, first_image: int = 0) -> Tensor:
    """Return the three 32-bit keys of one step and layer, int64 (3,).

    first_image: which image of the batch is the first one here; its number is added to the key that images are added to.
    """
    keys = [int(key) for key in draws.raw(3, seed, f"dropout {layer}", step) & MASK_32]
    return torch.tensor([keys[0] + first_image, *keys[1:]], dtype=torch.int64, device=device)


def kept_units(keys_3: Tensor, num_images: int, first_unit: int, num_units: int, rate: float) -> Tensor:
    """Say which units live.

    keys_3: from `step_keys`. num_images: images of the batch, or of a replica's share. first_unit, num_units: the part of the
    layer wanted here.
    rate: probability of being dropped, 0 to below 1. Returns bool (num_images, num_units).
    """
    images_B1 = torch.arange(num_images, device=keys_3.device)[:, None]
    units_U = torch.arange(first_unit, first_unit + num_units, device=keys_3.device)
    rows_B1 = _mix(_mix((images_B1 + keys_3[0]) & MASK_32) ^ keys_3[1])
    hashes_BU = _mix(_mix((rows_B1 + units_U * GOLDEN) & MASK_32) ^ keys_3[2])
    return hashes_BU >= int(rate * 2**32)


def _mix(values: Tensor) -> Tensor:
    """Scramble 32-bit numbers held in int64, one to one (multipliers of Wellons' `lowbias32`)."""
    values = ((values ^ (values >> 16)) * 0x7FEB352D) & MASK_32
    values = ((values ^ (values >> 15)) * 0x846CA68B) & MASK_32
    return values ^ (values >> 16)
