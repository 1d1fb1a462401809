import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from alexnet_cli.core.errors import AlexNetError, DataError, DiskFullError, SourceError, StoreError
from alexnet_cli.core.output import read_rejected
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store, open_store
from tests.conftest import resize_disk
from tests.pictures import make_source, photo, png, saved

SMALL = {"train": {"cat": 30, "dog": 25, "eel": 5}, "val": {"cat": 4, "dog": 3}, "test": {"eel": 2}}


class Listener(Reporter):
    """Keeps what was said, and stops the work like Ctrl-C after so many calls of `advance`."""

    def __init__(self, stop_after: int = -1) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.bars: list[tuple[str, int | None, str, int]] = []
        self.advanced = 0
        self._left = stop_after

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)

    def start(self, task: str, total: int | None, unit: str, *, done: int = 0) -> None:
        """Keep what the bar was told."""
        self.bars.append((task, total, unit, done))

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Count, and perhaps stop."""
        self.advanced += amount
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """60 training pictures of three classes, 7 for validation, 2 for the test."""
    return make_source(tmp_path_factory.mktemp("pictures") / "source", SMALL)


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    """The source, prepared without interruption by one process."""
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare(source, out, workers=1)
    return out


def content(out: Path) -> dict[str, bytes]:
    """Return every record, label, meta and statistic of an output, by name."""
    found = {"stats": (out / "stats.safetensors").read_bytes()}
    for folder in sorted(path.parent for path in out.glob("*/data.mdb")):
        with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
            found |= {f"{folder.name}/{key.decode()}": value for key, value in transaction.cursor()}
    return found


def refused(message: str, call: Callable[[], object], kind: type[AlexNetError] = StoreError) -> str:
    """Check the text of a refusal; returns its hint."""
    with pytest.raises(kind, match=message) as raised:
        call()
    return raised.value.hint


def test_readable_without_the_package(prepared):
    """Plain lmdb, json and Pillow read the store: contiguous keys, 256x256 JPEG pictures, labels, names, meta, and nothing else."""
    with lmdb.open(str(prepared / "train"), readonly=True, lock=False) as environment, environment.begin() as transaction:
        values = dict(transaction.cursor())
    meta, labels = json.loads(values.pop(b"meta")), np.frombuffer(values.pop(b"labels"), "<i4")
    names = zlib.decompress(values.pop(b"names")).decode().split("\0")
    assert names.pop() == "" and len(set(names)) == 60
    assert [meta["classes"][label] for label in labels] == [name.split("/")[1] for name in names]
    assert list(values) == [f"{index:08d}".encode() for index in range(60)]
    assert all(value.startswith(b"\xff\xd8") for value in values.values())
    assert np.bincount(labels).tolist() == [30, 25, 5]
    assert meta.pop("checksum") == f"crc32:{zlib.crc32(b''.join(values.values())):08x}"
    assert meta.pop("versions").keys() == {"alexnet_cli", "jpeg", "resizer", "lmdb", "numpy", "pillow", "simplejpeg"}
    assert meta == {
        "format_version": 1,
        "count": 60,
        "format": "jpeg",
        "size": 256,
        "resize": "short_side",
        "resampling": "bicubic",
        "quality": 95,
        "classes": ["cat", "dog", "eel"],
        "words": ["cat", "dog", "eel"],
        "seed": 0,
    }


def test_each_picture_once_under_its_label(source, prepared, tmp_path):
    """Every picture of the source is in the store once, scaled and cut, with its class's label, and classes are mixed."""
    prepare(source, tmp_path / "raw", format="raw", workers=1)
    store = open_store(tmp_path / "raw", "train")
    expected = []
    for path in sorted((source / "train").rglob("*.jpg")):
        whole = Image.open(path).resize((341, 256), Image.Resampling.BICUBIC)  # 40x30: 341.33 x 256
        expected.append((["cat", "dog", "eel"].index(path.parent.name), np.asarray(whole)[:, 42:298].astype(np.int16)))
    left = list(range(60))
    for index in range(60):
        image = store.image(index)
        found = [place for place in left if np.abs(expected[place][1] - image).max() <= 2]
        assert [expected[place][0] for place in found] == [store.labels[index]]
        left.remove(found[0])
    assert set(store.labels[:20].tolist()) == {0, 1, 2}
    assert store.meta["quality"] is None
    assert open_store(prepared, "train").labels.tolist() == store.labels.tolist()


