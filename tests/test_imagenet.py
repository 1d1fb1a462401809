"""ImageNet in every form that it comes in: labels against an independent reading, and what is missing, cut short or hostile."""

import csv
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.core import archives
from alexnet_cli.core.errors import DataError, SourceError
from alexnet_cli.core.imagenet import ilsvrc_classes, read_devkit, words_of
from alexnet_cli.core.prepare import PrepareSummary, prepare
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.sources import find_source
from alexnet_cli.core.splits import Selection
from alexnet_cli.core.store import open_store
from tests import imagenets
from tests.imagenets import CLASSES, TEST_NAMES, TRAIN_COUNTS, VAL_NAMES, WORDS, found_in, make_archives, truth

TRAIN_NAMES = [name for name in truth() if name not in VAL_NAMES]


class Listener(Reporter):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


def run(source: Path, out: Path, **options: object) -> tuple[PrepareSummary, Listener]:
    """Prepare a raw store in this process."""
    listener = Listener()
    return prepare(source, out, format="raw", workers=1, reporter=listener, **options), listener  # type: ignore[arg-type]


def check_labels(out: Path, *, val: bool = True) -> None:
    """Compare every label of train and val with what the names and the ground truth say."""
    train = open_store(out, "train")
    assert (train.classes, train.words) == (CLASSES, tuple(WORDS[wnid] for wnid in CLASSES))
    assert found_in(train) == {name: truth()[name] for name in TRAIN_NAMES}
    if val:
        assert found_in(open_store(out, "val")) == {name: truth()[name] for name in VAL_NAMES}


def test_official_archives(tmp_path):
    """The three archives as downloaded: labels go from the kit's number through the id to the sorted place."""
    _, listener = run(make_archives(tmp_path / "imagenet", test=True), tmp_path / "data")
    check_labels(tmp_path / "data")
    assert listener.notes[0] == "source: ImageNet's official archives, read in place (archives)"
    assert not listener.warnings
    assert found_in(open_store(tmp_path / "data", "test")) == dict.fromkeys(TEST_NAMES)
    assert sorted(os.listdir(tmp_path / "imagenet")) == [  # nothing was extracted
        "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_test_v10102019.tar", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["train", "ILSVRC2012_img_train", "."])
def test_training_archive_extracted_once(tmp_path, folder):
    """The tars of the classes, extracted from the outer one, are read in place too; the kit may be extracted."""
    root = make_archives(tmp_path / "imagenet", kit=False)
    with tarfile.open(root / "ILSVRC2012_img_train.tar") as tar:
        tar.extractall(root / folder, filter="data")
    (root / "ILSVRC2012_img_train.tar").unlink()
    imagenets.write_kit(root)
    run(root, tmp_path / "data")
    check_labels(tmp_path / "data")


def test_extracted_folders(tmp_path):
    """Class folders for train, a flat val beside the kit."""
    imagenets.write_train_folders(tmp_path / "imagenet")
    imagenets.write_flat(tmp_path / "imagenet" / "val", VAL_NAMES)
    imagenets.write_kit(tmp_path / "imagenet")
    _, listener = run(tmp_path / "imagenet", tmp_path / "data")
    check_labels(tmp_path / "data")
    assert listener.notes[0] == "source: ImageNet's extracted folders (imagenet)"


def test_val_in_class_folders_needs_no_kit(tmp_path):
    """A val that somebody has sorted into class folders has its labels from them."""
    root = tmp_path / "imagenet"
    imagenets.write_train_folders(root)
    for name in VAL_NAMES:
        (root / "val" / truth()[name]).mkdir(parents=True, exist_ok=True)
        (root / "val" / truth()[name] / name).write_bytes(imagenets.content(name))
    (root / "synset_words.txt").write_text("".join(f"{wnid} {words}\n" for wnid, words in WORDS.items()))
    run(root, tmp_path / "data")
    check_labels(tmp_path / "data")


def test_kaggle(tmp_path):
    """Kaggle's folders, with the first id of the csv's prediction as label, and words from its mapping."""
    _, listener = run(imagenets.make_kaggle(tmp_path / "imagenet"), tmp_path / "data")
    check_labels(tmp_path / "data")
    assert listener.notes[0] == "source: Kaggle's layout of ImageNet (kaggle)"
    assert found_in(open_store(tmp_path / "data", "test")) == dict.fromkeys(TEST_NAMES)


