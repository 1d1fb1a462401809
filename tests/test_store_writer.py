import json
import os
from pathlib import Path

import lmdb
import numpy as np
import pytest

from alexnet_cli.core.errors import DiskFullError, StoreError
from alexnet_cli.core.store import Store
from alexnet_cli.core.store_writer import StoreWriter
from alexnet_cli.core.sums import PixelSums
from tests.conftest import resize_disk
from tests.stores import random_images

IMAGES = random_images(6)
NAMES = [f"train/{index}.png" for index in range(1000)]


def meta(count: int) -> dict[str, object]:
    """Return as much meta as a reader needs."""
    return {"format_version": 1, "count": count, "format": "raw", "size": 256, "classes": ["a", "b"], "words": ["a", "b"]}


def keys(folder: Path) -> list[bytes]:
    """Return all keys, in the order of the file."""
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return list(transaction.cursor().iternext(values=False))


def sums_of(image: np.ndarray) -> PixelSums:
    """Sum one picture."""
    sums = PixelSums()
    sums.add(image)
    return sums


def add(writer: StoreWriter, first: int, last: int) -> None:
    """Add some of the six pictures one by one."""
    for image in IMAGES[first:last]:
        writer.add([image.tobytes()], [], sums_of(image))


def test_finished_store_holds_nothing_else(tmp_path):
    """A finished store has the records, labels, names and meta, no trace of its progress, and one file."""
    with StoreWriter(tmp_path / "train", 6, commit_pictures=2) as writer:
        add(writer, 0, 6)
        writer.finish(np.arange(6, dtype=np.int32) % 2, NAMES[:6], meta(6))
    assert keys(tmp_path / "train") == [b"%08d" % index for index in range(6)] + [b"labels", b"meta", b"names"]
    assert os.listdir(tmp_path / "train") == ["data.mdb"]
    store = Store(tmp_path / "train")
    assert store.labels.tolist() == [0, 1, 0, 1, 0, 1]
    for index, image in enumerate(IMAGES):
        np.testing.assert_array_equal(store.image(index), image)


def test_interruption_keeps_what_was_committed(tmp_path):
    """After an interruption the committed pictures, rejections and exact sums are there, and the rest is done again."""
    with pytest.raises(KeyboardInterrupt), StoreWriter(tmp_path / "train", 7, commit_pictures=2) as writer:
        add(writer, 0, 1)
        writer.add([], [("bad.jpg", "it is bad")], None)
        add(writer, 1, 2)
        raise KeyboardInterrupt
    with pytest.raises(StoreError, match="is incomplete: 1 of 7 records written"):
        Store(tmp_path / "train")
    with StoreWriter(tmp_path / "train", 7, commit_pictures=2) as writer:
        assert writer.continued
        assert (writer.progress.done, writer.progress.records) == (2, 1)
        assert writer.progress.rejected == [("bad.jpg", "it is bad")]
        assert writer.progress.sums.to_bytes() == sums_of(IMAGES[0]).to_bytes()
        add(writer, 1, 6)
        writer.finish(np.zeros(6, np.int32), NAMES[:6], meta(6))
    store = Store(tmp_path / "train")
    assert [store.record(index) for index in range(6)] == [image.tobytes() for image in IMAGES]


def test_checksum_of_all_records(tmp_path):
    """Meta has the CRC-32 of the records one after the other: of "123456789" it is cbf43926, the check value in every table."""
    with StoreWriter(tmp_path / "train", 3) as writer:
        writer.add([b"1234", b"567"], [], None)
        writer.add([b"89"], [], None)
        writer.finish(np.zeros(3, np.int32), NAMES[:3], meta(3))
    assert Store(tmp_path / "train").meta == {**meta(3), "checksum": "crc32:cbf43926"}


def test_checksum_of_few_bits(tmp_path):
    """A checksum that begins with zeros is written with them: the CRC-32 of no byte at all is eight zeros."""
    with StoreWriter(tmp_path / "train", 1) as writer:
        writer.add([b""], [], None)
        writer.finish(np.zeros(1, np.int32), NAMES[:1], meta(1))
    assert Store(tmp_path / "train").meta["checksum"] == "crc32:00000000"