def test_statistics_are_of_the_stored_pictures(prepared):
    """Mean and colour components are those of the pictures that come out of the training store, worked out by numpy."""
    store = open_store(prepared, "train")
    images = np.array([store.image(index) for index in range(len(store))])
    stats = load_file(prepared / "stats.safetensors")
    assert (str(stats["mean"].dtype), stats["mean"].shape) == ("float32", (3, 256, 256))
    np.testing.assert_allclose(stats["mean"], images.astype(float).mean(axis=0).transpose(2, 0, 1), rtol=1e-6)
    covariance = np.cov(images.reshape(-1, 3).T.astype(float), bias=True)
    for stdev, component in zip(stats["color_stdevs"], stats["color_components"], strict=True):
        np.testing.assert_allclose(covariance @ component, stdev.astype(float) ** 2 * component, rtol=1e-3, atol=0.5)


def test_any_number_of_workers(source, prepared, tmp_path):
    """Three workers make the same bytes as one process, and the summary counts what was made."""
    listener = Listener()
    summary = prepare(source, tmp_path / "data", workers=3, reporter=listener)
    assert content(tmp_path / "data") == content(prepared)
    assert {name: split.records for name, split in summary.splits.items()} == {"train": 60, "val": 7, "test": 2}
    assert (summary.classes, summary.images, summary.unchanged, summary.rejected_file) == (3, 69, False, None)
    assert listener.bars == [(f"preparing {name}", count, "images", 0) for name, count in (("train", 60), ("val", 7), ("test", 2))]
    assert listener.advanced == 69
    assert sorted(os.listdir(tmp_path / "data")) == ["prepare.json", "stats.safetensors", "test", "train", "val"]


def test_seed_changes_the_order_alone(source, prepared, tmp_path):
    """Another seed stores the same pictures in another order, with the same statistics."""
    prepare(source, tmp_path / "data", seed=1, workers=1)
    one, two = content(prepared), content(tmp_path / "data")
    assert one["stats"] == two["stats"]
    assert one["train/labels"] != two["train/labels"]
    pictures = [sorted(value for name, value in each.items() if re.fullmatch(r"train/\d+", name)) for each in (one, two)]
    assert pictures[0] == pictures[1]


def test_limit(source, tmp_path):
    """A limit keeps so many pictures per split, mixed over the classes, and every class its place."""
    summary = prepare(source, tmp_path / "data", limit=5, workers=1)
    assert {name: split.records for name, split in summary.splits.items()} == {"train": 5, "val": 5, "test": 2}
    store = open_store(tmp_path / "data", "train")
    assert store.classes == ("cat", "dog", "eel")
    assert len(set(store.labels.tolist())) >= 2


def test_words_travel(tmp_path):
    """Ids stay ids, and the words of a synset_words.txt come with them."""
    source = make_source(tmp_path / "source", {"train": {"n02": 1, "n01": 1}, "val": {"n01": 1}})
    (source / "synset_words.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n")
    prepare(source, tmp_path / "data", workers=1)
    store = open_store(tmp_path / "data", "val")
    assert (store.classes, store.words) == (("n01", "n02"), ("tench, Tinca tinca", "goldfish"))


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_and_continued(source, prepared, tmp_path, workers):
    """Stopped like Ctrl-C again and again, at every stage, the work continues and ends with the same bytes."""
    notes = []
    for _ in range(20):
        listener = Listener(stop_after=2)
        try:
            prepare(source, tmp_path / "data", workers=workers, commit_pictures=16, reporter=listener)
            break
        except KeyboardInterrupt:
            notes += listener.notes
    assert content(tmp_path / "data") == content(prepared)
    assert next(note for note in notes if note.startswith("continuing")) == "continuing at record 32 of 60 of train"


