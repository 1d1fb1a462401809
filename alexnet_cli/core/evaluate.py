"""How often networks are wrong: ten views of each picture, their probabilities averaged (paper 4.1, 6).

Legend: M networks, N pictures of the stores, B of a batch, V views, C channels, H, W stored size, K classes, L right classes of a
picture.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.batches import require_size, stored_batches
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.scoring import TOP, Answers, Evaluation, Tally
from alexnet_cli.core.shared_views import can_share, first_sums
from alexnet_cli.core.store import Store
from alexnet_cli.core.truths import match_classes, stored_truths
from alexnet_cli.core.views import num_views, test_views

BATCHES_BETWEEN_MEETINGS = 50


@dataclass(frozen=True)
class Member:
    """A network that answers. mean_CHW: float32 (3, H, W), RGB, 0-255.

    outputs: which of its outputs stand for the classes that are asked for, in their order, int64 (K,); None for all as they are.
    """

    network: AlexNet
    mean_CHW: Tensor
    recipe: Recipe
    outputs: Tensor | None = None


def evaluate(
    network: AlexNet,
    mean_CHW: Tensor,
    stores: Sequence[Store],
    *,
    classes: Sequence[str],
    recipe: Recipe | None = None,
    crops: int | None = None,
    device: torch.device,
    precision: Precision,
    batch_size: int = 128,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Score every image of the stores, taken together.

    mean_CHW: float32 (3, H, W), RGB, 0-255. classes: ids in the order of the network's outputs; labels are matched
    to them by id. recipe: the network's own by default. crops: 10, 1 for the centre, None for the recipe's. batch_size: views in
    one forward pass, at most.
    On several ranks all must call it: every image is read by one rank and scored by one replica, none twice, and all return the
    same.
    Raises DataError when a store has other classes or pictures of another size, when there is no image, or when one cannot be read.
    """
    started = time.perf_counter()
    recipe = recipe or network.recipe
    right_NL = stored_truths(stores, [match_classes(store, classes) for store in stores])
    crops = recipe.test_crops if crops is None else crops
    answers, *_ = answer(
        [Member(network, mean_CHW, recipe)],
        stores,
        right_NL,
        crops=crops,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        reporter=reporter,
    )
    return answers.evaluation(num_views(recipe, crops), min(TOP, len(classes)), time.perf_counter() - started)


