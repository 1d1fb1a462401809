"""What answers are worth: the credit of each, ties counted as the authors counted them, and the sums over all pictures.

Legend: N pictures of the stores, B of a batch, K classes, L right classes of a picture, T the classes named first.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.errors import DataError
from alexnet_cli.core.towers import Layout

TOP = 5  # paper 2: the truth is among the five most probable


@dataclass(frozen=True)
class Evaluation:
    """What one pass over all images measured.

    images: those whose truth is known. crops: views of each image. top1_error, top5_error: fractions 0-1; the latter counts the
    `top_k` most probable classes, which are fewer than five where there are fewer classes. loss: mean of -log of the truth's
    averaged probability, nats.
    """

    images: int
    crops: int
    top1_error: float
    top5_error: float
    top_k: int
    loss: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Answers:
    """What was answered about every picture of the stores, in stored order.

    named_NT: int64, the most probable classes, first things first; probabilities_NT: theirs, 0-1. truth_N: probability of what is
    right. loss_N: nats. top1_N, top5_N: credit, 0-1, as `score` gives it. counted_N: 1 where the truth is known, else 0, and then
    loss and credits are 0. All but named_NT are float64.
    """

    named_NT: NDArray[np.int64]
    probabilities_NT: NDArray[np.float64]
    truth_N: NDArray[np.float64]
    loss_N: NDArray[np.float64]
    top1_N: NDArray[np.float64]
    top5_N: NDArray[np.float64]
    counted_N: NDArray[np.float64]

    def evaluation(self, crops: int, top_k: int, seconds: float) -> Evaluation:
        """Sum them up. Raises DataError when no picture's truth is known."""
        images = int(self.counted_N.sum())
        if not images:
            raise DataError(
                "no picture has a known class", hint="evaluate another --split, or give --labels that name its pictures"
            )
        top1, top5, loss = (float(values.sum()) / images for values in (self.top1_N, self.top5_N, self.loss_N))
        return Evaluation(images, crops, 1 - top1, 1 - top5, top_k, loss, seconds)


def score(probabilities_BK: Tensor, right_BL: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the probability of what is right, its loss, and the credit for the first and the `top_k` first, float64 (B,) each.

    right_BL: int64, the right classes of each image, filled up by -1; an image without any has no loss and no credit.
    The credit is the chance that a right class is among the k first if classes of equal probability are put in random order, so
    that a network that knows nothing is right once in K times. Not-a-number earns nothing. Where several classes are right, each
    will do, and the loss is that of their sum.
    Source: the 2012 code's treatment of ties; its top-1 credit is 1 / (number tied for the first place).
    """
    probabilities_BK = probabilities_BK.to(_exact(probabilities_BK.device))
    right_BL = right_BL.to(probabilities_BK.device)
    given_BL = right_BL >= 0
    each_BL = probabilities_BK.gather(1, right_BL.clamp_min(0)).where(given_BL, -torch.inf)
    best_B1 = each_BL.amax(dim=1, keepdim=True)
    better_B = (probabilities_BK > best_B1).sum(dim=1).double()
    tied_B = (probabilities_BK == best_B1).sum(dim=1).double()
    right_B = (each_BL == best_B1).sum(dim=1).double()
    counts_B = given_BL.any(dim=1) & best_B1.squeeze(1).isfinite()
    credits = [_chance(better_B, tied_B, right_B, k).where(counts_B, 0.0) for k in (1, top_k)]
    sum_B = each_BL.where(given_BL, 0.0).sum(dim=1)
    # A probability that rounds to 0 has the loss of the smallest number there is, not an infinite one.
    loss_B = -sum_B.clamp_min(torch.finfo(sum_B.dtype).tiny).double().log()
    return sum_B.double(), loss_B.where(given_BL.any(dim=1), 0.0), credits[0], credits[1]


def _chance(better_B: Tensor, tied_B: Tensor, right_B: Tensor, k: int) -> Tensor:
    """Return the chance that one of `right` among `tied` equals comes on one of the places that `better` ones leave of k."""
    missed_B = torch.ones_like(tied_B)
    for place in range(k):
        drawn_B = (tied_B - right_B - place).clamp_min(0) / (tied_B - place).clamp_min(1)
        missed_B = torch.where(better_B + place < k, missed_B * drawn_B, missed_B)
    return 1 - missed_B


class Tally:
    """Collects answers batch by batch; places of other ranks' pictures stay 0."""

    def __init__(self, right_NL: NDArray[np.int64]) -> None:
        self._right_NL = torch.from_numpy(right_NL)
        self._columns: dict[str, Tensor] = {}

    def add(self, positions: slice, probabilities_BK: Tensor) -> None:
        """Note what was answered about some pictures."""
        right_BL = self._right_NL[positions]
        top = min(TOP, probabilities_BK.shape[1])
        ordered = torch.sort(probabilities_BK, dim=1, descending=True, stable=True)  # of equals the first class goes first
        truth_B, loss_B, top1_B, top5_B = score(probabilities_BK, right_BL, top)
        found = {
            "named_NT": ordered.indices[:, :top],
            "probabilities_NT": ordered.values[:, :top],
            "truth_N": truth_B,
            "loss_N": loss_B,
            "top1_N": top1_B,
            "top5_N": top5_B,
            "counted_N": (right_BL >= 0).any(dim=1),
        }
        for name, values in found.items():
            if name not in self._columns:
                self._columns[name] = torch.zeros(len(self._right_NL), *values.shape[1:], dtype=torch.float64)
            self._columns[name][positions] = values.to("cpu", torch.float64)

    def of_all_ranks(self, layout: Layout) -> Answers:
        """Return what all ranks have noted, on all of them."""
        widths = layout.numbers(float(self._columns["named_NT"].shape[1] if self._columns else 0))
        shapes = {entry.name: (int(max(widths)),) if entry.name.endswith("NT") else () for entry in fields(Answers)}
        totals = {}
        for name, shape in shapes.items():
            own = self._columns.get(name, torch.zeros(len(self._right_NL), *shape, dtype=torch.float64))
            totals[name] = layout.total(own).numpy()
        return Answers(named_NT=totals.pop("named_NT").astype(np.int64), **totals)


def _exact(device: torch.device) -> torch.device:
    """Return where sums are kept in float64, which Apple's GPUs do not have."""
    return torch.device("cpu") if device.type == "mps" else device
