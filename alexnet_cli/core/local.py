"""Locally connected layers: a convolution whose kernels and biases differ from place to place.

Legend: B batch, C channels in, O channels out, H, W output size, P its H * W places, N the C * k * k values under a kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def local_conv(x_BCHW: Tensor, weight_OCkkHW: Tensor, bias_OHW: Tensor, stride: int, padding: int) -> Tensor:
    """Multiply what lies under each place by that place's own kernels, and add its own biases.

    The kernels' H and W are those of the result, which is (B, O, H, W). Source: the 2012 code's layers of type `local`.
    """
    outputs, _, kernel, _, height, width = weight_OCkkHW.shape
    under_BNP = F.unfold(x_BCHW, kernel, padding=padding, stride=stride)  # N in the order of the weights: channel, y, x
    # One matrix product for each place: no kernel is used at two of them.
    values_PBN = under_BNP.permute(2, 0, 1)
    weight_PNO = weight_OCkkHW.reshape(outputs, -1, height * width).permute(2, 1, 0)
    result_PBO = torch.bmm(values_PBN, weight_PNO)
    return result_PBO.permute(1, 2, 0).reshape(-1, outputs, height, width) + bias_OHW