def start_in_the_background(source: Path, out: Path, *, commit: int = 16) -> subprocess.Popen[str]:
    """Run `prepare` with two workers in a process group of its own, as a terminal does."""
    code = f"""
        import sys
        from pathlib import Path
        from alexnet_cli.core.prepare import prepare
        if __name__ == "__main__":
            prepare(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, commit_pictures={commit})
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(source), str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def records_written(out: Path) -> int:
    """Return how many records of train are committed so far, as anybody can learn by opening the store."""
    try:
        return len(Store(out / "train"))
    except StoreError as error:
        found = re.search(r"incomplete: (\d+) of", error.message)
        return int(found[1]) if found else 0


def wait_for_records(out: Path, count: int) -> None:
    """Wait until so many records are committed."""
    deadline = time.monotonic() + 60
    while records_written(out) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def longer_source(tmp_path_factory):
    """240 training pictures, enough to be killed in the midst of them."""
    counts = {"train": {"cat": 120, "dog": 120}, "val": {"cat": 1}}
    return make_source(tmp_path_factory.mktemp("longer") / "source", counts, size=(16, 16))


def test_killed_and_continued(tmp_path):
    """Killed with SIGKILL at ten random moments, no committed record is lost, no worker remains, and the end is the same bytes."""
    counts_of = {"train": {"cat": 500, "dog": 500}, "val": {"cat": 1}}
    source = make_source(tmp_path / "source", counts_of, size=(16, 16))
    prepare(source, tmp_path / "undisturbed", workers=1)
    moments = random.Random(7)
    counts = [0]
    for _ in range(10):
        process = start_in_the_background(source, tmp_path / "data", commit=4)
        wait_for_records(tmp_path / "data", counts[-1] + moments.randint(1, 50))
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.communicate(timeout=20)  # the workers hold the other end of its stderr: its end is theirs
        counts.append(records_written(tmp_path / "data"))
    assert counts == sorted(counts) and counts[1] > 0
    listener = Listener()
    prepare(source, tmp_path / "data", workers=2, reporter=listener)
    assert any(re.fullmatch(r"continuing at record \d+ of 1000 of train", note) for note in listener.notes)
    assert content(tmp_path / "data") == content(tmp_path / "undisturbed")


def test_interrupt_key(longer_source, tmp_path):
    """Ctrl-C, which reaches the workers as well, ends the work with one traceback, the caller's, and leaves what was committed."""
    process = start_in_the_background(longer_source, tmp_path / "data")
    wait_for_records(tmp_path / "data", 16)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode != 0
    assert stderr.count("Traceback") == 1
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert 16 <= records_written(tmp_path / "data") < 240


def test_one_at_a_time(longer_source, tmp_path):
    """A second `prepare` on the same output is refused while the first one runs."""
    process = start_in_the_background(longer_source, tmp_path / "data")
    wait_for_records(tmp_path / "data", 16)
    try:
        refused("another alexnet prepare is writing to", lambda: prepare(longer_source, tmp_path / "data"))
    finally:
        process.kill()
        process.communicate()


def test_complete_store_is_left_alone(source, prepared):
    """The same call on a complete output says so and touches nothing; where the source lies does not matter."""
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    listener = Listener()
    summary = prepare(source, prepared, reporter=listener)
    assert summary.unchanged
    assert summary.images == 0
    assert summary.splits["train"].records == 60
    assert listener.notes[1:] == [f"{prepared} is complete, from the same source with the same arguments: nothing to do"]
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def test_other_arguments_are_refused(source, prepared, tmp_path):
    """An output of other arguments is refused naming each difference, complete or not, and replaced only by force."""
    out = shutil.copytree(prepared, tmp_path / "data")
    hint = refused(
        "was prepared otherwise: format jpeg there, raw now; quality 95 there, None now; seed 0 there, 3 now",
        lambda: prepare(source, out, format="raw", seed=3, workers=1),
    )
    assert hint == "choose another --out, or --force"
    assert content(out) == content(prepared)
    (out / "notes.txt").write_text("the user's own")
    prepare(source, out, quality=50, limit=3, force=True, workers=1)
    assert len(open_store(out, "train")) == 3
    assert (out / "notes.txt").read_text() == "the user's own"


def test_output_of_an_earlier_version(source, prepared, tmp_path):
    """An output whose plan names neither size nor resize, as before there were such options, is one of 256 and short sides."""
    out = shutil.copytree(prepared, tmp_path / "data")
    plan = json.loads((out / "prepare.json").read_text())
    assert (plan.pop("size"), plan.pop("resize")) == (256, "short_side")
    (out / "prepare.json").write_text(json.dumps(plan))
    assert prepare(source, out, workers=1).unchanged
    refused("was prepared otherwise: size 256 there, 64 now", lambda: prepare(source, out, size=64, workers=1))
    refused("was prepared otherwise: resize short_side there, warp now", lambda: prepare(source, out, resize="warp", workers=1))


def test_interrupted_store_of_other_arguments(source, tmp_path):
    """An interrupted output is not continued with other arguments."""
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "data", workers=1, commit_pictures=16, reporter=Listener(stop_after=2))
    refused("limit None there, 9 now", lambda: prepare(source, tmp_path / "data", limit=9, workers=1))


