import platform
import subprocess
import sys

import pytest

from alexnet_cli.core.memory import free_memory, used_memory
from tests.conftest import ROOT

PAGES = """
import resource
import numpy as np
from alexnet_cli.core.memory import reuse_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 26, dtype=np.uint8)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {wanted}:
    assert reuse_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switch")
def test_freed_memory_is_given_out_again():
    """A large block that was freed is used again without new pages from the system, which else come by the thousands."""
    counts = {}
    for wanted in (True, False):
        script = PAGES.format(wanted=wanted)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
        counts[wanted] = int(done.stdout)
    assert counts[True] < 10
    assert counts[False] >= 10  # with the largest pages there are, 64 MiB are 32 of them


def test_free_memory_by_hand(tmp_path):
    """What the system has available counts, or what a container's limit leaves, whose file cache can be given up; or nothing."""
    listing, group = tmp_path / "meminfo", tmp_path / "group"
    listing.write_text("MemTotal:       8000 kB\nMemAvailable:   5000 kB\nHugePages_Total:       0\n")
    assert free_memory(listing, group) == 5000 * 1024
    group.mkdir()
    for name, text in (("memory.max", "3000000"), ("memory.current", "2000000"), ("memory.stat", "anon 7\ninactive_file 500000\n")):
        (group / name).write_text(text)
    assert free_memory(listing, group) == 1_500_000
    (group / "memory.max").write_text("max\n")
    assert free_memory(listing, group) == 5000 * 1024
    assert free_memory(tmp_path / "missing", tmp_path / "missing") is None


def test_used_memory(tmp_path):
    """The memory in use and its peak are read as Linux lists them; on other systems nothing is known."""
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t    300 kB\nVmRSS:\t    200 kB\n")
    assert used_memory(status) == (200 * 1024, 300 * 1024)
    assert used_memory(tmp_path / "missing") is None
