"""How the process keeps memory (stdlib only)."""

import ctypes
import os
from pathlib import Path

# Parameters of glibc's mallopt, and values that switch them off.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER_TRIM, NO_MAPPINGS = 2**31 - 1, 0


def reuse_memory() -> bool:
    """Let freed memory be given out again instead of being returned to the system; say whether this C library can.

    glibc maps every large block anew, and the system clears its pages when they are first touched. A training step on a
    processor allocates several gigabytes in such blocks: with this it takes 1.65 s instead of 2.07 s (128 images, bf16, 2 cores
    of an AMD EPYC), and the process holds 3.5 GB instead of 2.8 GB. Other libraries (musl, macOS) are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, NO_MAPPINGS)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))


def memory_in_use(on_gpu: int = 0) -> dict[str, float]:
    """Return how many bytes this process holds, by "memory" and, if there are any on a GPU, "gpu_memory"; empty if unknown."""
    figures: dict[str, float] = {"gpu_memory": on_gpu} if on_gpu else {}
    try:
        resident_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # only Linux tells
        return figures
    return {"memory": resident_pages * os.sysconf("SC_PAGE_SIZE"), **figures}