@pytest.mark.parametrize("workers", [1, 2])
def test_parquet(tmp_path, workers):
    """Hugging Face's shards: labels by the column, ids from the pictures' names, sorted by id though the labels are not."""
    pytest.importorskip("pyarrow")
    imagenets.make_parquet(tmp_path / "imagenet")
    prepare(tmp_path / "imagenet", tmp_path / "data", format="raw", workers=workers)
    check_labels(tmp_path / "data")
    assert found_in(open_store(tmp_path / "data", "test")) == dict.fromkeys(TEST_NAMES)


def test_parquet_without_ids(tmp_path):
    """Where names tell no id, classes are called by their names in the shards, or numbered in the order of the labels."""
    pytest.importorskip("pyarrow")
    imagenets.make_parquet(tmp_path / "imagenet", wnids_in_names=False)
    run(tmp_path / "imagenet", tmp_path / "data")
    store = open_store(tmp_path / "data", "train")
    assert store.classes == ("0", "1", "2")
    assert store.words == tuple(WORDS[wnid] for wnid in imagenets.KIT_ORDER)
    assert found_in(store) == {name: str(imagenets.KIT_ORDER.index(truth()[name])) for name in TRAIN_NAMES}


def test_parquet_interrupted(tmp_path):
    """A stop in the midst of a row group changes nothing in the end."""
    pytest.importorskip("pyarrow")
    imagenets.make_parquet(tmp_path / "imagenet", rows_per_group=5)
    run(tmp_path / "imagenet", tmp_path / "straight")

    class Stop(Reporter):
        def advance(self, amount: int = 1, **figures: float) -> None:
            if amount > 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr("alexnet_cli.core.conversion.CHUNK", 3)
        prepare(tmp_path / "imagenet", tmp_path / "data", format="raw", workers=1, commit_pictures=3, reporter=Stop())
    _, listener = run(tmp_path / "imagenet", tmp_path / "data")
    assert "continuing at record 3 of 12 of train" in listener.notes
    for split in ("train", "val"):
        one, two = open_store(tmp_path / "straight", split), open_store(tmp_path / "data", split)
        assert [one.record(index) for index in range(len(one))] == [two.record(index) for index in range(len(two))]


def test_archives_interrupted(tmp_path):
    """Two workers stopped in the midst of the archives, and the work continued by one, end with the records of one run."""
    root = make_archives(tmp_path / "imagenet")
    run(root, tmp_path / "straight")

    class Stop(Reporter):
        def advance(self, amount: int = 1, **figures: float) -> None:
            if amount > 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr("alexnet_cli.core.conversion.CHUNK", 5)
        prepare(root, tmp_path / "data", format="raw", workers=2, commit_pictures=5, reporter=Stop())
    _, listener = run(root, tmp_path / "data")
    assert "continuing at record 5 of 12 of train" in listener.notes
    check_labels(tmp_path / "data")
    for split in ("train", "val"):
        one, two = open_store(tmp_path / "straight", split), open_store(tmp_path / "data", split)
        assert [one.record(index) for index in range(len(one))] == [two.record(index) for index in range(len(two))]
        assert one.meta == two.meta


def test_one_seed_one_order_for_every_form_that_reads_alone(tmp_path):
    """Archives and folders of the same pictures have the same records in the same order."""
    run(make_archives(tmp_path / "archives"), tmp_path / "one")
    run(imagenets.make_kaggle(tmp_path / "kaggle"), tmp_path / "two")
    one, two = open_store(tmp_path / "one", "train"), open_store(tmp_path / "two", "train")
    assert [one.record(index) for index in range(len(one))] == [two.record(index) for index in range(len(two))]


def test_tiny_imagenet(tmp_path):
    """Tiny ImageNet's own file gives the labels of val/images."""
    root = tmp_path / "tiny"
    imagenets.write_train_folders(root)
    imagenets.write_flat(root / "val" / "images", VAL_NAMES)
    (root / "val" / "val_annotations.txt").write_text("".join(f"{name}\t{truth()[name]}\t0\t0\t9\t9\n" for name in VAL_NAMES))
    run(root, tmp_path / "data")
    assert found_in(open_store(tmp_path / "data", "val")) == {name: truth()[name] for name in VAL_NAMES}


# What is missing ---------------------------------------------------------------------------------------------------------------


