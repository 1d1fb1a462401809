"""What all tests share: a fixed number of threads, an environment without a user's settings, and real data where it lies."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported, and inherited by the processes that tests start: more threads than two only get in each other's way
# on the small networks of the tests, and the number of threads is part of what makes sums come out alike.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, min(2, (os.cpu_count() or 1) // WORKERS))))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a thread that waits leaves its core to other processes

# A shell starts what it puts in the background deaf to Ctrl-C, and children inherit that; the tests of Ctrl-C need ears.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"
USER_SETTINGS = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "COLUMNS")


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings out of the tests."""
    for name in list(os.environ):
        if name.startswith("ALEXNET_") or name in USER_SETTINGS:
            monkeypatch.delenv(name)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave torch.compile out, in the processes started here too: other tests compare compiled with eager."""
    import torch

    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    with torch.compiler.set_stance("force_eager"):
        yield


def _real(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"real data is not here: {name}")
    return folder


@pytest.fixture(scope="session")
def clothing_small() -> Path:
    """Return 3,781 photographs of clothes in class folders train, validation and test."""
    return _real("clothing-small")


@pytest.fixture(scope="session")
def ilsvrc_devkit() -> Path:
    """Return ILSVRC-2012's development kit: meta.mat, the validation labels and synset_words.txt."""
    return _real("ilsvrc2012-devkit")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB; `resize_disk` makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # a store may still be open in the frame of a failed test


def resize_disk(disk: Path, size: str) -> None:
    """Give a small disk another size, such as "30m"."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
