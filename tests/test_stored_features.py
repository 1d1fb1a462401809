import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.core.errors import AlexNetError, DiskFullError
from alexnet_cli.core.features_writer import writing
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.stored_features import BLOCK, DamagedBlocksError, Key, StoredFeatures, find_features, identify
from tests.conftest import ROOT
from tests.stores import random_images, write_store

COUNT, VALUES = 2 * BLOCK + 100, 8


class Notes(Reporter):
    """Collects what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a line."""
        self.notes.append(text)


def key(**changes: object) -> Key:
    """A key of a small store."""
    settings = {"layer": "fc7", "values": VALUES, "views": 1, "dtype": "float16", "precision": "fp32"}
    return Key(**{**settings, "weights_checksum": "ab" * 16, "store": {"count": COUNT, "checksum": "x"}, **changes})  # type: ignore[arg-type]


ROWS = np.random.default_rng(0).standard_normal((COUNT, VALUES)).astype(np.float32)


def fill(features: StoredFeatures, *, batch: int = 60, stop: int = COUNT) -> list[int]:
    """Compute what is missing, in batches; return the numbers of the rows that were asked for. Ends by Ctrl-C at `stop`."""
    asked: list[int] = []
    with writing(features) as writer:
        for part in features.missing():
            for first in range(part.start, part.stop, batch):
                if first >= stop:
                    raise KeyboardInterrupt
                rows = range(first, min(first + batch, part.stop))
                asked += rows
                writer.add(first, ROWS[rows.start : rows.stop])
    return asked


def whole(features: StoredFeatures) -> np.ndarray:
    """All rows by a scan."""
    return np.concatenate([values.copy() for _, values in features.scan()])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_are_a_plain_file(dtype, tmp_path):
    """The file is the rows in order, little-endian, and nothing else; a scan and single rows agree with it."""
    features = StoredFeatures(tmp_path, key(dtype=dtype))
    assert fill(features) == list(range(COUNT)) and features.missing() == []
    path = tmp_path / f"fc7-abababababababab.f{dtype[-2:]}"
    plain = np.fromfile(path, f"<f{int(dtype[-2:]) // 8}").reshape(COUNT, VALUES)
    np.testing.assert_array_equal(plain, ROWS.astype(dtype))
    again = StoredFeatures(tmp_path, key(dtype=dtype))
    np.testing.assert_array_equal(whole(again), plain)
    np.testing.assert_array_equal(again.take(np.array([600, 3])), plain[[600, 3]])


def test_an_interruption_keeps_whole_blocks(tmp_path):
    """After Ctrl-C only what was in no whole block is computed again, also with other batches."""
    with pytest.raises(KeyboardInterrupt):
        fill(StoredFeatures(tmp_path, key()), stop=BLOCK + 150)
    notes = Notes()
    features = StoredFeatures(tmp_path, key(), notes)
    assert features.missing() == [range(BLOCK, COUNT)] and notes.notes == []
    assert fill(features, batch=37) == list(range(BLOCK, COUNT))
    np.testing.assert_array_equal(whole(StoredFeatures(tmp_path, key())), ROWS.astype(np.float16))


def test_an_interruption_before_the_first_block(tmp_path):
    """What was interrupted at its very beginning is begun anew without a word about damage."""
    with pytest.raises(KeyboardInterrupt):
        fill(StoredFeatures(tmp_path, key()), stop=100)
    notes = Notes()
    features = StoredFeatures(tmp_path, key(), notes)
    assert features.missing() == [range(COUNT)] and notes.notes == []
    fill(features)
    np.testing.assert_array_equal(whole(features), ROWS.astype(np.float16))


