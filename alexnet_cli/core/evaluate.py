"""How often a network is wrong: ten views of each picture, their probabilities averaged (paper 4.1, 6).

Legend: B images, V views, C channels, H, W stored size, K classes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.batches import require_size, stored_batches
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store
from alexnet_cli.core.views import num_views, test_views

TOP = 5  # paper 2: the truth is among the five most probable


@dataclass(frozen=True)
class Evaluation:
    """What one pass over all images measured.

    crops: views of each image. top1_error, top5_error: fractions 0-1; the latter counts the `top_k` most probable classes,
    which are fewer than five where there are fewer classes. loss: mean of -log of the truth's averaged probability, nats.
    """

    images: int
    crops: int
    top1_error: float
    top5_error: float
    top_k: int
    loss: float
    seconds: float


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
    reporter = reporter or Reporter()
    truths = _truths(stores, classes)
    for store in stores:
        require_size(store, recipe)
    crops = recipe.test_crops if crops is None else crops
    views = num_views(recipe, crops)
    layout = network.layout
    # A whole number for each rank of a replica, which reads its part of them.
    images_per_pass = _evenly(-(-len(truths) // layout.replicas), max(1, batch_size // views))
    images_per_pass = -(-images_per_pass // layout.towers) * layout.towers
    top_k = min(TOP, len(classes))
    mean_CHW = mean_CHW.to(device, precision.dtype)
    totals_4 = torch.zeros(4, dtype=torch.float64, device=_exact(device))
    reporter.start("evaluate", len(truths), "images")
    share, pin = (layout.rank, layout.world), device.type == "cuda"
    batch_images = images_per_pass * layout.replicas
    with stored_batches(stores, batch_size=batch_images, workers=workers, share=share, pin=pin) as batches:
        for batch in batches:
            rows = layout.replica_share(batch.size)
            images_BHWC = layout.exchange_rows(batch.images_BHWC.to(device, non_blocking=True), len(rows))
            # One shape for all passes: no library searches for its fastest way twice.
            padded_BHWC = _padded(images_BHWC, images_per_pass)
            probabilities_BK = average_probabilities(network, padded_BHWC, mean_CHW, recipe, crops, precision) if rows else None
            if probabilities_BK is not None:
                first = batch.positions.start + rows.start
                truths_B = torch.from_numpy(truths[first : first + len(rows)])
                totals_4 += score(probabilities_BK[: len(rows)], truths_B, top_k)
            reporter.advance(batch.size)
    reporter.finish()
    images, loss, top1, top5 = layout.total(totals_4).tolist()
    assert images == len(truths), "an image was counted twice, or not at all"
    loss, top1, top5 = loss / images, top1 / images, top5 / images
    return Evaluation(len(truths), views, 1 - top1, 1 - top5, top_k, loss, time.perf_counter() - started)


@torch.no_grad()
def average_probabilities(
    network: AlexNet, images_BHWC: Tensor, mean_CHW: Tensor, recipe: Recipe, crops: int, precision: Precision
) -> Tensor | None:
    """Return each image's probabilities (B, K), the mean over its views; None on the rank that has no scores.

    images_BHWC: uint8 (B, H, W, 3), RGB. mean_CHW: on the network's device, in its type. The softmax is taken of each view
    by itself, in float32 (float64 in fp64). Source: paper 4.1; probabilities rather than logits: the 2012 code.
    """
    views_BVCHW = test_views(images_BHWC, mean_CHW, recipe, crops)
    stacked_BCHW = views_BVCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with precision.autocast(mean_CHW.device):
        logits_BK = network(stacked_BCHW)
    if not network.layout.scores:
        return None
    return torch.softmax(logits_BK.to(precision.dtype), dim=1).unflatten(0, views_BVCHW.shape[:2]).mean(dim=1)


def score(probabilities_BK: Tensor, truths_B: Tensor, top_k: int) -> Tensor:
    """Return the number of images and the sums of their loss, top-1 credit and top-k credit, float64 (4,).

    The credit is the chance to be among the k first if classes of equal probability are put in random order, so that a network
    that knows nothing is right once in K times. Not-a-number earns nothing.
    Source: the 2012 code's treatment of ties; its top-1 credit is 1 / (number tied for the first place).
    """
    probabilities_BK = probabilities_BK.to(_exact(probabilities_BK.device))
    truths_B1 = truths_B.to(probabilities_BK.device)[:, None]
    truth_B1 = probabilities_BK.gather(1, truths_B1)
    better_B = (probabilities_BK > truth_B1).sum(dim=1).double()
    tied_B = (probabilities_BK == truth_B1).sum(dim=1).double()
    known_B = truth_B1.isfinite().squeeze(1)
    credits = [torch.where(known_B, ((k - better_B) / tied_B).clamp(0, 1), 0.0).sum() for k in (1, top_k)]
    # A probability that rounds to 0 has the loss of the smallest number there is, not an infinite one.
    smallest = torch.finfo(truth_B1.dtype).tiny
    count = torch.tensor(len(truths_B), dtype=torch.float64, device=truth_B1.device)
    return torch.stack([count, -truth_B1.clamp_min(smallest).double().log().sum(), *credits])


def match_classes(store: Store, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return, for each label of a store, the network's output of that class id, int64.

    Raises DataError when the two do not have the same classes, naming the first that only one of them has.
    """
    if set(store.classes) != set(classes):
        there, here = sorted(set(store.classes) - set(classes)), sorted(set(classes) - set(store.classes))
        first = min(there + here)
        owner = "the store" if first in there else "the weights"
        raise DataError(
            f"{store.folder} has {len(store.classes)} classes, the weights have {len(classes)}; "
            f"the first difference: only {owner} {'has' if owner == 'the store' else 'have'} {first!r}",
            hint="evaluate on data that was prepared with the same classes",
        )
    outputs = {name: index for index, name in enumerate(classes)}
    return np.array([outputs[name] for name in store.classes], dtype=np.int64)


def _truths(stores: Sequence[Store], classes: Sequence[str]) -> NDArray[np.int64]:
    for store in stores:
        if not store.is_labelled:
            unknown = int((store.labels < 0).sum())
            raise DataError(
                f"{store.folder} has no label for {unknown:,} of {len(store):,} pictures",
                hint="evaluate another --split, or prepare it from a source with labels",
            )
    truths = np.concatenate([match_classes(store, classes)[store.labels] for store in stores])
    if len(truths) == 0:
        raise DataError(f"no images in {', '.join(str(store.folder) for store in stores)}")
    return truths


def _evenly(total: int, limit: int) -> int:
    """Return how many of `total` images to take at a time, at most `limit`: the last pass is then about as large as the others."""
    return -(-total // -(-total // limit))


def _padded(images_BHWC: Tensor, count: int) -> Tensor:
    missing = count - len(images_BHWC)
    return torch.cat([images_BHWC, images_BHWC.new_zeros(missing, *images_BHWC.shape[1:])]) if missing else images_BHWC


def _exact(device: torch.device) -> torch.device:
    """Return where sums are kept in float64, which Apple's GPUs do not have."""
    return torch.device("cpu") if device.type == "mps" else device
