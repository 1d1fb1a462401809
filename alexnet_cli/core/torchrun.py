"""Whether torchrun has started this process, and as which of how many (stdlib only)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """This process among those that torchrun started: rank of world in all, local_rank of local_world on this machine."""

    rank: int
    world: int
    local_rank: int
    local_world: int


def place_from(environment: Mapping[str, str] | None = None) -> Place | None:
    """Return what torchrun wrote into the environment, None where it did not start this process."""
    environment = os.environ if environment is None else environment
    if not all(name in environment for name in NEEDED):
        return None
    try:
        return Place(*(int(environment[name]) for name in NEEDED[:4]))
    except ValueError:
        return None