def test_a_kill_keeps_what_was_committed(tmp_path):
    """A process that is killed while it writes leaves the blocks that it committed, and they are whole."""
    code = f"""
import os, signal, numpy as np
from pathlib import Path
from alexnet_cli.core import features_writer
from alexnet_cli.core.features_writer import writing
from alexnet_cli.core.stored_features import Key, StoredFeatures
features_writer.SECONDS_BETWEEN_COMMITS = 0
features = StoredFeatures(Path({str(tmp_path)!r}), Key(**{asdict(key())!r}))
rows = np.random.default_rng(0).standard_normal(({COUNT}, {VALUES})).astype(np.float32)
with writing(features) as writer:
    writer.add(0, rows[:300])
    writer._rows.clear()
    os.pwrite(writer._descriptor, b"torn", 300 * features.row_bytes)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    features = StoredFeatures(tmp_path, key())
    assert fill(features) == list(range(BLOCK, COUNT))
    np.testing.assert_array_equal(whole(features), ROWS.astype(np.float16))


def test_scans_in_several_pieces(tmp_path, monkeypatch):
    """Pieces smaller than the file give every row once, in order."""
    fill(StoredFeatures(tmp_path, key()))
    monkeypatch.setattr("alexnet_cli.core.stored_features.SCANNED", BLOCK * VALUES)
    features = StoredFeatures(tmp_path, key())
    assert [first for first, _ in features.scan()] == [0, BLOCK, 2 * BLOCK]
    np.testing.assert_array_equal(whole(features), ROWS.astype(np.float16))


def test_damage_is_found_and_only_it_is_computed_again(tmp_path):
    """A changed byte is found when the rows are read; its block alone is computed again."""
    fill(StoredFeatures(tmp_path, key()))
    features = StoredFeatures(tmp_path, key())
    with features.path.open("r+b") as file:
        file.seek(BLOCK * features.row_bytes + 5)
        file.write(b"\xff")
    with pytest.raises(DamagedBlocksError, match="is damaged in 1 of its blocks, the first at row 256") as raised:
        whole(features)
    features.forget(raised.value.blocks)
    assert fill(features) == list(range(BLOCK, 2 * BLOCK))
    np.testing.assert_array_equal(whole(features), ROWS.astype(np.float16))


@pytest.mark.parametrize("damage", ["cut", "no rows", "no meta", "not json", "blocks", "list"])
def test_broken_files_are_computed_anew_with_a_note(damage, tmp_path):
    """Whatever is wrong with the two files, what is left of them is judged in words, and the rows come out right."""
    fill(StoredFeatures(tmp_path, key()))
    features = StoredFeatures(tmp_path, key())
    document = json.loads(features.meta.read_text())
    if damage == "cut":
        os.truncate(features.path, (BLOCK + 3) * features.row_bytes)
    elif damage == "no rows":
        features.path.unlink()
    elif damage == "no meta":
        features.meta.unlink()
    else:
        text = {"not json": "{", "blocks": json.dumps({**document, "blocks": ["x"]}), "list": "[]"}[damage]
        features.meta.write_text(text)
    notes = Notes()
    features = StoredFeatures(tmp_path, key(), notes)
    assert features.missing() == [range(BLOCK if damage == "cut" else 0, COUNT)]
    (note,) = notes.notes
    assert note.startswith(str(features.path)) and note.endswith(": computed anew")
    fill(features)
    np.testing.assert_array_equal(whole(features), ROWS.astype(np.float16))


def test_another_store_in_its_place(tmp_path):
    """Features of a store that was made anew since, also of more pictures, are computed anew; those of other weights stay."""
    fill(StoredFeatures(tmp_path, key(store={"count": COUNT, "checksum": "old"})))
    notes = Notes()
    features = StoredFeatures(tmp_path, key(), notes)
    assert features.missing() == [range(COUNT)] and "is of another store: computed anew" in notes.notes[0]
    other = StoredFeatures(tmp_path, key(weights_checksum="cd" * 16), notes)
    assert other.missing() == [range(COUNT)] and other.path != features.path and len(notes.notes) == 1
    fill(other)
    small = key(store={"count": 10, "checksum": "x"})
    fewer = StoredFeatures(tmp_path, small)
    with writing(fewer) as writer:
        writer.add(0, ROWS[:10])
    np.testing.assert_array_equal(whole(fewer), ROWS[:10].astype(np.float16))
    assert fewer.path.stat().st_size == 10 * fewer.row_bytes and other.missing() == []


def test_one_writer_at_a_time(tmp_path):
    """A second process that would compute the same is told to wait."""
    features = StoredFeatures(tmp_path, key())
    with writing(features), pytest.raises(AlexNetError, match="another process computes features in "):
        fill(StoredFeatures(tmp_path, key()))


def test_full_disk(small_disk):
    """Too small a disk is refused before the work; one that fills meanwhile keeps what was done, and more room continues it."""
    wide = key(values=4096)
    refused = pytest.raises(DiskFullError, match=r"needs 5\.0 MB for features of 612 pictures, 2\.\d MB are free")
    with refused, writing(StoredFeatures(small_disk, wide)):
        pytest.fail("it began")
    narrow = key(values=1600)  # 0.8 MB a block: two fit, and a third does not with what else comes
    features = StoredFeatures(small_disk, narrow)
    rows = np.ones((BLOCK, 1600), np.float32)
    with pytest.raises(DiskFullError, match=r"the disk is full: .* could not be written"), writing(features) as writer:
        (small_disk / "other").write_bytes(bytes(500_000))
        writer.add(0, rows)
        writer.add(BLOCK, rows)
        pytest.fail("it went on")
    assert StoredFeatures(small_disk, narrow).missing() == [range(BLOCK, COUNT)]


def test_a_store_that_cannot_be_written_has_its_features_in_the_cache(tmp_path, monkeypatch):
    """Where the store's folder is read-only the cache takes them, unless whole ones are there already."""
    store = write_store(tmp_path / "train", random_images(2), [0, 0], ["a"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    of = key(store=identify(store))
    assert find_features(store, of).path.parent == store.folder / "features"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    cached = find_features(store, of)
    assert cached.path.parent.parent == tmp_path / "cache" / "alexnet" / "features"
    with writing(StoredFeatures(store.folder / "features", of)) as writer:
        writer.add(0, ROWS[:2])
    assert find_features(store, of).path.parent == store.folder / "features"


def test_identity_of_a_store(tmp_path):
    """A store is known by its checksum, one of an early version by its file."""
    old = write_store(tmp_path / "old", random_images(1), [0], ["a"])
    new = write_store(tmp_path / "new", random_images(1), [0], ["a"], checksum="crc32:12345678")
    assert identify(new) == {"count": 1, "checksum": "crc32:12345678"}
    before = identify(old)
    os.utime(Path(old.folder) / "data.mdb", ns=(0, 0))
    assert identify(old) != before
