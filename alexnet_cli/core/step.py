"""One training step from a batch of crops: this replica's part of it, as views, through the network, to new weights."""

from dataclasses import dataclass

from torch import Tensor

from alexnet_cli.core.batches import Batch
from alexnet_cli.core.recipe import Rates
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train_state import TrainState, train_step
from alexnet_cli.core.views import ViewDraws, training_views


@dataclass(frozen=True)
class Part:
    """A replica's part of a batch: crops, labels and draws, where it begins in the batch, and how many of its images count."""

    crops_BHWC: Tensor
    labels_B: Tensor
    drawn: ViewDraws
    first: int
    count: int


def step_on(state: TrainState, batch: Batch, drawn: ViewDraws, rates: Rates) -> tuple[Tensor, Tensor]:
    """Make a step on what all ranks have read of a batch.

    drawn: that of the whole epoch. Returns this rank's parts of loss and top-1 error, as `train_step` does.
    """
    part = replica_part(state.layout, batch, drawn)
    views_BCHW = training_views(part.crops_BHWC, part.drawn, state.colours, state.network.recipe, rates.colour_noise)
    return train_step(state, views_BCHW, part.labels_B, rates, first_image=part.first, share=part.count / batch.size)


def replica_part(layout: Layout, batch: Batch, drawn: ViewDraws) -> Part:
    """Bring what this replica computes of a batch to its device; the ranks of a pair give each other what they have read."""
    rows = layout.replica_share(batch.size)
    crops_BHWC, labels_B = (
        layout.exchange_rows(own.to(layout.device, non_blocking=True), len(rows)) for own in (batch.images_BHWC, batch.labels_B)
    )
    if not rows:
        # A short batch may leave nothing for the last replicas; a picture of no weight keeps them in step with the others.
        crops_BHWC, labels_B = crops_BHWC.new_zeros(1, *crops_BHWC.shape[1:]), labels_B.new_zeros(1)
    first = batch.positions.start + min(rows.start, batch.size - 1)
    return Part(crops_BHWC, labels_B, drawn.part(range(first, first + len(labels_B))), rows.start, len(rows))
