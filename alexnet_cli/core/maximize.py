"""Pictures that units respond to most, found by climbing the gradient of their sums (activation maximisation).

Sources: Erhan, Bengio, Courville, Vincent (2009), the method; Simonyan, Vedaldi, Zisserman (2014), sums rather than
probabilities; Yosinski et al. (2015) and Olah, Mordvintsev, Schubert (2017), what keeps the pictures natural.
Legend: B batch, C channels (RGB), K components of colour, H, W of a canvas, S input size, T side of a
tile, N with its margins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core import draws
from alexnet_cli.core.canvas import Canvas, canvas_of, reaches
from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision, settle
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.layers import ADDING, require_finite, steps, sums
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.painting import Prior, make_painter, prior_of, unit_rms
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.units import layer_units, require_units
from alexnet_cli.core.views import centre_mean, from_pixel_differences

RATE, MOMENTUM = 1.0, 0.9  # a step is as long as the picture, at first, and shrinks to nothing at the end


@dataclass(frozen=True)
class MaximizeOptions:
    """How pictures are looked for.

    steps: of each picture. contrast: root mean square of its differences from the mean, pixel values. seed: of the noise that it
    begins with and of its shifts. batch_size: pictures at a time, which changes nothing but speed and memory. prior: what holds
    pictures to what photographs are like; None for what suits the layer.
    """

    steps: int = 64
    contrast: float = 50.0
    seed: int = 0
    batch_size: int = 16
    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Raise AlexNetError for numbers of which no picture comes."""
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise AlexNetError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 < self.contrast <= 255:
            raise AlexNetError(f"contrast is {self.contrast}, expected more than 0 and at most 255 pixel values")