def test_without_the_kit(tmp_path):
    """Validation pictures without labels are prepared all the same, and what is lacking is said."""
    _, listener = run(make_archives(tmp_path / "imagenet", kit=False), tmp_path / "data")
    assert listener.warnings == [
        "ILSVRC2012_img_val.tar has no labels: evaluate and the test after each epoch will lack them; "
        "put ILSVRC2012_devkit_t12.tar.gz beside it for them"
    ]
    assert found_in(open_store(tmp_path / "data", "val")) == dict.fromkeys(VAL_NAMES)
    assert found_in(open_store(tmp_path / "data", "train")) == {name: truth()[name] for name in TRAIN_NAMES}


def test_without_validation_archive(tmp_path):
    """Without any validation pictures the way out is named, and works."""
    root = make_archives(tmp_path / "imagenet")
    (root / "ILSVRC2012_img_val.tar").unlink()
    with pytest.raises(SourceError, match=r"has no ILSVRC2012_img_val\.tar, nor a folder val/") as caught:
        run(root, tmp_path / "data")
    assert "--holdout 0.05" in caught.value.hint
    run(root, tmp_path / "data", selection=Selection(holdout=0.3))
    train, val = (found_in(open_store(tmp_path / "data", split)) for split in ("train", "val"))
    assert not train.keys() & val.keys()
    assert train | val == {name: truth()[name] for name in TRAIN_NAMES}
    counts = [list(val.values()).count(wnid) for wnid in CLASSES]
    assert counts == [1, 2, 1]  # 0.3 of 3, 5 and 4, rounded


def test_classes_that_train_lacks(tmp_path):
    """Validation pictures of other classes are left out and counted."""
    root = make_archives(tmp_path / "imagenet")
    inner = [(f"{wnid}.tar", imagenets.tar_of([(f"{wnid}_0.JPEG", imagenets.content(f"{wnid}_0.JPEG"))])) for wnid in CLASSES[:2]]
    (root / "ILSVRC2012_img_train.tar").write_bytes(imagenets.tar_of(inner))
    _, listener = run(root, tmp_path / "data")
    assert listener.warnings == ["left out of ILSVRC2012_img_val.tar, as train lacks their classes: 2 of 6 pictures"]
    assert len(open_store(tmp_path / "data", "val")) == 4


@pytest.mark.parametrize("cut", ["n01440764_2.JPEG", "n02119789_3.JPEG", "n15075141_3.JPEG", "n02119789_0.JPEG"])
def test_training_archive_cut_short(tmp_path, cut):
    """An archive that ends within a picture names the last whole one before it."""
    root = make_archives(tmp_path / "imagenet")
    file = root / "ILSVRC2012_img_train.tar"
    os.truncate(file, file.read_bytes().index(imagenets.content(cut)) + 100)
    before = TRAIN_NAMES[TRAIN_NAMES.index(cut) - 1]
    with pytest.raises(SourceError, match="is cut short or damaged: its last whole member is ") as caught:
        run(root, tmp_path / "data")
    assert caught.value.message.endswith(f"ILSVRC2012_img_train.tar/{before[:9]}.tar/{before}")
    assert not (tmp_path / "data").exists()


def test_archive_cut_between_its_members(tmp_path):
    """An archive that ends where a class begins, or lacks its end mark, is not taken for a smaller one."""
    root = make_archives(tmp_path / "imagenet")
    file = root / "ILSVRC2012_img_train.tar"
    os.truncate(file, file.read_bytes().index(b"n15075141.tar"))
    with pytest.raises(SourceError, match=r"its last whole member is ILSVRC2012_img_train\.tar/n02119789\.tar"):
        run(root, tmp_path / "data")


def test_damaged_kit(tmp_path):
    """A kit that cannot be read is named, instead of labels being guessed."""
    root = make_archives(tmp_path / "imagenet", kit=False)
    imagenets.write_kit(root)
    (root / "ILSVRC2012_devkit_t12/data/meta.mat").write_bytes(b"no matrix")
    with pytest.raises(SourceError, match=r"the development kit .* cannot be read"):
        run(root, tmp_path / "data")