def test_changed_source_is_refused(tmp_path):
    """When pictures were added to the source, or one changed its size, the old output is not taken for it."""
    source = make_source(tmp_path / "source")
    prepare(source, tmp_path / "data", workers=1)
    (source / "train/cat/cat_0.jpg").write_bytes(saved(photo(50, 50, 99), "JPEG"))
    message = r"was prepared otherwise: names, sizes or labels of train's pictures \([0-9a-f]{8} there, [0-9a-f]{8} now\)"
    refused(message, lambda: prepare(source, tmp_path / "data"))
    shutil.copy(source / "train/cat/cat_1.jpg", source / "train/cat/new.jpg")
    refused("pictures {'train': 9, 'val': 3} there, {'train': 10, 'val': 3} now; ", lambda: prepare(source, tmp_path / "data"))


def test_force_makes_anew_and_continues(source, prepared, tmp_path):
    """Force makes a complete or damaged output anew, but an interrupted one of the same arguments is worth continuing."""
    out = shutil.copytree(prepared, tmp_path / "data")
    assert prepare(source, out, force=True, workers=1).images == 69
    assert content(out) == content(prepared)
    os.truncate(out / "train/data.mdb", 50_000)
    hint = refused("is cut short", lambda: prepare(source, out, workers=1))
    assert "--force" in hint
    assert prepare(source, out, force=True, workers=1).images == 69
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, seed=5, force=True, workers=1, commit_pictures=16, reporter=Listener(stop_after=2))
    assert prepare(source, out, seed=5, force=True, workers=1).images == 69 - 32


def test_lost_statistics(source, prepared, tmp_path):
    """A store without its statistics is not called complete."""
    out = shutil.copytree(prepared, tmp_path / "data")
    (out / "stats.safetensors").unlink()
    refused("stats.safetensors does not exist", lambda: prepare(source, out))


def test_folders_of_others_are_safe(source, tmp_path):
    """A folder that `prepare` did not write, even one with an LMDB file, is refused and kept, also by force."""
    out = tmp_path / "data"
    (out / "train").mkdir(parents=True)
    (out / "train/data.mdb").write_bytes(b"somebody's database")
    (out / "thesis.tex").write_text("years of work")
    for force in (False, True):
        hint = refused("holds thesis.tex, train, which alexnet prepare did not write", lambda: prepare(source, out, force=force))  # noqa: B023
        assert "not even --force" in hint
    assert (out / "train/data.mdb").read_bytes() == b"somebody's database"
    assert (out / "thesis.tex").read_text() == "years of work"


def test_source_is_safe(tmp_path):
    """An output that is the source, lies in it, holds it, or reaches it by a link is refused, also by force."""
    source = make_source(tmp_path / "all/source")
    (tmp_path / "link").symlink_to(source)
    before = sorted(tmp_path.rglob("*"))
    for out in (source, source / "train", source / "data", tmp_path / "all", tmp_path / "link" / "data"):
        refused("the output .* and the source .* overlap", lambda: prepare(source, out, force=True))  # noqa: B023
    assert sorted(tmp_path.rglob("*")) == before


def test_output_is_a_file(source, tmp_path):
    """An output that is a file is refused."""
    (tmp_path / "data").write_text("")
    refused("data is a file, expected a folder or nothing", lambda: prepare(source, tmp_path / "data"))


