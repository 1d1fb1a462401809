"""The six forms of a source built from real photographs and the real development kit, each prepared by one command."""

import csv
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from alexnet_cli.core.store import open_store
from tests.conftest import ROOT
from tests.imagenets import IMAGENETTE, tar_of

PER_CLASS, NUM_VAL = 5, 12


@dataclass
class Collection:
    """Photographs under ImageNet's names, and what is known of each without our package.

    train: by class. val: class by name. files: content by name. kit: its folder. words: by class.
    """

    train: dict[str, list[str]]
    val: dict[str, str]
    files: dict[str, bytes]
    kit: Path
    words: dict[str, str]


@pytest.fixture(scope="module")
def collection(clothing_small, ilsvrc_devkit) -> Collection:
    """Name real photographs after ImageNet's first validation pictures, and after training pictures of their classes."""
    kit = ilsvrc_devkit / "data"
    synsets = loadmat(kit / "meta.mat", struct_as_record=False, squeeze_me=True)["synsets"]
    ids = {synset.ILSVRC2012_ID: synset.WNID for synset in synsets}
    numbers = [int(line) for line in (kit / "ILSVRC2012_validation_ground_truth.txt").read_text().split()[:NUM_VAL]]
    val = {f"ILSVRC2012_val_{index:08d}.JPEG": ids[number] for index, number in enumerate(numbers, start=1)}
    train = {wnid: [f"{wnid}_{index}.JPEG" for index in range(PER_CLASS)] for wnid in sorted(set(val.values()))}
    photographs = sorted((clothing_small / "train").rglob("*.jpg"))[::17]
    names = [*val, *(name for names in train.values() for name in names)]
    files = {name: photograph.read_bytes() for name, photograph in zip(names, photographs, strict=False)}
    lines = (kit / "synset_words.txt").read_text().splitlines()
    assert len(files) == len(names) and len(set(files.values())) == len(names)
    return Collection(train, val, files, kit, dict(line.split(" ", 1) for line in lines))


def lay(folder: Path, names: list[str], collection: Collection) -> None:
    """Write files of these names into a folder."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(collection.files[name])


def lay_archives(root: Path, collection: Collection) -> str:
    """Lay the three official archives."""
    root.mkdir()

    def members(names: list[str]) -> list[tuple[str, bytes]]:
        return [(name, collection.files[name]) for name in names]

    inner = [(f"{wnid}.tar", tar_of(members(names))) for wnid, names in collection.train.items()]
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(inner))
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of(members(list(collection.val))))
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(collection.kit, "ILSVRC2012_devkit_t12/data")
    return str(root)


def lay_imagenet(root: Path, collection: Collection) -> str:
    """Lay extracted folders with a flat val and the kit beside it."""
    for wnid, names in collection.train.items():
        lay(root / "train" / wnid, names, collection)
    lay(root / "val", list(collection.val), collection)
    (root / "ILSVRC2012_devkit_t12").mkdir()
    (root / "ILSVRC2012_devkit_t12" / "data").symlink_to(collection.kit)
    return str(root)


def lay_kaggle(root: Path, collection: Collection) -> str:
    """Lay Kaggle's folders and files."""
    place = root / "ILSVRC" / "Data" / "CLS-LOC"
    for wnid, names in collection.train.items():
        lay(place / "train" / wnid, names, collection)
    lay(place / "val", list(collection.val), collection)
    with (root / "LOC_val_solution.csv").open("w", newline="") as file:
        rows = [(name.removesuffix(".JPEG"), f"{wnid} 1 2 3 4 ") for name, wnid in collection.val.items()]
        csv.writer(file).writerows([("ImageId", "PredictionString"), *rows[::-1]])
    mapping = "".join(f"{wnid} {words}\n" for wnid, words in collection.words.items())
    (root / "LOC_synset_mapping.txt").write_text(mapping)
    return str(root)


