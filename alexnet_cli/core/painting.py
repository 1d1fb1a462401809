"""Pictures made of plain numbers, such that a step in the numbers is a likely step in pictures; for `maximize`.

A picture is white noise whose spatial frequencies are weighted as in photographs, 1/f to a power, and whose three channels lie
along the principal colours of photographs. It has a fixed contrast and does not leave 0-255.
Legend: B batch, C channels (RGB), K components of colour, N side with its margins, F the N // 2 + 1 frequencies along x.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from alexnet_cli.core.layers import receptive_field
from alexnet_cli.core.recipe import Recipe

# Of ILSVRC-2012's training pictures, 0-255: standard deviations along the principal components of their colours, and those as
# rows, RGB. Source: the data statistics of the authors' successor, cuda-convnet2's make-data/input_meta.
COLOUR_STDEVS = (121.7801, 37.0939, 19.7208)
COLOUR_COMPONENTS = ((0.56351, 0.57618, 0.59200), (-0.71258, -0.02354, 0.70120), (0.41796, -0.81698, 0.39731))


@dataclass(frozen=True)
class Prior:
    """How much a picture is held to what photographs are like; all 0: not at all.

    smoothness: the power of 1/f. colour: the power of the colours' standard deviations. jitter: by how many pixels the picture
    is shifted under the unit, at most, to each side.
    """

    smoothness: float
    colour: float
    jitter: int


def prior_of(recipe: Recipe, layer: str) -> Prior:
    """Return what suits a layer: the deeper, the more.

    The first layer's sums are linear, its best picture of a given contrast is the kernel itself: nothing may bend that. Of maps
    the picture moves by half of what lies between two units: farther, and the neighbour would be looked at.
    """
    depth = recipe.layers.index(layer)
    if depth == 0:
        return Prior(0.0, 0.0, 0)
    if layer in recipe.maps:
        strength = 0.5 if depth == 1 else 0.75
        return Prior(strength, strength, receptive_field(recipe, layer).stride // 2)
    last = recipe.maps[-1]
    pooled = recipe.pool_stride if "pool" in recipe.operations(last) else 1
    return Prior(1.0, 0.75, receptive_field(recipe, last).stride * pooled // 2)


@dataclass(frozen=True)
class Painter:
    """Turns numbers into pictures.

    mean_CNN: the mean image under the picture and its margins, 0-255. weights_NF: of the spatial frequencies. colours_KC: how far
    each component moves each channel. contrast: root mean square of the differences from the mean, before they are bounded.
    """

    mean_CNN: Tensor
    weights_NF: Tensor
    colours_KC: Tensor
    contrast: float

    def paint(self, numbers_BKNN: Tensor) -> Tensor:
        """Return pictures as differences from the mean, RGB, in pixel values: (B, 3, N, N); mean and difference lie in 0-255."""
        spectrum_BKNF = torch.fft.rfft2(numbers_BKNN) * self.weights_NF
        components_BKNN = torch.fft.irfft2(spectrum_BKNF, s=numbers_BKNN.shape[-2:])
        differences_BCNN = torch.einsum("bkyx,kc->bcyx", components_BKNN, self.colours_KC)
        return self._bounded(self.contrast * unit_rms(differences_BCNN))

    def _bounded(self, differences_BCNN: Tensor) -> Tensor:
        """Bend differences so that they stay within 0-255; small ones, and 0, stay what they are."""
        room_BCNN = torch.where(differences_BCNN > 0, 255 - self.mean_CNN, self.mean_CNN).clamp(min=1)
        return room_BCNN * torch.tanh(differences_BCNN / room_BCNN)


def make_painter(mean_CHW: Tensor, rows: range, prior: Prior, contrast: float) -> Painter:
    """Return the painter of a square of the network's input, with a margin of the prior's jitter around it.

    mean_CHW: the mean of the whole input, (3, S, S), RGB, 0-255; beyond it, its edge goes on. Its type and device are the
    painter's. rows: those of the square, and its columns. The margin at the end may be some pixels wider, which is faster.
    """
    side, first = fast_side(len(rows) + 2 * prior.jitter), rows.start - prior.jitter
    with_margins = torch.arange(first, first + side).clamp(0, mean_CHW.shape[1] - 1)
    with_margins = with_margins.to(mean_CHW.device)
    stdevs_K1 = mean_CHW.new_tensor(COLOUR_STDEVS)[:, None]
    return Painter(
        mean_CHW[:, with_margins][:, :, with_margins],
        _frequency_weights(side, prior.smoothness).to(mean_CHW.dtype).to(mean_CHW.device),
        stdevs_K1**prior.colour * mean_CHW.new_tensor(COLOUR_COMPONENTS),
        contrast,
    )


def fast_side(least: int) -> int:
    """Return the next number from `least` on without a prime factor above 5: of a side of 179 transforms take twice as long."""
    rest = least
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return least if rest == 1 else fast_side(least + 1)


def unit_rms(values: Tensor) -> Tensor:
    """Return each picture of a batch with a root mean square of 1; where all is 0 it stays so."""
    rms = values.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return values / rms.clamp(min=torch.finfo(values.dtype).tiny)


def _frequency_weights(side: int, power: float) -> Tensor:
    """Return 1/f ** power, float64 (N, F), f in cycles per pixel; the constant counts as the lowest frequency."""
    y, x = torch.fft.fftfreq(side, dtype=torch.float64), torch.fft.rfftfreq(side, dtype=torch.float64)
    return torch.hypot(y[:, None], x[None, :]).clamp(min=1 / side) ** -power