@pytest.fixture
def odd_source(tmp_path):
    """A source with four broken pictures among good ones, some of these of odd kinds."""
    source = make_source(tmp_path / "source", {"train": {"cat": 3, "dog": 3}, "validation": {"cat": 2, "dog": 2}})
    whole = saved(photo(80, 60), "JPEG")
    (source / "train/cat/cut, in half.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "train/dog/letter.jpg").write_text("Dear Sir or Madam,")
    (source / "train/dog/bomb.png").write_bytes(png(60_000, 60_000, 8, 2, b""))
    (source / "validation/cat/lost.jpg").symlink_to(source / "nowhere")
    (source / "validation/dog/png.JPEG").write_bytes(saved(photo(20, 30).convert("RGBA"), "PNG"))
    (source / "train/dog/inks.jpg").write_bytes(saved(photo(20, 30).convert("CMYK"), "JPEG"))
    return source


@pytest.mark.parametrize("workers", [1, 2])
def test_rejected_pictures(odd_source, tmp_path, workers):
    """Broken pictures are counted, listed with the reason, and skipped; keys and labels close up over the gaps."""
    listener = Listener()
    summary = prepare(odd_source, tmp_path / "data", workers=workers, reporter=listener)
    assert {name: (split.records, split.rejected) for name, split in summary.splits.items()} == {"train": (7, 3), "val": (5, 1)}
    with (tmp_path / "data/rejected.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "reason"]
    expected = [
        ("train/cat/cut, in half.jpg", "damaged or cut short: image file is truncated"),
        ("train/dog/bomb.png", "too large: "),
        ("train/dog/letter.jpg", "not a picture of a known format"),
        ("validation/cat/lost.jpg", "cannot be opened: No such file or directory"),
    ]
    assert [(path, reason[: len(text)]) for (path, reason), (_, text) in zip(rows, expected, strict=True)] == expected
    assert summary.rejected_file == tmp_path / "data/rejected.csv"
    listed = f"they are listed in {tmp_path}/data/rejected.csv"
    assert listener.warnings == [
        f"3 of 10 pictures of train cannot be read; {listed}",
        f"1 of 6 pictures of val cannot be read; {listed}",
    ]
    assert np.bincount(open_store(tmp_path / "data", "train").labels).tolist() == [3, 4]
    again = prepare(odd_source, tmp_path / "data")
    assert (again.unchanged, again.splits["train"].rejected) == (True, 3)


def test_rejections_survive_an_interruption(odd_source, tmp_path):
    """The list of rejected pictures of an interrupted run is that of an undisturbed one."""
    prepare(odd_source, tmp_path / "undisturbed", workers=1)
    for stop_after in (1, 1):
        with pytest.raises(KeyboardInterrupt):
            prepare(odd_source, tmp_path / "data", workers=1, commit_pictures=1, reporter=Listener(stop_after=stop_after))
    prepare(odd_source, tmp_path / "data", workers=1)
    assert (tmp_path / "data/rejected.csv").read_bytes() == (tmp_path / "undisturbed/rejected.csv").read_bytes()
    assert content(tmp_path / "data") == content(tmp_path / "undisturbed")


def test_stop_at_the_first_broken_picture(odd_source, tmp_path):
    """With on_error "stop" the first broken picture ends the work, with its path and the reason."""
    with pytest.raises(
        DataError, match=r"source/train/(cat/cut, in half.jpg: damaged|dog/letter.jpg: not|dog/bomb.png: too)"
    ) as raised:
        prepare(odd_source, tmp_path / "data", workers=1, on_error="stop")
    assert "--on-error skip" in raised.value.hint


def test_more_rejected_than_borne(odd_source, tmp_path):
    """Above --max-rejected the work fails, with the list written; with a higher number it goes on where it was."""
    message = r"pictures that cannot be read: 3, more than --max-rejected 2; they are listed in .*/data/rejected\.csv"
    hint = refused(message, lambda: prepare(odd_source, tmp_path / "data", workers=1, max_rejected=2), DataError)
    assert hint == "raise the number, or repair the source and make the store anew with --force"
    assert len((tmp_path / "data/rejected.csv").read_text().splitlines()) == 1 + 3
    refused("pictures that cannot be read: 4", lambda: prepare(odd_source, tmp_path / "data", workers=1, max_rejected=3), DataError)
    prepare(odd_source, tmp_path / "data", workers=1, max_rejected=4)
    # A complete store is judged too.
    refused("pictures that cannot be read: 4", lambda: prepare(odd_source, tmp_path / "data", workers=1, max_rejected=0), DataError)
    refused(
        "more than --on-error stop allows", lambda: prepare(odd_source, tmp_path / "data", workers=1, on_error="stop"), DataError
    )


def test_too_little_room(source, small_disk):
    """A disk that cannot hold the pictures is refused before anything is converted, with both sizes."""
    message = r"data needs about 13\.8 MB for 69 pictures, [12]\.[0-9] MB are free"
    hint = refused(message, lambda: prepare(source, small_disk / "data", format="raw", workers=1), DiskFullError)
    assert "--format jpeg" in hint
    assert not list(small_disk.rglob("*.*"))  # so that the hint can be followed
    prepare(source, small_disk / "data", quality=10, workers=1)
    before = content(small_disk / "data")
    refused(message, lambda: prepare(source, small_disk / "data", format="raw", workers=1, force=True), DiskFullError)
    assert content(small_disk / "data") == before  # nothing was cleared for what would not fit


def test_disk_that_fills_up(source, prepared, small_disk, monkeypatch):
    """A disk that others fill in the meantime ends the work in one line; with room it goes on to the same end."""
    resize_disk(small_disk, "3m")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_300_000))
    monkeypatch.setattr("alexnet_cli.core.prepare.refuse_small_disk", lambda *arguments: None)
    message = r"the disk is full: .*data\.mdb could not be written"
    refused(message, lambda: prepare(source, small_disk / "data", workers=1, commit_pictures=8), DiskFullError)
    assert records_written(small_disk / "data") >= 8
    resize_disk(small_disk, "30m")
    listener = Listener()
    prepare(source, small_disk / "data", workers=1, reporter=listener)
    assert any(note.startswith("continuing at record ") for note in listener.notes)
    assert content(small_disk / "data") == content(prepared)