def lay_parquet(root: Path, collection: Collection) -> str:
    """Lay a shard for each split, with labels in the order of the sorted ids of these classes."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (root / "data").mkdir(parents=True)
    classes = sorted(collection.train)
    shards = {
        "train": [(name, classes.index(wnid)) for wnid, names in collection.train.items() for name in names],
        "validation": [(name, classes.index(wnid)) for name, wnid in collection.val.items()],
    }
    features = {"label": {"names": [collection.words[wnid] for wnid in classes], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for split, rows in shards.items():
        images = [{"bytes": collection.files[name], "path": name} for name, _ in rows]
        table = pa.table({"image": images, "label": [label for _, label in rows]}).replace_schema_metadata(metadata)
        parquet.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet", row_group_size=7)
    return str(root)


def lay_folders(root: Path, collection: Collection) -> str:
    """Lay class folders under names of one's own, both splits in class folders."""
    for wnid, names in collection.train.items():
        lay(root / "train" / wnid[1:], names, collection)
    for name, wnid in collection.val.items():
        (root / "val" / wnid[1:]).mkdir(parents=True, exist_ok=True)
        (root / "val" / wnid[1:] / name).write_bytes(collection.files[name])
    (root / "words.txt").write_text("".join(f"{wnid[1:]} {words}\n" for wnid, words in collection.words.items()))
    return str(root)


def lay_torchvision(root: Path, collection: Collection) -> str:
    """Lay torchvision's Imagenette as its archive is extracted; the name by which it is asked for is the source."""
    folder = root.parent / "downloads" / "imagenette2"
    for wnid, names in collection.train.items():
        lay(folder / "train" / wnid, names, collection)
    for name, wnid in collection.val.items():
        (folder / "val" / wnid).mkdir(parents=True, exist_ok=True)
        (folder / "val" / wnid / name).write_bytes(collection.files[name])
    return "torchvision:Imagenette"


def imagenette(collection: Collection) -> Collection:
    """Return the photographs under the ids of Imagenette, which knows no others: one for each of the first ten."""
    ids = dict(zip(sorted(collection.train), IMAGENETTE, strict=False))
    train = {ids[wnid]: names for wnid, names in collection.train.items() if wnid in ids}
    val = {name: ids[wnid] for name, wnid in collection.val.items() if wnid in ids}
    named = [*val, *(name for names in train.values() for name in names)]
    return replace(collection, train=train, val=val, files={name: collection.files[name] for name in named})


def thumbnail(picture: Image.Image) -> np.ndarray:
    """Return a small grey copy of what a store keeps of a picture, float (16, 16)."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("L").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((16, 16), Image.Resampling.BOX)).astype(float)


def check(out: Path, collection: Collection, of: Callable[[str], str]) -> None:
    """Compare each label with the class that the picture's name or the ground truth says; of: from id to stored id."""
    names = list(collection.files)
    originals = np.stack([thumbnail(Image.open(BytesIO(collection.files[name]))) for name in names])
    expected = collection.val | {name: wnid for wnid, names in collection.train.items() for name in names}
    for split, count in (("train", PER_CLASS * len(collection.train)), ("val", len(collection.val))):
        store = open_store(out, split)
        assert store.classes == tuple(sorted(map(of, collection.train)))
        assert dict(zip(store.classes, store.words, strict=True)) == {of(wnid): collection.words[wnid] for wnid in collection.train}
        seen = set()
        for index in range(len(store)):
            distances = np.abs(originals - thumbnail(Image.fromarray(store.image(index)))).mean(axis=(1, 2))
            name = names[int(distances.argmin())]
            assert distances.min() < 3 < np.partition(distances, 1)[1], (name, np.sort(distances)[:2])
            assert store.classes[store.labels[index]] == of(expected[name])
            seen.add(name)
        assert len(seen) == len(store) == count


@pytest.mark.parametrize("form", ["archives", "imagenet", "kaggle", "parquet", "folders", "torchvision"])
def test_one_command(tmp_path, collection, form):
    """One command names the form that it recognised and stores every photograph once, under its label and words."""
    collection = imagenette(collection) if form == "torchvision" else collection
    source = globals()[f"lay_{form}"](tmp_path / "source", collection)
    command = [sys.executable, "-m", "alexnet_cli", "prepare", source, "--out", str(tmp_path / "data")]
    command += ["--downloads", str(tmp_path / "downloads")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert f"({form})" in done.stderr.splitlines()[0]
    assert "warning" not in done.stderr
    check(tmp_path / "data", collection, (lambda wnid: wnid[1:]) if form == "folders" else lambda wnid: wnid)
