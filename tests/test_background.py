"""The writer beside the training: in order, one at a time, and nothing after a failure."""

import threading
import time
from functools import partial

import pytest

from alexnet_cli.core.background import WAITING, BackgroundWriter


def _note(done: list[tuple[int, int]], number: int) -> None:
    done.append((number, threading.get_ident()))


def test_jobs_are_done_in_order_and_elsewhere():
    """Jobs run one after the other, in a thread of their own, and all of them before the end."""
    done: list[tuple[int, int]] = []
    with BackgroundWriter() as writer:
        for number in range(6):
            writer.submit(partial(_note, done, number))
    assert [number for number, _ in done] == list(range(6))
    assert {thread for _, thread in done} != {threading.get_ident()} and len({thread for _, thread in done}) == 1


def test_submitting_does_not_wait_for_the_job():
    """While one job runs the next can be given; a third one waits for the first."""
    gate = threading.Event()

    def wait() -> None:
        gate.wait(30)

    with BackgroundWriter() as writer:
        began = time.monotonic()
        for _ in range(WAITING):
            writer.submit(wait)
        assert time.monotonic() - began < 5
        threading.Timer(0.3, gate.set).start()
        writer.submit(lambda: None)
        assert gate.is_set()


def test_a_failure_comes_out_and_ends_the_rest():
    """What a job raises is raised to the one who gives the next; jobs after it are not done."""
    done: list[str] = []

    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), BackgroundWriter() as writer:
        writer.submit(fail)
        writer.submit(lambda: done.append("after"))
        writer.finish()
    assert not done


def test_another_exception_does_not_lose_a_job():
    """What was given before something else failed is still done."""
    done: list[str] = []
    with pytest.raises(ValueError, match="else"), BackgroundWriter() as writer:
        writer.submit(lambda: time.sleep(0.1))
        writer.submit(lambda: done.append("saved"))
        raise ValueError("else")
    assert done == ["saved"]