def answer(
    members: Sequence[Member],
    stores: Sequence[Store],
    right_NL: NDArray[np.int64],
    *,
    coefficients: Sequence[float] | None = None,
    crops: int | None = None,
    device: torch.device,
    precision: Precision,
    batch_size: int = 128,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> list[Answers]:
    """Ask every network about every picture; where there are several, the last answers are those of all together.

    right_NL: the right classes, filled up by -1. coefficients: what each member's probabilities count, of the sum 1; None for
    all alike. crops: 10, 1, or None for what each recipe says. Otherwise as `evaluate`.
    """
    layout = members[0].network.layout
    weights_M = torch.tensor(coefficients or [1 / len(members)] * len(members), dtype=torch.float64)
    tallies = [Tally(right_NL) for _ in range(len(members) + (len(members) > 1))]
    passes = ask(
        members, stores, crops, device=device, precision=precision, batch_size=batch_size, workers=workers, reporter=reporter
    )
    for positions, probabilities_MBK in passes:
        for tally, probabilities_BK in zip(tallies, probabilities_MBK, strict=False):
            tally.add(positions, probabilities_BK)
        if len(members) > 1:
            weights_M11 = weights_M.to(probabilities_MBK)[:, None, None]
            tallies[-1].add(positions, (weights_M11 * probabilities_MBK).sum(dim=0))
    return [tally.of_all_ranks(layout) for tally in tallies]


def ask(
    members: Sequence[Member],
    stores: Sequence[Store],
    crops: int | None,
    *,
    device: torch.device,
    precision: Precision,
    batch_size: int = 128,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield what is scored here: where it stands in the stores' order, and its probabilities_MBK; each picture is decoded once."""
    reporter = reporter or Reporter()
    total = sum(len(store) for store in stores)
    for member in members:
        for store in stores:
            require_size(store, member.recipe)
    members = [_on_device(member, device, precision) for member in members]
    views = max(num_views(member.recipe, _crops(member, crops)) for member in members)
    layout = members[0].network.layout
    # A whole number for each rank of a replica, which reads its part of them.
    images_per_pass = _evenly(-(-total // layout.replicas), max(1, batch_size // views))
    images_per_pass = -(-images_per_pass // layout.towers) * layout.towers
    reporter.start("evaluate", total, "images")
    share, pin = (layout.rank, layout.world), device.type == "cuda"
    batch_images = images_per_pass * layout.replicas
    with stored_batches(stores, batch_size=batch_images, workers=workers, share=share, pin=pin) as batches:
        for batch in batches:
            rows = layout.replica_share(batch.size)
            images_BHWC = layout.exchange_rows(batch.images_BHWC.to(device, non_blocking=True), len(rows))
            # One shape for all passes: no library searches for its fastest way twice.
            padded_BHWC = _padded(images_BHWC, images_per_pass)
            scored = [_scores(member, padded_BHWC, crops, precision) for member in members] if rows else []
            known = [probabilities_BK[: len(rows)] for probabilities_BK in scored if probabilities_BK is not None]
            if known:
                first = batch.positions.start + rows.start
                yield slice(first, first + len(rows)), torch.stack(known)
            reporter.advance(batch.size)
            if batch.positions.start // batch_images % BATCHES_BETWEEN_MEETINGS == 0:
                layout.numbers(0.0)  # a rank that falls behind is waited for here, as long as one may take to come to the end
    reporter.finish()


def _crops(member: Member, crops: int | None) -> int:
    return member.recipe.test_crops if crops is None else crops


def _on_device(member: Member, device: torch.device, precision: Precision) -> Member:
    outputs = None if member.outputs is None else member.outputs.to(device)
    return Member(member.network, member.mean_CHW.to(device, precision.dtype), member.recipe, outputs)


def _scores(member: Member, images_BHWC: Tensor, crops: int | None, precision: Precision) -> Tensor | None:
    return average_probabilities(
        member.network, images_BHWC, member.mean_CHW, member.recipe, _crops(member, crops), precision, member.outputs
    )


@torch.no_grad()
def average_probabilities(
    network: AlexNet,
    images_BHWC: Tensor,
    mean_CHW: Tensor,
    recipe: Recipe,
    crops: int,
    precision: Precision,
    outputs: Tensor | None = None,
) -> Tensor | None:
    """Return each image's probabilities (B, K), the mean over its views; None on the rank that has no scores.

    images_BHWC: uint8 (B, H, W, 3), RGB. mean_CHW: on the network's device, in its type. outputs: the classes to choose from, as
    in `Member`; the others do not compete. The softmax is taken of each view by itself, in float32 (float64 in fp64).
    Source: paper 4.1; probabilities rather than logits: the 2012 code.
    """
    with precision.autocast(mean_CHW.device):
        if can_share(recipe, crops):
            logits_BK = network.go_on(first_sums(network, images_BHWC, mean_CHW, recipe))
        else:
            views_BVCHW = test_views(images_BHWC, mean_CHW, recipe, crops)
            logits_BK = network(views_BVCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    if not network.layout.scores:
        return None
    chosen_BK = logits_BK if outputs is None else logits_BK[:, outputs]
    return torch.softmax(chosen_BK.to(precision.dtype), dim=1).unflatten(0, (len(images_BHWC), -1)).mean(dim=1)


def _evenly(total: int, limit: int) -> int:
    """Return how many of `total` images to take at a time, at most `limit`: the last pass is then about as large as the others."""
    return -(-total // -(-total // limit))


def _padded(images_BHWC: Tensor, count: int) -> Tensor:
    missing = count - len(images_BHWC)
    return torch.cat([images_BHWC, images_BHWC.new_zeros(missing, *images_BHWC.shape[1:])]) if missing else images_BHWC
