import json
import multiprocessing
import os
import pickle
import re
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from alexnet_cli.core.errors import StoreError
from alexnet_cli.core.store import Stats, Store, open_store, read_stats, write_stats
from tests.stores import change, random_images, write_store

CLASSES = ("n01440764", "n01443537")


@pytest.fixture
def images():
    """Four pictures of noise."""
    return random_images(4)


@pytest.fixture
def folder(tmp_path, images):
    """The folder of a raw store laid without the package's writer, and not open."""
    return write_store(tmp_path / "data/train", images, [0, 1, 1, 0], CLASSES).folder


@pytest.fixture
def store(folder):
    """The same store, open."""
    return Store(folder)


def test_reads_what_the_format_says(store, images):
    """Pictures, labels, classes and words come out as the format lays them down, byte for byte."""
    assert len(store) == 4
    assert store.labels.tolist() == [0, 1, 1, 0]
    assert store.labels.dtype == np.int32
    assert store.classes == CLASSES
    assert store.words == ("word n01440764", "word n01443537")
    assert (store.format, store.meta["seed"]) == ("raw", 0)
    for index, image in enumerate(images):
        assert store.record(index) == image.tobytes()
        np.testing.assert_array_equal(store.image(index), image)


def test_crops(store, images):
    """Crops are cut from the records named, in that order, into the rows given and nowhere else."""
    rows = np.zeros((4, 100, 100, 3), np.uint8)
    store.read_crops([3, 0], [0, 156], [17, 20], rows[1:3])
    np.testing.assert_array_equal(rows[1], images[3][0:100, 17:117])
    np.testing.assert_array_equal(rows[2], images[0][156:256, 20:120])
    assert not rows[0].any() and not rows[3].any()
    store.read_crops([], [], [], rows[:0])


def test_crops_of_damaged_records(folder):
    """The first in order of several damaged records is named, be it missing or too short."""
    change(folder, b"00000001", b"short")
    change(folder, b"00000002", None)
    rows = np.zeros((3, 224, 224, 3), np.uint8)
    for indices, message in (([0, 1, 2], "record 1 in .* is damaged: it has 5 bytes"), ([0, 2, 1], "record 2 is missing in")):
        with pytest.raises(StoreError, match=message):
            Store(folder).read_crops(indices, [0] * 3, [0] * 3, rows)


def test_records_outside(store):
    """A record below 0 or beyond the last is an IndexError, as for any sequence."""
    for index in (-1, 4):
        with pytest.raises(IndexError, match=f"has records 0 to 3, not {index}"):
            store.record(index)


def test_entries(folder, images):
    """All keys and values come in the order of the keys, also those that do not belong there."""
    change(folder, b"note", b"of another program")
    entries = list(Store(folder).entries())
    assert [key for key, _ in entries] == [b"00000000", b"00000001", b"00000002", b"00000003", b"labels", b"meta", b"note"]
    assert [value for _, value in entries[:4]] == [image.tobytes() for image in images]
    assert entries[4][1] == np.array([0, 1, 1, 0], "<i4").tobytes()


def test_names(folder):
    """Names come back as they were, also one that is not UTF-8; a store that has none says so."""
    assert Store(folder).names() is None
    change(folder, b"names", zlib.compress(b"a.jpg\0b/\xe4.jpg\0b/c d.jpg\0n\nl.jpg\0"))
    assert Store(folder).names() == ("a.jpg", os.fsdecode(b"b/\xe4.jpg"), "b/c d.jpg", "n\nl.jpg")


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"no zlib", '"names" in .* is damaged'),
        (zlib.compress(b"a\0b\0c\0d"), '"names" in .* is damaged: the last name has no end'),
        (zlib.compress(b"a\0b\0c\0"), "has 3 names for 4 records"),
    ],
)
def test_damaged_names(folder, packed, message):
    """Names that cannot be unpacked, or of another number, are refused."""
    change(folder, b"names", packed)
    with pytest.raises(StoreError, match=message):
        Store(folder).names()