@pytest.mark.parametrize("older", [False, True], ids=["saved", "not saved by an older version"])
def test_checksum_survives_interruptions(tmp_path, older):
    """Interrupted twice, with records lost that were not yet committed, a store has the checksum of an undisturbed one."""
    for last in (3, 6, 9):
        with StoreWriter(tmp_path / "train", 9, commit_pictures=2) as writer:
            for record in b"123456789"[writer.progress.done : last]:
                writer.add([bytes([record])], [], None)
            if last == 9:
                writer.finish(np.zeros(9, np.int32), NAMES[:9], meta(9))
        if older and last < 9:
            forget_checksum(tmp_path / "train")
    assert Store(tmp_path / "train").meta["checksum"] == "crc32:cbf43926"


def forget_checksum(folder: Path) -> None:
    """Leave the progress of an interrupted store as versions before the checksum wrote it."""
    with lmdb.open(str(folder), lock=False) as environment, environment.begin(write=True) as transaction:
        state = json.loads(transaction.get(b"!progress") or b"")
        assert state.keys() == {"total", "done", "records", "rejected", "checksum"} and state["done"] >= 2
        del state["checksum"]
        transaction.put(b"!progress", json.dumps(state).encode())


def test_total_is_named_before_the_first_commit(tmp_path):
    """A store that was interrupted before its first commit already says how much was planned."""
    with StoreWriter(tmp_path / "train", 6) as writer:
        add(writer, 0, 5)
    with pytest.raises(StoreError, match="is incomplete: 0 of 6 records written"):
        Store(tmp_path / "train")


def test_file_grows_with_its_content(tmp_path):
    """A store larger than its first map of 16 MiB is written all the same, and its file is no larger than needed."""
    count = 120
    with StoreWriter(tmp_path / "train", count, commit_pictures=50) as writer:
        for index in range(count):
            writer.add([IMAGES[index % 6].tobytes()], [], None)
        writer.finish(np.zeros(count, np.int32), NAMES[:count], meta(count))
    size = (tmp_path / "train/data.mdb").stat().st_size
    assert count * 196_608 < size < count * (196_608 + 4096) + 100_000
    store = Store(tmp_path / "train")
    assert all(store.record(index) == IMAGES[index % 6].tobytes() for index in range(count))


@pytest.mark.parametrize("size", [0, 100, 4096])
def test_torn_beginning(tmp_path, size):
    """A file without LMDB's two head pages, as a full disk leaves it, holds nothing and is begun again."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train/data.mdb").write_bytes(b"\0" * size)
    with StoreWriter(tmp_path / "train", 1) as writer:
        add(writer, 0, 1)
        writer.finish(np.zeros(1, np.int32), NAMES[:1], meta(1))
    assert len(Store(tmp_path / "train")) == 1


def test_cut_file_is_not_continued(tmp_path):
    """An interrupted store whose file lost its end is refused, as its pages could not be read."""
    with StoreWriter(tmp_path / "train", 6, commit_pictures=1) as writer:
        add(writer, 0, 3)
    os.truncate(tmp_path / "train/data.mdb", 100_000)
    with pytest.raises(StoreError, match="is cut short: 100,000 bytes, expected "):
        StoreWriter(tmp_path / "train", 6)


def test_full_disk(small_disk):
    """A full disk is told as such, leaves the committed part, and with more room the store goes on."""
    writer = StoreWriter(small_disk / "train", 40, commit_pictures=2)
    with pytest.raises(DiskFullError, match=r"the disk is full: .*/train/data\.mdb could not be written") as raised, writer:
        for index in range(40):
            writer.add([IMAGES[index % 6].tobytes()], [], None)
    assert raised.value.hint == "free some space, then run the same command again"
    with pytest.raises(StoreError, match=r"incomplete: [0-9]+ of 40 records written"):
        Store(small_disk / "train")
    resize_disk(small_disk, "30m")
    with StoreWriter(small_disk / "train", 40, commit_pictures=2) as writer:
        assert writer.progress.done >= 2
        for index in range(writer.progress.done, 40):
            writer.add([IMAGES[index % 6].tobytes()], [], None)
        writer.finish(np.zeros(40, np.int32), NAMES[:40], meta(40))
    store = Store(small_disk / "train")
    assert all(store.record(index) == IMAGES[index % 6].tobytes() for index in range(40))


def test_disk_full_from_the_start(small_disk):
    """A disk without room for the first page is a full disk too."""
    (small_disk / "filler").write_bytes(bytes((2 << 20) - 4096))
    with pytest.raises(DiskFullError, match="the disk is full"):
        StoreWriter(small_disk / "train", 1)