def test_published_sums(tmp_path, monkeypatch):
    """Archives that are not the published ones are refused when asked, and the right ones pass."""
    root = make_archives(tmp_path / "imagenet")
    with pytest.raises(
        SourceError, match=r"ILSVRC2012_img_train\.tar has MD5 [0-9a-f]{32}, expected 1d675b47d978889d74fa0da5fadfb00e"
    ):
        run(root, tmp_path / "data", verify=True)
    sums = {name: hashlib.md5((root / name).read_bytes()).hexdigest() for name in archives.MD5}
    monkeypatch.setattr(archives, "MD5", sums)
    _, listener = run(root, tmp_path / "data", verify=True)
    assert any(note.startswith("MD5 as published: ILSVRC2012_img_train.tar, ") for note in listener.notes)
    with pytest.raises(DataError, match="has none of ImageNet's official archives"):
        run(imagenets.make_kaggle(tmp_path / "kaggle"), tmp_path / "other", verify=True)


def test_val_half_sorted(tmp_path):
    """A flat val of which a part is in class folders is refused with both counts, instead of losing the rest."""
    root = tmp_path / "imagenet"
    imagenets.write_train_folders(root)
    imagenets.write_flat(root / "val", VAL_NAMES[1:])
    (root / "val" / truth()[VAL_NAMES[0]]).mkdir()
    with pytest.raises(SourceError, match=r"val has class folders \(1\) and pictures beside them \(5\)"):
        run(root, tmp_path / "data")


def test_train_extracted_val_not(tmp_path):
    """Training pictures in class folders go with validation pictures in their archive."""
    root = make_archives(tmp_path / "imagenet")
    (root / "ILSVRC2012_img_train.tar").unlink()
    imagenets.write_train_folders(root)
    run(root, tmp_path / "data")
    check_labels(tmp_path / "data")


