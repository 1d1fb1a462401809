import platform
import subprocess
import sys

import pytest

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
