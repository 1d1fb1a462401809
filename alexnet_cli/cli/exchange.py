"""What each rank sends in a step, as a table; `info` and `train --dry-run` print it."""

from collections.abc import Sequence

from alexnet_cli.cli.render import print_table


def print_sent(names: Sequence[str], sent: Sequence[dict[str, int]], precision: str) -> None:
    """Print the bytes that each rank sends in a step, by kind; ranks are named in the same order."""
    print_by_rank("sent in a step", names, sent)
    less = "; bf16 has half of these" if precision == "fp32" else ""
    print(f"\nbytes; activations and their gradients in {precision}{less}")


def print_by_rank(title: str, names: Sequence[str], columns: Sequence[dict[str, int]]) -> None:
    """Print a row for each kind of bytes of which a rank has any, one for the total, and a column for each rank."""
    kinds = [kind for kind in dict.fromkeys(kind for column in columns for kind in column) if any(c.get(kind) for c in columns)]
    rows = [(kind, *(f"{column.get(kind, 0):,}" for column in columns)) for kind in kinds]
    print_table((title, *names), [*rows, ("total", *(f"{sum(column.values()):,}" for column in columns))])


def alike(names: Sequence[str], columns: Sequence[object]) -> tuple[list[str], list[int]]:
    """Bring ranks that have the same figures together: the name of each kind of rank, and the first of its ranks."""
    members: dict[str, list[int]] = {}
    for index, column in enumerate(columns):
        members.setdefault(repr(column), []).append(index)
    firsts = [indices[0] for indices in members.values()]
    more = [f" and {len(indices) - 1} like it" if len(indices) > 1 else "" for indices in members.values()]
    return [names[first] + others for first, others in zip(firsts, more, strict=True)], firsts
