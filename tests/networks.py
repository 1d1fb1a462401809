"""A narrow network of the paper's shape, and two ranks to run a function on."""

import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from alexnet_cli.core.meeting import end_at_once, join_ranks, leave_ranks
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original, small
from alexnet_cli.core.towers import Layout

NARROW = {"channels": (8, 16, 24, 24, 16), "hidden": (32, 32)}


def narrow(recipe: Recipe | None = None, **changes: Any) -> Recipe:
    """Return a recipe, #145 by default, with few channels: everything else is as in the full one."""
    return replace(recipe or original(), **{**NARROW, "batch_size": 8, **changes})


def narrow_small(**changes: Any) -> Recipe:
    """Return the recipe for small data, with few channels."""
    return narrow(small(), **changes)


def on_two_ranks(work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Run work(layout, *arguments) on two processes, a tower each, and return what each returned."""
    return on_ranks(2, 2, work, *arguments)


def on_ranks(world: int, towers: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Run work(layout, *arguments) on so many processes, a tower or both towers each, and return what each returned."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = (world, towers, folder)
        processes = [context.Process(target=_rank, args=(rank, meeting, work, arguments)) for rank in range(world)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        return [pickle.loads(Path(folder, f"result-{rank}").read_bytes()) for rank in range(world)]


def _rank(rank: int, meeting: tuple[int, int, str], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    world, towers, folder = meeting
    layout = join_ranks(rank, torch.device("cpu"), f"{folder}/meeting", world=world, towers=towers)
    result = work(layout, *arguments)
    Path(folder, f"result-{rank}").write_bytes(pickle.dumps(result))
    assert isinstance(layout, Layout)
    leave_ranks()
    end_at_once(0)
