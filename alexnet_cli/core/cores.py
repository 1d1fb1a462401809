"""How many processor cores this process may use (stdlib only)."""

import os


def usable_cores() -> int:
    """Return how many workers there are when nobody says otherwise: a container or a job may own fewer cores than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
