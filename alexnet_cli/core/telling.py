"""What a training says of its ranks: what each holds at the start, and what it has sent at the end."""

from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train_state import TrainState


def tell_what_is_held(state: TrainState, reporter: Reporter) -> None:
    """Say how many parameters each rank holds; every rank must call it, rank 0's reporter is the one that counts."""
    layout = state.layout
    counts = layout.numbers(sum(parameter.numel() for parameter in state.network.parameters()))
    names = [layout.mesh.name(rank) for rank in range(layout.world)] if layout.world > 1 else ["both towers on one device"]
    for name, count in zip(names if layout.rank == 0 else (), counts, strict=False):
        reporter.note(f"{name}: {count:,.0f} parameters ({layout.device.type}, {state.precision.name})")


def tell_what_was_sent(layout: Layout, reporter: Reporter) -> None:
    """Say how many bytes each rank has sent, by kind; every rank must call it."""
    kinds = {kind: layout.numbers(sent) for kind, sent in layout.sent_bytes.items()}
    if layout.rank != 0 or layout.world == 1:
        return
    for rank in range(layout.world):
        parts = ", ".join(f"{sent[rank]:,.0f} of {kind}" for kind, sent in kinds.items() if sent[rank])
        total = sum(sent[rank] for sent in kinds.values())
        reporter.note(f"{layout.mesh.name(rank)} sent {total:,.0f} bytes{f': {parts}' if parts else ''}")