def test_need_is_said_beforehand(source, prepared, tmp_path):
    """The need that is announced is about what the stores then take."""
    listener = Listener()
    prepare(source, tmp_path / "data", workers=1, reporter=listener)
    note = next(note for note in listener.notes if "will need" in note)
    need = float(re.match(r"69 pictures will need about ([0-9.]+) MB; [0-9.,]+ GB are free in ", note)[1])  # type: ignore[index]
    written = sum(file.stat().st_size for file in (tmp_path / "data").glob("*/data.mdb")) / 1e6
    assert need == pytest.approx(written, rel=0.3)


def test_names_of_all_kinds_are_listed(tmp_path):
    """Names with line ends, commas, quotes and bytes that are no UTF-8 come back from the list as they were."""
    source = make_source(tmp_path / "source")
    names = ["a\rb.jpg", "a\nb.jpg", 'a,"b".jpg', os.fsdecode(b"\xff.jpg")]
    for name in names:
        (source / "train/cat" / name).write_text("no picture")
    for _ in range(2):
        summary = prepare(source, tmp_path / "data", workers=1)
        assert (summary.splits["train"].rejected, summary.splits["val"].rejected) == (4, 0)
    assert sorted(path for path, _ in read_rejected(tmp_path / "data")) == sorted(f"train/cat/{name}" for name in names)


def test_all_pictures_broken(tmp_path):
    """A split of which nothing can be read is an error that gives an example."""
    source = make_source(tmp_path / "source")
    for path in (source / "val").rglob("*.jpg"):
        path.write_text("no picture")
    hint = refused(
        "none of the 3 pictures in .*/source/val can be read", lambda: prepare(source, tmp_path / "data", workers=1), DataError
    )
    assert "not a picture of a known format" in hint
    assert len((tmp_path / "data/rejected.csv").read_text().splitlines()) == 4


def test_class_that_comes_out_empty(tmp_path):
    """A class all of whose pictures are broken keeps its place, and a warning says that it is empty."""
    source = make_source(tmp_path / "source", {"train": {"cat": 2, "dog": 1, "eel": 2}, "val": {"cat": 1}})
    (source / "train/dog/dog_0.jpg").write_text("no picture")
    listener = Listener()
    prepare(source, tmp_path / "data", workers=1, reporter=listener)
    assert np.bincount(open_store(tmp_path / "data", "train").labels).tolist() == [2, 0, 2]
    assert listener.warnings[1] == "1 of 3 classes have no picture in train"


def test_source_that_disappears(tmp_path):
    """When the whole source goes away in mid-work, its pictures are not taken for broken ones; back again, the work goes on."""
    source = make_source(tmp_path / "source", {"train": {"cat": 30, "dog": 30}, "val": {"cat": 1}})

    class Unplug(Reporter):
        def advance(self, amount: int = 1, **figures: float) -> None:
            source.rename(tmp_path / "unplugged")

    with pytest.raises(SourceError, match="source has gone while it was read"):
        prepare(source, tmp_path / "data", workers=1, commit_pictures=1, reporter=Unplug())
    (tmp_path / "unplugged").rename(source)
    assert prepare(source, tmp_path / "data", workers=1).images == 61 - 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "png"}, 'format "png", expected jpeg or raw'),
        ({"quality": 0}, "quality 0, expected 1 to 100"),
        ({"workers": 0}, "0 workers, expected 1 or more"),
        ({"limit": 0}, "limit 0, expected 1 or more"),
    ],
)
def test_arguments(source, tmp_path, arguments, message):
    """Arguments out of range are refused before anything is written."""
    refused(message, lambda: prepare(source, tmp_path / "data", **arguments), DataError)
    assert not (tmp_path / "data").exists()


def test_no_torch():
    """Preparing imports no torch: each worker would spend over a second on it."""
    code = "import sys, alexnet_cli.core.prepare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