@dataclass(frozen=True)
class Maximized:
    """The picture that one unit responds to.

    image: uint8 (T, T, 3), RGB: of a layer of maps what the unit in the middle of its map sees, else the whole input. activation:
    what the unit adds up when the image lies at its place in the mean picture. first: the image's first row and column there.
    """

    unit: int
    image: NDArray[np.uint8]
    activation: float
    first: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, without the image."""
        return {"unit": self.unit, "activation": self.activation, "size": len(self.image), "first": self.first}


def maximize(
    weights: Weights,
    layer: str,
    units: Sequence[int],
    options: MaximizeOptions | None = None,
    *,
    device: torch.device,
    precision: Precision,
    reporter: Reporter | None = None,
) -> list[Maximized]:
    """Find the picture that each unit of a layer responds to most, in the order of `units`.

    A picture depends on its unit, the seed and the other options, not on which units are asked for with it. Raises AlexNetError
    for a layer or a unit that the network does not have, and where sums overflow.
    """
    options, reporter = options or MaximizeOptions(), reporter or Reporter()
    canvas = canvas_of(weights.recipe, layer)
    if units:
        require_units(layer_units(weights, layer), units)
    settle(precision, device)
    climber = _Climber(weights, layer, canvas, options, device, precision)
    reporter.start(f"pictures for {layer}", len(units) * options.steps, "steps")
    try:
        found: list[Maximized] = []
        for start in range(0, len(units), options.batch_size):
            found += climber.find(units[start : start + options.batch_size], reporter)
    finally:
        reporter.finish()
    return found


class _Climber:
    """One layer's canvas, painter and network, for batches of its units."""

    def __init__(
        self, weights: Weights, layer: str, canvas: Canvas, options: MaximizeOptions, device: torch.device, precision: Precision
    ) -> None:
        recipe = weights.recipe
        self.layer, self.canvas, self.options, self.precision = layer, canvas, options, precision
        self.network = build_network(weights, device, precision)
        mean_CHW = centre_mean(weights.mean.to(device, precision.dtype), recipe)[0]
        self.mean_CSS = mean_CHW.expand(3, recipe.input_size, recipe.input_size)
        self.prior = options.prior or prior_of(recipe, layer)
        self.painter = make_painter(self.mean_CSS, canvas.seen, self.prior, options.contrast)

    def find(self, units: Sequence[int], reporter: Reporter) -> list[Maximized]:
        """Climb from each unit's own noise; the steps shrink evenly."""
        options = self.options
        numbers_BKNN, shifts_BT2 = self._draw(units)
        velocity_BKNN = torch.zeros_like(numbers_BKNN)
        for step in range(options.steps):
            reached_B, gradient_BKNN = self._look(numbers_BKNN, units, shifts_BT2[:, step])
            velocity_BKNN = MOMENTUM * velocity_BKNN + (1 - MOMENTUM) * unit_rms(gradient_BKNN)
            # The picture's length is fixed by the painter: only the direction of the numbers counts.
            numbers_BKNN = unit_rms(numbers_BKNN + RATE * (1 - step / options.steps) * velocity_BKNN)
            reporter.advance(len(units), activation=float(reached_B.mean()))
        return self._finish(units, self.painter.paint(numbers_BKNN))

    def _draw(self, units: Sequence[int]) -> tuple[Tensor, NDArray[np.int64]]:
        """Return what each unit begins with, (B, K, N, N), and its shifts in each step, (B, steps, 2), 0 to twice the jitter."""
        seed, steps, side = self.options.seed, self.options.steps, self.painter.mean_CNN.shape[1]
        noise = [draws.normals(3 * side**2, seed, f"maximize {self.layer}", unit).reshape(3, side, side) for unit in units]
        places = 2 * self.prior.jitter + 1
        shifts = [draws.integers(2 * steps, places, seed, f"jitter {self.layer}", unit).reshape(steps, 2) for unit in units]
        numbers_BKNN = torch.from_numpy(np.stack(noise)).to(self.precision.dtype)  # before it travels: not every device has float64
        return numbers_BKNN.to(self.mean_CSS.device), np.stack(shifts)

    def _look(self, numbers_BKNN: Tensor, units: Sequence[int], shifts_B2: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return what the units add up of shifted pictures, and its gradient."""
        numbers_BKNN = numbers_BKNN.detach().requires_grad_()
        painted_BCNN = self.painter.paint(numbers_BKNN)
        size = len(self.canvas.tile)
        tiles_BCTT = torch.stack(
            [one[:, y : y + size, x : x + size] for one, (y, x) in zip(painted_BCNN, shifts_B2.tolist(), strict=True)]
        )
        shown_BCHW = F.pad(tiles_BCTT, self.canvas.around)
        with self.precision.autocast(shown_BCHW.device):
            reached_B = unit_sums(self.network, shown_BCHW, self.layer, units, self.canvas.unit)
        (gradient_BKNN,) = torch.autograd.grad(reached_B.sum(), numbers_BKNN)
        return reached_B.detach(), gradient_BKNN

    def _finish(self, units: Sequence[int], painted_BCNN: Tensor) -> list[Maximized]:
        """Cut the tiles, round them, and measure them in the mean picture."""
        canvas, margin = self.canvas, self.prior.jitter
        shown, tile = slice(margin, margin + len(canvas.tile)), slice(canvas.seen.start, canvas.seen.stop)
        mean_CTT = self.mean_CSS[:, tile, tile]
        images_BCTT = (painted_BCNN[:, :, shown, shown] + mean_CTT).round().clamp(0, 255)
        differences_BCSS = self.mean_CSS.new_zeros((len(units), *self.mean_CSS.shape))
        differences_BCSS[:, :, tile, tile] = images_BCTT - mean_CTT
        with torch.no_grad():
            reached_B = unit_sums(self.network, differences_BCSS, self.layer, units, canvas.middle)
        require_finite(reached_B, self.layer)
        images_BTTC = images_BCTT.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        return [
            Maximized(unit, image, activation, canvas.seen.start)
            for unit, image, activation in zip(units, images_BTTC, reached_B.tolist(), strict=True)
        ]


def unit_sums(network: AlexNet, differences_BCHW: Tensor, layer: str, units: Sequence[int], place: int | None) -> Tensor:
    """Return what the first unit adds up of the first picture, the second of the second, and so on, (B,).

    differences_BCHW: from the mean, RGB, in pixel values. place: the units' row and column in their maps, None for units without.
    """
    x = from_pixel_differences(differences_BCHW, network.recipe)
    of_each = (torch.arange(len(units)), list(units))
    if place is None:
        return sums(network, x, layer)[of_each]
    reach = reaches(network.recipe, layer)
    for step in steps(network):
        if step.operation == "conv" and step.layer in reach:
            # What the unit does not see need not be computed: a third of conv5's work. Values beside it change, it does not.
            before = max(0, place - reach[step.layer])
            seen = slice(before, place + reach[step.layer] + 1)
            x, place = x[:, :, seen, seen], place - before
        x = step.run(x)
        if step.layer == layer and step.operation in ADDING:
            break
    return x[:, :, place, place][of_each]
