"""Which classes are mistaken for which: counts of each class, the pairs mistaken most, and their picture.

It must not import torch. Legend: N pictures, L right classes of a picture, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.plot import new_figure, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 50  # of which every one has a row that can be read
NUMBERED = 15  # up to which each cell has its number
MOST_PAIRS = 30  # drawn where there are more classes
ERROR = "#d55e00"


@dataclass(frozen=True)
class ClassResult:
    """One class: its pictures, its top-1 and top-5 error (0-1), and what it is mistaken for most, "" and 0 where for nothing."""

    class_id: str
    name: str
    images: int
    top1_error: float
    top5_error: float
    mistaken_for: str
    mistaken: int


@dataclass(frozen=True)
class Pair:
    """Pictures of one class that were named another: how many, and which share of the first's pictures."""

    truth: int
    named: int
    count: int
    share: float


@dataclass(frozen=True, eq=False)
class Confusions:
    """How often each class was named each class, where that was ever, P pairs: of 10,000 classes a table would be too large.

    truth_P, named_P: classes. count_P: pictures. images_K: pictures of each class.
    """

    truth_P: NDArray[np.int64]
    named_P: NDArray[np.int64]
    count_P: NDArray[np.int64]
    images_K: NDArray[np.int64]

    def table(self) -> NDArray[np.int64]:
        """Return the counts by true class (row) and named class (column), int64 (K, K)."""
        counts_KK = np.zeros((len(self.images_K), len(self.images_K)), dtype=np.int64)
        counts_KK[self.truth_P, self.named_P] = self.count_P
        return counts_KK


def attributed(right_NL: NDArray[np.int64], named_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class that each picture counts for, int64 (N,): where several are right the one that was named, else the first.

    -1 where none is known.
    """
    hit_N = (right_NL == named_N[:, None]).any(axis=1)
    return np.where(hit_N, named_N, right_NL[:, 0])


def count_confusions(truth_N: NDArray[np.int64], named_N: NDArray[np.int64], classes: int) -> Confusions:
    """Count the pictures of each class (truth_N; -1 counts nowhere) by the class that they were named."""
    known = truth_N >= 0
    codes, count_P = np.unique(truth_N[known] * classes + named_N[known], return_counts=True)
    return Confusions(codes // classes, codes % classes, count_P, np.bincount(truth_N[known], minlength=classes))


def class_results(
    confusions: Confusions,
    truth_N: NDArray[np.int64],
    credits: tuple[NDArray[np.float64], NDArray[np.float64]],
    classes: Sequence[str],
    words: Sequence[str],
) -> list[ClassResult]:
    """Return a result for each class that has a picture, in the classes' order. credits: top-1 and top-5 of each picture."""
    known = truth_N >= 0
    sums = [np.bincount(truth_N[known], weights=credit_N[known], minlength=len(classes)) for credit_N in credits]
    worst = {pair.truth: pair for pair in reversed(confused_pairs(confusions))}  # of each class the first in their order
    results = []
    for k in np.flatnonzero(confusions.images_K).tolist():
        images, pair = int(confusions.images_K[k]), worst.get(k)
        top1, top5 = (1 - float(total[k]) / images for total in sums)
        mistaken_for, mistaken = (classes[pair.named], pair.count) if pair else ("", 0)
        results.append(ClassResult(classes[k], words[k], images, top1, top5, mistaken_for, mistaken))
    return results


def confused_pairs(confusions: Confusions, most: int | None = None) -> list[Pair]:
    """Return the pairs mistaken most often, first things first; of equals those of the larger share of their class."""
    rows = zip(confusions.truth_P.tolist(), confusions.named_P.tolist(), confusions.count_P.tolist(), strict=True)
    pairs = [Pair(truth, named, count, count / int(confusions.images_K[truth])) for truth, named, count in rows if truth != named]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.truth, pair.named))[:most]


def draw_confusions(confusions: Confusions, names: Sequence[str]) -> "Figure":
    """Draw the table of up to MOST_CLASSES classes, or the pairs mistaken most where there are more.

    names: of the classes. Raises AlexNetError where matplotlib is not installed.
    """
    short = [short_name(name) for name in names]
    return _draw_table(confusions.table(), short) if len(names) <= MOST_CLASSES else _draw_pairs(confusions, short)


def _draw_table(counts_KK: NDArray[np.int64], names: Sequence[str]) -> "Figure":
    classes = len(names)
    side = min(14.0, 3.2 + 0.34 * classes)
    figure = new_figure((side + 0.8, side))
    axes = figure.add_subplot()
    images_K1 = counts_KK.sum(axis=1, keepdims=True)
    percent_KK = 100 * counts_KK / np.maximum(images_K1, 1)
    # One hue from light to dark: shares are told apart in grey print and by the colour-blind.
    image = axes.imshow(percent_KK, cmap="Blues", vmin=0, vmax=100)
    if classes <= NUMBERED:
        _write_numbers(axes, counts_KK, percent_KK)
    size = 9 if classes <= 25 else 6
    axes.set_xticks(range(classes), names, rotation=90 if classes > NUMBERED else 45, fontsize=size, parse_math=False)
    if classes <= NUMBERED:
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    axes.set_yticks(range(classes), names, fontsize=size, parse_math=False)
    axes.set_xlabel("named by the network")
    axes.set_ylabel("true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of the class's pictures (%)")
    bar.outline.set_visible(False)
    return figure


def _write_numbers(axes: "Axes", counts_KK: NDArray[np.int64], percent_KK: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts_KK):
        if count:
            colour = "white" if percent_KK[row, column] > 55 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=colour)


def _draw_pairs(confusions: Confusions, names: Sequence[str]) -> "Figure":
    pairs = confused_pairs(confusions, MOST_PAIRS)
    figure = new_figure((9.0, 1.2 + 0.26 * max(1, len(pairs))))
    axes = figure.add_subplot()
    axes.barh(range(len(pairs)), [100 * pair.share for pair in pairs], color=ERROR, height=0.7)
    labels = [f"{names[pair.truth]} named {names[pair.named]}" for pair in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8, parse_math=False)
    for place, pair in enumerate(pairs):
        axes.text(100 * pair.share, place, f" {pair.count:,}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the class's pictures (%); their number at the bar")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    return figure
