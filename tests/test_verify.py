import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store
from alexnet_cli.core.verify import CHUNK, CHUNKS_AHEAD, Damage, verify
from tests.pictures import photo, saved
from tests.stores import change, random_images, write_store

CLASSES = ("cat", "dog")
IMAGES = random_images(6)


def raw_store(folder: Path, images: list[np.ndarray] = IMAGES) -> Path:
    """Lay a raw store with a checksum, without the package's writer; returns its folder, which is not open."""
    checksum = f"crc32:{zlib.crc32(b''.join(image.tobytes() for image in images)):08x}"
    return write_store(folder, images, [0, 1] * (len(images) // 2), CLASSES, checksum=checksum).folder


def write_stats(data: Path, images: list[np.ndarray] = IMAGES) -> dict[str, np.ndarray]:
    """Write statistics worked out by numpy, as docs/formats.md says."""
    variances, vectors = np.linalg.eigh(np.cov(np.reshape(images, (-1, 3)).T.astype(float), bias=True))
    components = vectors.T[::-1]
    stats = {
        "mean": np.mean(images, axis=0).transpose(2, 0, 1),
        "color_stdevs": np.sqrt(np.maximum(variances[::-1], 0)),
        "color_components": np.array([row * np.sign(row[np.argmax(np.abs(row))]) for row in components]),
    }
    stats = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in stats.items()}
    save_file(stats, data / "stats.safetensors")
    return stats


@pytest.fixture
def val(tmp_path):
    """The folder of a whole raw store of six pictures."""
    return raw_store(tmp_path / "val")


@pytest.fixture
def train(tmp_path):
    """The same as a training set, with its statistics beside it."""
    write_stats(tmp_path)
    return raw_store(tmp_path / "train")


def test_whole_store(val):
    """A store as the format lays it down is whole, and its checksum is zlib's of all records."""
    found = verify(Store(val))
    assert (found.folder, found.records, found.damaged, found.unexpected, found.complaints) == (val, 6, (), (), ())
    assert (found.checksum, found.statistics) == ("ok", "absent")


def test_store_without_checksum(tmp_path):
    """An older store, without a checksum in meta, is whole, and the result says what was not compared."""
    found = verify(write_store(tmp_path / "val", IMAGES, [0, 1, -1, 0, 1, -1], CLASSES))
    assert (found.checksum, found.complaints) == ("absent", ())


def test_every_kind_of_damaged_record(val):
    """Records that are gone, too many, no pictures, or have a label of no class are named with the reason, and nothing else."""
    change(val, b"00000001", None)
    change(val, b"00000003", b"short")
    change(val, b"00000006", IMAGES[0].tobytes())
    change(val, b"labels", np.array([0, 1, 2, 0, -1, -2], "<i4").tobytes())
    found = verify(Store(val))
    assert [(damage.record, damage.reason) for damage in found.damaged] == [
        (1, "it is not in the file"),
        (2, "its label is 2, expected 0 to 1, or -1 for none"),
        (3, "it has 5 bytes, expected 196608"),
        (5, "its label is -2, expected 0 to 1, or -1 for none"),
        (6, "meta counts 6 records"),
    ]
    assert found.records == 6
    assert found.complaints == (
        f"{val}: 1 record is missing: 1",
        f"{val}: 1 record is beyond the count in meta: 6",
        f"{val}: 1 record is damaged: 3; record 3: it has 5 bytes, expected 196608",
        f"{val}: 2 records are mislabelled: 2, 5; record 2: its label is 2, expected 0 to 1, or -1 for none",
        f"{val}: the checksum of the records is {_checksum(val)}, expected {_expected(val)} as in meta",
    )


def _checksum(folder: Path) -> str:
    values = [value for key, value in Store(folder).entries() if key not in (b"labels", b"meta", b"names")]
    return f"crc32:{zlib.crc32(b''.join(values)):08x}"


def _expected(folder: Path) -> str:
    return str(Store(folder).meta["checksum"])


def test_gaps(val):
    """Missing records are found at the start, in the midst, at the end, and before a key far away."""
    for index in (0, 2, 3, 5):
        change(val, b"%08d" % index, None)
    assert verify(Store(val)).complaints[0] == f"{val}: 4 records are missing: 0, 2, 3, 5"
    change(val, b"99999999", b"far away")
    assert verify(Store(val)).complaints[:2] == (
        f"{val}: 4 records are missing: 0, 2, 3, 5",
        f"{val}: 1 record is beyond the count in meta: 99999999",
    )


def test_other_keys(val):
    """A key that is neither a record nor labels, names or meta is named, also one that is no text, and one of nine digits."""
    for key in (b"!progress", b"000000001", b"\xff\x00"):
        change(val, key, b"")
    found = verify(Store(val))
    assert found.unexpected == ("!progress", "000000001", "\\xff\\x00")
    assert found.complaints == (f"{val}: 3 keys are neither a record nor labels, names or meta: !progress, 000000001, \\xff\\x00",)


def test_first_five_are_named(tmp_path):
    """Of many damaged records the first five are named, and how many there are in all."""
    folder = write_store(tmp_path / "val", [b"short"] * 1200, [0] * 1200, CLASSES).folder
    assert verify(Store(folder)).complaints == (
        f"{folder}: 1,200 records are damaged: 0, 1, 2, 3, 4 and 1,195 more; record 0: it has 5 bytes, expected 196608",
    )


def test_jpeg_records(tmp_path):
    """Of JPEG records one that is cut, one of another size, a grey one and no picture are damaged."""
    whole = saved(photo(256, 256), "JPEG")
    records = [whole, whole[:1000], saved(photo(255, 256), "JPEG"), saved(photo(256, 256).convert("L"), "JPEG"), b"", whole]
    found = verify(write_store(tmp_path / "val", records, [0] * 6, CLASSES, format="jpeg"))
    shape = "it has the shape {}, expected (256, 256, 3)"
    assert [damage.record for damage in found.damaged] == [1, 2, 3, 4]
    assert found.damaged[1:3] == tuple(
        Damage(record, "damaged", shape.format(text)) for record, text in ((2, "(256, 255, 3)"), (3, "(256, 256, 1)"))
    )
    assert all(found.damaged[place].reason.startswith("it is not a whole JPEG file (") for place in (0, 3))


def test_checksum_sees_what_decodes(val):
    """A picture that was replaced by another whole one is no damaged record, but the checksum differs."""
    change(val, b"00000004", IMAGES[0].tobytes())
    found = verify(Store(val))
    assert (found.checksum, found.damaged) == ("differs", ())
    assert found.complaints == (f"{val}: the checksum of the records is {_checksum(val)}, expected {_expected(val)} as in meta",)


def test_checksum_sees_the_order(val):
    """Two records that changed places, though their bits are the same in sum, give another checksum."""
    change(val, b"00000004", IMAGES[5].tobytes())
    change(val, b"00000005", IMAGES[4].tobytes())
    assert verify(Store(val)).checksum == "differs"


def test_statistics_of_the_training_set(train):
    """The training set's statistics, worked out by numpy, agree with what the pictures give."""
    found = verify(Store(train))
    assert (found.statistics, found.complaints) == ("ok", ())


@pytest.mark.parametrize(
    ("name", "altered"),
    [
        ("mean", lambda mean: mean + 1e-4 * (np.arange(mean.size).reshape(mean.shape) == 777)),
        ("mean", lambda mean: mean[::-1]),
        ("mean", lambda mean: mean * np.nan),
        ("color_stdevs", lambda stdevs: stdevs * 1.00001),
        ("color_stdevs", lambda stdevs: stdevs + np.inf),
        ("color_stdevs", lambda stdevs: -stdevs),
        ("color_components", lambda components: components[::-1]),
        ("color_components", lambda components: components * 1.00001),
        ("color_components", np.zeros_like),
    ],
)
def test_other_statistics(train, name, altered):
    """Statistics that are off by more than float32's rounding, anywhere, are not those of the pictures."""
    file = train.parent / "stats.safetensors"
    stats = load_file(file)
    save_file({**stats, name: np.ascontiguousarray(altered(stats[name]), dtype=np.float32)}, file)
    found = verify(Store(train))
    assert found.statistics == "differs"
    assert found.complaints == (f"{file} is not what the pictures of {train} give",)


def test_statistics_of_grey_pictures(tmp_path):
    """Grey pictures vary along one line only: any two components at right angles to it will do, but not any two vectors."""
    grey = [np.repeat(image[..., :1], 3, axis=2) for image in IMAGES]
    folder = raw_store(tmp_path / "train", grey)
    stats = write_stats(tmp_path, grey)
    assert verify(Store(folder)).statistics == "ok"
    _, second, third = stats["color_components"].astype(float)
    turned = (0.6 * second + 0.8 * third, 0.8 * second - 0.6 * third)
    for others, expected in ((turned, "ok"), ((second, second), "differs")):
        components = np.array([stats["color_components"][0], *others], np.float32)
        save_file({**stats, "color_components": components}, tmp_path / "stats.safetensors")
        assert verify(Store(folder)).statistics == expected


def test_missing_and_damaged_statistics(train):
    """Statistics that are cut differ; those that are gone are absent; both are damage of the training set alone."""
    file = train.parent / "stats.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    found = verify(Store(train))
    assert found.statistics == "differs"
    assert [line.split(":")[0] for line in found.complaints] == [f"{file} is damaged"]
    file.unlink()
    found = verify(Store(train))
    assert (found.statistics, found.complaints) == ("absent", (f"{file} does not exist",))
    assert verify(Store(raw_store(train.parent / "val"))).complaints == ()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store of 300 small records of which some are damaged."""
    pictures = [saved(photo(256, 256, seed), "JPEG", quality=20) for seed in range(3)]
    records = [b"no picture" if index % 50 == 7 else pictures[index % 3] for index in range(300)]
    return write_store(tmp_path_factory.mktemp("many") / "val", records, [0] * 300, CLASSES, format="jpeg").folder


@pytest.mark.parametrize("workers", [1, 3, None])
def test_any_number_of_threads(many, workers):
    """One thread or several find the same, in the order of the records."""
    assert [damage.record for damage in verify(Store(many), workers=workers).damaged] == [7, 57, 107, 157, 207, 257]


class CountingStore(Store):
    """A store that counts what was read of it."""

    read = 0

    def entries(self):
        """Count each entry."""
        for entry in super().entries():
            self.read += 1
            yield entry


class Watcher(Reporter):
    """Compares what was read with what was checked, and may stop the work."""

    def __init__(self, store: CountingStore, stop_at: int = -1) -> None:
        self.store, self.stop_at = store, stop_at
        self.said: list[tuple[str, int | None, str]] = []
        self.checked = 0
        self.most_ahead = 0

    def start(self, task: str, total: int | None, unit: str, *, done: int = 0) -> None:
        """Keep what the bar was told."""
        self.said.append((task, total, unit))

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Note how far reading was ahead."""
        self.most_ahead = max(self.most_ahead, self.store.read - self.checked)
        self.checked += amount
        if 0 <= self.stop_at <= self.checked:
            raise KeyboardInterrupt


def test_reads_a_few_chunks_ahead(many):
    """Progress reaches the number of records, and no more than a few chunks are in memory at once."""
    watcher = Watcher(CountingStore(many))
    verify(watcher.store, workers=2, reporter=watcher)
    assert watcher.said == [("verifying val", 300, "records")]
    assert watcher.checked == 300
    assert CHUNK < watcher.most_ahead <= 2 * CHUNKS_AHEAD * CHUNK


def test_interruption(many):
    """Ctrl-C leaves no thread behind, and the store can be read again."""
    store = CountingStore(many)
    with pytest.raises(KeyboardInterrupt):
        verify(store, workers=2, reporter=Watcher(store, stop_at=100))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("verify")]
    assert store.record(0)[:2] == b"\xff\xd8"


def test_prepared_photographs(clothing_small, tmp_path):
    """What prepare makes of real photographs is whole, with checksum and statistics, in every split."""
    from alexnet_cli.core.prepare import prepare

    prepare(clothing_small, tmp_path / "data", limit=40)
    found = {split: verify(Store(tmp_path / "data" / split)) for split in ("train", "val", "test")}
    assert {split: (one.records, one.complaints, one.checksum, one.statistics) for split, one in found.items()} == {
        "train": (40, (), "ok", "ok"),
        "val": (40, (), "ok", "absent"),
        "test": (40, (), "ok", "absent"),
    }