@pytest.mark.parametrize("inner", ["ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_inner_folders_of_kaggle(tmp_path, inner):
    """One of Kaggle's inner folders may be named: the csv is found above it."""
    imagenets.make_kaggle(tmp_path / "kaggle")
    run(tmp_path / "kaggle" / inner, tmp_path / "data")
    assert found_in(open_store(tmp_path / "data", "val")) == {name: truth()[name] for name in VAL_NAMES}


def test_any_two_folders_are_no_classes(tmp_path):
    """Folders that hold no pictures themselves, or are called like splits, are not taken for classes."""
    imagenets.write_train_folders(tmp_path / "a" / "Data")
    (tmp_path / "a" / "Annotations").mkdir()
    with pytest.raises(SourceError, match="has no folder train/, and classes Annotations, Data of it no pictures"):
        find_source(tmp_path / "a")
    for name in ("Train", "Val"):
        imagenets.write_flat(tmp_path / "b" / name, VAL_NAMES)
    with pytest.raises(SourceError, match=r"has Train/, expected train/ in small letters"):
        find_source(tmp_path / "b")


@pytest.mark.parametrize("place", ["kits/ILSVRC2012_devkit_t12/data", "data", "."])
def test_where_a_kit_may_lie(tmp_path, place):
    """The kit is found where people unpack it, and an older one beside it is passed over."""
    root = make_archives(tmp_path / "imagenet", kit=False)
    (root / place).mkdir(parents=True, exist_ok=True)
    for name, data in imagenets.kit_files().items():
        (root / place / name).write_bytes(data)
    (root / "ILSVRC2010_devkit-1.0.tar.gz").write_bytes(b"another")
    run(root, tmp_path / "data")
    check_labels(tmp_path / "data")


# Shards that are not what they should be -----------------------------------------------------------------------------------------


def write_shard(path: Path, labels: object, *, images: object = None, group: int = 100) -> None:
    """Write a shard by hand."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    count = len(labels)  # type: ignore[arg-type]
    names = [f"{path.stem}-{index}.png" for index in range(count)]
    images = images or [{"bytes": imagenets.content(name), "path": name} for name in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"image": images, "label": labels}), path, row_group_size=group)


def test_shards_without_names(tmp_path):
    """Labels alone are enough: classes are numbered, whatever the integers' width."""
    pa = pytest.importorskip("pyarrow")
    write_shard(tmp_path / "hf/train-0.parquet", pa.array([0, 1, 1, 2], type=pa.int32()))
    write_shard(tmp_path / "hf/validation-0.parquet", pa.array([2, 0], type=pa.int64()))
    run(tmp_path / "hf", tmp_path / "data")
    assert open_store(tmp_path / "data", "train").classes == ("0", "1", "2")
    assert sorted(open_store(tmp_path / "data", "val").labels.tolist()) == [0, 2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([2, 0], r"validation-0\.parquet has label 2, train has 0 to 1"),
        ([-2, 0], r"validation-0\.parquet has label -2, train has 0 to 1"),
        ([0.7, 1.0], "has the columns image: .*, label: double"),
        (["a", "b"], "has the columns image: .*, label: string"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, message):
    """Labels that train lacks, negative ones but -1, fractions and texts are refused, never bent into shape."""
    write_shard(tmp_path / "hf/train-0.parquet", [0, 1])
    write_shard(tmp_path / "hf/validation-0.parquet", labels)
    with pytest.raises(SourceError, match=message):
        run(tmp_path / "hf", tmp_path / "data")


def test_missing_shards(tmp_path):
    """Shards that their names count but that are not there are missed."""
    write_shard(tmp_path / "hf/data/train-00000-of-00003.parquet", [0, 1])
    write_shard(tmp_path / "hf/data/train-00002-of-00003.parquet", [0, 1])
    with pytest.raises(SourceError, match="data has 2 of 3 train shards: number 1 is not there"):
        find_source(tmp_path / "hf")


def test_one_odd_name_changes_no_class(tmp_path):
    """A picture that bears another class's id does not unname its class; it is told."""
    pytest.importorskip("pyarrow")
    names = [f"n0000000{label}_{index}.JPEG" for label in (1, 2) for index in range(5)]
    images = [{"bytes": imagenets.content(name), "path": name} for name in names]
    images[0]["path"] = "n00000002_9.JPEG"
    write_shard(tmp_path / "hf/train-0.parquet", [0] * 5 + [1] * 5, images=images)
    source = find_source(tmp_path / "hf")
    assert source.classes == ("n00000001", "n00000002")
    assert source.lacks == ("train-0.parquet: pictures that bear another class's id in their names: 1; their labels count",)


def test_shards_written_anew_are_another_source(tmp_path):
    """The same rows in other row groups have another order, so an interrupted store is not continued from them."""
    one: dict[str, str] = {}
    two: dict[str, str] = {}
    for found, group in ((one, 4), (two, 3)):
        write_shard(tmp_path / "hf/train-0.parquet", [0, 1] * 6, group=group)
        found.update(find_source(tmp_path / "hf").fingerprint())
    assert one["train"] != two["train"] and one["classes"] == two["classes"]


def test_few_row_groups_are_kept(tmp_path):
    """However many row groups there are, as many are kept as may be needed, and each is read once in the store's order."""
    write_shard(tmp_path / "hf/train-0.parquet", [0, 1] * 20, group=2)
    train = find_source(tmp_path / "hf").splits["train"]
    reads = []

    class Counting(type(train.listing)):  # type: ignore[misc]
        def _read(self, group):
            reads.append(group)
            return super()._read(group)

    listing = Counting(*(getattr(train.listing, name) for name in ("files", "first_groups", "groups", "rows", "group_bytes")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alexnet_cli.core.splits.WINDOW", 6)
        patch.setattr("alexnet_cli.core.parquet.WINDOW", 6)
        order = train.order(seed=0, counter=0)
        list(listing.stream(order))
        assert sorted(reads) == list(range(20))
        reads.clear()
        list(listing.stream([0, 10, 20, 30, 0]))  # a fifth group has pushed out the first
        assert len(reads) == 5


def test_limit_draws_from_all_shards(tmp_path):
    """A limit takes of all classes, also where they lie one after the other."""
    write_shard(tmp_path / "hf/train-0.parquet", [label for label in range(10) for _ in range(40)], group=10)
    order = find_source(tmp_path / "hf").splits["train"].order(seed=0, counter=0, limit=100)
    assert len(set((order // 40).tolist())) == 10


# Hostile archives --------------------------------------------------------------------------------------------------------------


def test_hostile_members(tmp_path):
    """Links, devices and names that lead out are neither followed nor read, but listed; nothing appears outside."""
    root = make_archives(tmp_path / "imagenet")
    secret = tmp_path / "secret.JPEG"
    secret.write_bytes(imagenets.content("secret"))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, target in (
            ("n01440764_link.JPEG", tarfile.SYMTYPE, str(secret)),
            ("n01440764_hard.JPEG", tarfile.LNKTYPE, "../secret.JPEG"),
            ("n01440764_dev.JPEG", tarfile.CHRTYPE, ""),
            ("n01440764_fifo.JPEG", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
        sparse = tarfile.TarInfo("n01440764_9.JPEG")
        sparse.type = tarfile.GNUTYPE_SPARSE
        tar.addfile(sparse)
        tar.addfile(tarfile.TarInfo("README"))
        for name in (f"{tmp_path}/escaped.JPEG", "../escaped.JPEG", "a/../../escaped.JPEG", "n01440764_0.JPEG"):
            data = imagenets.content("n01440764_0.JPEG")
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    inner = [
        (f"{wnid}.tar", imagenets.tar_of([(n, imagenets.content(n)) for n in imagenets.train_names()[wnid]])) for wnid in CLASSES
    ]
    inner[0] = ("n01440764.tar", file.getvalue())
    (root / "ILSVRC2012_img_train.tar").write_bytes(imagenets.tar_of(inner))
    summary, _ = run(root, tmp_path / "data")
    assert (summary.splits["train"].records, summary.splits["train"].rejected) == (1 + 5 + 4, 8)
    with (tmp_path / "data" / "rejected.csv").open(newline="") as rows:
        reasons = {
            path.removeprefix("ILSVRC2012_img_train.tar/n01440764.tar/"): reason for path, reason in list(csv.reader(rows))[1:]
        }
    assert reasons == {
        "n01440764_link.JPEG": "a link, which is never followed",
        "n01440764_hard.JPEG": "a link, which is never followed",
        "n01440764_dev.JPEG": "a device, which is never opened",
        "n01440764_fifo.JPEG": "a device, which is never opened",
        f"{tmp_path}/escaped.JPEG": "a name that leads out of the archive",
        "../escaped.JPEG": "a name that leads out of the archive",
        "a/../../escaped.JPEG": "a name that leads out of the archive",
        "n01440764_9.JPEG": "a sparse file, whose bytes do not lie in one piece",
    }
    with pytest.raises(DataError, match="a link, which is never followed"):
        run(root, tmp_path / "other", on_error="stop")
    assert not (tmp_path / "other" / "train").exists()


def test_two_pictures_of_one_name(tmp_path):
    """The second of two members with one name is refused, and the first keeps its label."""
    root = make_archives(tmp_path / "imagenet")
    val = [(name, imagenets.content(name)) for name in (*VAL_NAMES, VAL_NAMES[1])]
    (root / "ILSVRC2012_img_val.tar").write_bytes(imagenets.tar_of(val))
    summary, _ = run(root, tmp_path / "data")
    assert (summary.splits["val"].records, summary.splits["val"].rejected) == (6, 1)
    check_labels(tmp_path / "data")


def test_member_too_large_to_be_a_picture(tmp_path, monkeypatch):
    """A member is judged by its size before it is read."""
    root = make_archives(tmp_path / "imagenet")
    sizes = {name: len(imagenets.content(name)) for name in VAL_NAMES}
    monkeypatch.setattr(archives, "LARGEST_PICTURE", sorted(sizes.values())[-2])
    source = find_source(root)
    largest = max(sizes, key=lambda name: sizes[name])
    assert f"ILSVRC2012_img_val.tar/{largest}" in [path for path, _ in source.splits["val"].refused]
    assert f"a file of {sizes[largest]:,} bytes, more than " in source.splits["val"].refused[0][1]


def test_class_archives_that_cannot_be_trusted(tmp_path):
    """A class's archive that is there twice, or whose name leads out, is no matter of one picture: the source is refused."""
    root = make_archives(tmp_path / "imagenet")
    tars = {wnid: imagenets.tar_of([(n, imagenets.content(n)) for n in names]) for wnid, names in imagenets.train_names().items()}
    members = [(f"{wnid}.tar", data) for wnid, data in tars.items()]
    (root / "ILSVRC2012_img_train.tar").write_bytes(imagenets.tar_of([*members, members[0]]))
    with pytest.raises(SourceError, match=r"has ILSVRC2012_img_train\.tar/n01440764\.tar twice"):
        run(root, tmp_path / "data")
    members[0] = (f"../{members[0][0]}", members[0][1])
    (root / "ILSVRC2012_img_train.tar").write_bytes(imagenets.tar_of(members))
    with pytest.raises(SourceError, match=r"\.\./n01440764\.tar is a name that leads out of the archive"):
        run(root, tmp_path / "data")


def test_compressed_archive(tmp_path):
    """A gzip file under a tar's name is called that, not damaged."""
    root = make_archives(tmp_path / "imagenet")
    file = root / "ILSVRC2012_img_train.tar"
    file.write_bytes(gzip.compress(file.read_bytes(), compresslevel=1))
    with pytest.raises(SourceError, match="is compressed by gzip, expected a plain tar"):
        run(root, tmp_path / "data")


def test_leading_dots(tmp_path):
    """Members named ./NAME, as `tar .` writes them, are called NAME."""
    root = make_archives(tmp_path / "imagenet")
    val = [(f"./{name}", imagenets.content(name)) for name in VAL_NAMES]
    (root / "ILSVRC2012_img_val.tar").write_bytes(imagenets.tar_of(val))
    assert find_source(root).splits["val"].paths[0] == f"ILSVRC2012_img_val.tar/{VAL_NAMES[0]}"


def test_bomb_in_an_archive(tmp_path):
    """A picture that would unpack to thousands of millions of pixels is refused by its header."""
    from tests.pictures import png

    root = make_archives(tmp_path / "imagenet")
    val = [(name, imagenets.content(name)) for name in VAL_NAMES[1:]]
    val.append((VAL_NAMES[0], png(60_000, 60_000, 8, 2, b"")))
    (root / "ILSVRC2012_img_val.tar").write_bytes(imagenets.tar_of(val))
    summary, _ = run(root, tmp_path / "data")
    assert summary.splits["val"].rejected == 1
    assert "too large: more than 89,478,485 pixels" in (tmp_path / "data" / "rejected.csv").read_text()


# The real kit ------------------------------------------------------------------------------------------------------------------


def test_the_real_kit(ilsvrc_devkit):
    """1,000 leaves with their ids and words, and labels that are places among the sorted ids: 65, 970, 230 at first."""
    kit = read_devkit(ilsvrc_devkit)
    assert kit is not None
    lines = (ilsvrc_devkit / "data" / "synset_words.txt").read_text().splitlines()
    places = {line.split(" ", 1)[0]: place for place, line in enumerate(lines)}
    assert len(kit.truth) == 50_000 and kit.wnids[1] == "n02119789"
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3, 50_000)]
    assert [places[str(kit.class_of(name))] for name in names][:3] == [65, 970, 230]
    assert kit.class_of(names[3]) in places
    assert kit.class_of("ILSVRC2012_val_00050001.JPEG") is None and kit.class_of("other.JPEG") is None
    counts = np.bincount([places[str(kit.class_of(f"ILSVRC2012_val_{number:08d}.JPEG"))] for number in range(1, 50_001)])
    assert counts.tolist() == [50] * 1000
    words = dict(line.split(" ", 1) for line in lines)
    assert all(kit.words[wnid] == words[wnid] for wnid in places)


def test_words_of_all_thousand_without_a_file():
    """Without kit and mapping file the 1,000 classes get short names, in the right order: torchvision's, but for two.

    Those two it disambiguates in its own words.
    """
    from torchvision.models import AlexNet_Weights

    wnids, _ = ilsvrc_classes()
    words = words_of(wnids)
    assert (words[0], words[1], words[999]) == ("tench", "goldfish", "toilet tissue")
    theirs = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    differing = [(word, their) for word, their in zip(words, theirs, strict=True) if word != their]
    assert differing == [("crane", "crane bird"), ("maillot, tank suit", "maillot tank suit")]
    assert words_of([*wnids[:-1], "n99999999"])[0] == wnids[0]  # other classes are called by their ids


def test_words_come_without_torchvision():
    """The package holds them itself: neither torchvision nor torch is imported."""
    code = (
        "import sys; from alexnet_cli.core.imagenet import ilsvrc_classes, words_of;"
        "print(words_of(ilsvrc_classes()[0])[0], 'torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "tench False\n"


def test_kinds_can_be_named(tmp_path):
    """--source overrides what would be recognised, and fails clearly where it does not fit."""
    root = make_archives(tmp_path / "imagenet")
    shutil.copytree(imagenets.make_kaggle(tmp_path / "kaggle"), root, dirs_exist_ok=True)
    assert find_source(root).kind == "archives"
    assert find_source(root, kind="kaggle").kind == "kaggle"
    with pytest.raises(SourceError, match=r"has no train-\*\.parquet"):
        find_source(root, kind="parquet")
    assert sum(TRAIN_COUNTS.values()) == len(find_source(root).splits["train"].paths)