def test_class_counts(tmp_path, images):
    """Pictures are counted by class, a class without any too; a label that names no class counts nowhere."""
    assert write_store(tmp_path / "train", images, [2, 0, -1, 2], ("a", "b", "c")).class_counts() == [1, 0, 2]
    assert write_store(tmp_path / "val", images, [3, 2, 2, 2], ("a", "b", "c")).class_counts() == [0, 0, 3]


def test_threads_share_a_store(store, images):
    """Many threads read from one store at once."""
    order = np.random.default_rng(0).integers(0, 4, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        for index, image in zip(order, pool.map(store.image, order), strict=True):
            np.testing.assert_array_equal(image, images[index])


def test_pickle_carries_the_path(store, images):
    """A pickled store is small and reads again after unpickling."""
    value = pickle.dumps(store)
    assert len(value) < 1000
    np.testing.assert_array_equal(pickle.loads(value).image(2), images[2])


def _sum_of(store, results):
    results.put([int(store.image(index).sum()) for index in range(len(store))])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes_read(store, images, method):
    """A store that was open before a process was forked or spawned can be read in it, and goes on working here."""
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_sum_of, args=(store, results))
    process.start()
    assert results.get(timeout=60) == [int(image.sum()) for image in images]
    process.join()
    assert process.exitcode == 0
    np.testing.assert_array_equal(store.image(3), images[3])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this system does not tell how memory is mapped")
@pytest.mark.parametrize("sequential", [True, False])
def test_read_ahead(folder, sequential):
    """The system is told not to read ahead where records are read at random, and only there; a copy of the store too."""
    store = pickle.loads(pickle.dumps(Store(folder, sequential=sequential)))
    store.image(0)
    mappings = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    (mapping,) = [text for text in mappings if str(folder / "data.mdb") in text]
    flags = next(line for line in mapping.splitlines() if line.startswith("VmFlags")).split()
    assert ("rr" in flags) is not sequential  # "random read"


def test_two_stores_on_one_file(store, images):
    """A second store on the same file, also by another name, is no error, and outlives the first."""
    (store.folder.parent / "again").symlink_to(store.folder)
    second = Store(store.folder.parent / "again")
    del store
    np.testing.assert_array_equal(second.image(0), images[0])


def test_store_made_anew(store, images):
    """A store that replaces another under the same name is read itself, even while the old one is still open."""
    shutil.rmtree(store.folder)
    new = write_store(store.folder, images[:1], [1], CLASSES)
    assert len(new) == 1
    np.testing.assert_array_equal(store.image(3), images[3])


def test_read_only_place(store, images):
    """Nothing is written beside a store that is read: no lock file appears, so read-only places do."""
    (store.folder / "lock.mdb").unlink()
    Store(store.folder).image(0)
    assert os.listdir(store.folder) == ["data.mdb"]


def fails(folder: Path, message: str, hint: str) -> None:
    """Check that a store is refused with this text, where {} is its folder."""
    with pytest.raises(StoreError) as raised:
        Store(folder)
    assert raised.value.message == message.format(folder)
    assert hint in raised.value.hint


def test_interrupted_store(folder):
    """A store without meta names how far it came and how to go on."""
    change(folder, b"meta", None)
    fails(folder, "{} is not a finished store of alexnet prepare: it has no meta", "run the same")
    change(folder, b"!progress", json.dumps({"records": 2, "total": 4}).encode())
    fails(folder, "{} is incomplete: 2 of 4 records written", 'run the same "alexnet prepare" again')


def test_cut_file(folder):
    """A data file that lost its end is refused instead of ending the process with a bus error."""
    size = (folder / "data.mdb").stat().st_size
    os.truncate(folder / "data.mdb", size - 8192)
    fails(folder, f"{{}}/data.mdb is cut short: {size - 8192:,} bytes, expected {size:,}", "alexnet prepare SOURCE --force")


