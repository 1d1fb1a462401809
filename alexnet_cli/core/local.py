"""Locally connected layers: a convolution whose kernels and biases differ from place to place.

Legend: B batch, C channels in, O channels out, H, W output size, P its H * W places, N the k * k * C values under a kernel.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def local_conv(x_BCHW: Tensor, weight_OCkkHW: Tensor, bias_OHW: Tensor, stride: int, padding: int) -> Tensor:
    """Multiply what lies under each place by that place's own kernels, and add its own biases.

    The kernels' H and W are those of the result, which is (B, O, H, W). Source: the 2012 code's layers of type `local`.
    """
    outputs, _, kernel, _, height, width = weight_OCkkHW.shape
    padded_HWBC = F.pad(x_BCHW, (padding,) * 4).permute(2, 3, 0, 1).contiguous()
    down, along = stride * (height - 1) + 1, stride * (width - 1) + 1
    # With the places outermost, what lies under them is copied in runs of a whole batch; F.unfold would scatter every value.
    shifted = [padded_HWBC[y : y + down : stride, x : x + along : stride] for y, x in product(range(kernel), repeat=2)]
    under_PBN = torch.cat(shifted, 3).flatten(0, 1)  # N: y, x, channel
    weight_PNO = weight_OCkkHW.permute(4, 5, 2, 3, 1, 0).reshape(height * width, -1, outputs)
    # One matrix product for each place: no kernel is used at two of them.
    result_PBO = torch.bmm(under_PBN, weight_PNO)
    return result_PBO.view(height, width, -1, outputs).permute(2, 3, 0, 1) + bias_OHW