def test_not_a_store(tmp_path):
    """A folder without a data file and one whose data file is something else are refused."""
    fails(tmp_path, "{} has no store", "alexnet prepare SOURCE")
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(StoreError, match="is not a store, or a damaged one"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (b"meta", b"{", '"meta" in .* is damaged'),
        (b"meta", b'{"format_version": 1, "format": "raw"}', "\"meta\" in .* is damaged: KeyError\\('count'\\)"),
        (b"labels", bytes(8), "has 2 labels for 4 records"),
        (b"labels", None, "has 0 labels for 4 records"),
        (b"labels", bytes(7), "has 1.75 labels for 4 records"),
    ],
)
def test_damaged_meta_and_labels(folder, key, value, message):
    """Meta that is cut or incomplete, and labels of another number, are refused."""
    change(folder, key, value)
    with pytest.raises(StoreError, match=message):
        Store(folder)


def test_newer_format(folder):
    """A store of a later format is refused by number."""
    meta = {**Store(folder).meta, "format_version": 2}
    change(folder, b"meta", json.dumps(meta).encode())
    with pytest.raises(StoreError, match="has format version 2, raw, expected version 1, jpeg or raw"):
        Store(folder)


def test_damaged_records(folder):
    """A record that is missing or too short is named with its store."""
    change(folder, b"00000001", b"short")
    change(folder, b"00000002", None)
    store = Store(folder)
    with pytest.raises(StoreError, match=f"record 1 in {folder} is damaged: it has 5 bytes, expected 196608"):
        store.image(1)
    with pytest.raises(StoreError, match=f"record 2 is missing in {folder}"):
        store.image(2)


def test_open_store(store, images):
    """A split is opened by name, validation being another name of val; the splits that are there are named."""
    data = store.folder.parent
    write_store(data / "val", images[:1], [1], CLASSES)
    assert len(open_store(data, "train")) == 4
    assert open_store(data, "val").folder == open_store(data, "validation").folder == data / "val"
    with pytest.raises(StoreError, match=f"{data} has no split test, only train, val"):
        open_store(data, "test")
    with pytest.raises(StoreError, match=r"has no split \.\./val, only train, val"):
        open_store(data, "../val")


def test_open_nothing(tmp_path):
    """A folder that is missing and one without any store are told apart."""
    with pytest.raises(StoreError, match="absent does not exist, expected a folder of stores"):
        open_store(tmp_path / "absent", "train")
    with pytest.raises(StoreError, match=f"{tmp_path} has no store"):
        open_store(tmp_path, "train")


def test_stats_file(tmp_path):
    """The statistics are three float32 tensors of a safetensors file, and come back as they were."""
    generator = np.random.default_rng(0)
    shapes = {"mean": (3, 256, 256), "color_stdevs": (3,), "color_components": (3, 3)}
    stats = Stats(**{name: generator.random(shape, np.float32) for name, shape in shapes.items()})
    write_stats(tmp_path, stats)
    tensors = load_file(tmp_path / "stats.safetensors")
    assert {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()} == {
        name: ("float32", shape) for name, shape in shapes.items()
    }
    for name, values in vars(read_stats(tmp_path)).items():
        np.testing.assert_array_equal(values, getattr(stats, name))


def test_damaged_stats(tmp_path):
    """Statistics that are missing, cut, incomplete or of other shapes are refused."""
    with pytest.raises(StoreError, match=r"stats\.safetensors does not exist"):
        read_stats(tmp_path)
    file = tmp_path / "stats.safetensors"
    save_file({"mean": np.zeros((3, 256, 256), np.float32)}, file)
    with pytest.raises(StoreError, match=r"is damaged: KeyError\('color_stdevs'\)"):
        read_stats(tmp_path)
    save_file({"mean": np.zeros((1, 2, 2)), "color_stdevs": np.zeros(3), "color_components": np.zeros((3, 3))}, file)
    with pytest.raises(StoreError, match=r"has the shapes .*'mean': \(1, 2, 2\)"):
        read_stats(tmp_path)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(StoreError, match="is damaged"):
        read_stats(tmp_path)
