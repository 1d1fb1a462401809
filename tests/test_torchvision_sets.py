"""torchvision's data sets by name, with those that need no network: made-up pictures, and files laid where it looks for them."""

from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.sources import find_source
from alexnet_cli.core.splits import Selection
from alexnet_cli.core.store import open_store
from tests.imagenets import IMAGENETTE
from tests.pictures import photo, saved


def lay_imagenette(root: Path) -> None:
    """Lay Imagenette as its archive is extracted, with two training pictures and one for validation of each class."""
    seed = 0
    for split, count in (("train", 2), ("val", 1)):
        for wnid in IMAGENETTE:
            (root / "imagenette2" / split / wnid).mkdir(parents=True)
            for index in range(count):
                seed += 1
                file = root / "imagenette2" / split / wnid / f"{wnid}_{index}.JPEG"
                file.write_bytes(saved(photo(256, 256, seed), "PNG"))


@pytest.mark.parametrize("workers", [1, 2])
def test_imagenette(tmp_path, workers):
    """Both splits, WordNet ids with their words, every picture under its folder's id."""
    lay_imagenette(tmp_path / "downloads")
    prepare("torchvision:Imagenette", tmp_path / "data", format="raw", workers=workers, downloads=tmp_path / "downloads")
    train, val = (open_store(tmp_path / "data", split) for split in ("train", "val"))
    assert train.classes == IMAGENETTE
    assert train.words[0] == "tench, Tinca tinca" and train.words[9] == "parachute, chute"
    expected = {np.asarray(photo(256, 256, seed)).tobytes(): (seed - 1) // 2 for seed in range(1, 21)}
    assert {train.record(index): int(train.labels[index]) for index in range(20)} == expected
    expected = {np.asarray(photo(256, 256, seed)).tobytes(): seed - 21 for seed in range(21, 31)}
    assert {val.record(index): int(val.labels[index]) for index in range(10)} == expected


def test_one_split_and_labels_by_going_through(tmp_path):
    """A data set without splits and without a list of labels is gone through, and a validation split is held out."""
    wanted = Selection(holdout=0.1, per_class=4)
    prepare("torchvision:FakeData", tmp_path / "data", workers=1, selection=wanted, downloads=tmp_path / "downloads")
    train, val = (open_store(tmp_path / "data", split) for split in ("train", "val"))
    assert train.classes == tuple("0123456789")
    assert np.bincount(train.labels).tolist() == [4] * 10
    counts = np.bincount([int(label) for _, label in datasets.FakeData()])
    assert np.bincount(val.labels).tolist() == [round(count / 10) for count in counts]


def test_without_validation_pictures(tmp_path):
    """A data set of training pictures alone needs a holdout."""
    with pytest.raises(SourceError, match="has no validation pictures") as caught:
        prepare("torchvision:FakeData", tmp_path / "data", downloads=tmp_path / "downloads")
    assert "--holdout" in caught.value.hint


def test_test_pictures_stand_in(tmp_path):
    """Where there are training and test pictures alone, as in SVHN or CIFAR, the test pictures are val."""
    root = tmp_path / "downloads"
    (root / "mini").mkdir(parents=True)

    class Mini(datasets.VisionDataset):
        classes = ("zebra", "ape")

        def __init__(self, root, train=True, transform=None, download=False):
            super().__init__(root, transform=transform)
            self.targets = [0, 1, 0] if train else [1]

        def __len__(self):
            return len(self.targets)

        def __getitem__(self, index):
            return photo(30, 30, index), self.targets[index]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "Mini", Mini, raising=False)
        patch.setattr(datasets, "__all__", (*datasets.__all__, "Mini"))
        source = find_source("torchvision:Mini", downloads=root)
    assert source.classes == ("ape", "zebra")  # sorted, labels with them
    assert {name: split.labels.tolist() for name, split in source.splits.items()} == {"train": [1, 0, 1], "val": [0]}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("imagenette", "these are Imagenette"), ("CIFAR", "these are CIFAR10, CIFAR100"), ("nonsense", "DTD, EuroSAT")],
)
def test_unknown_names(tmp_path, name, hint):
    """A name that is not there is refused, with those that are like it, or else with all there are."""
    with pytest.raises(SourceError, match=f"'{name}' is none of torchvision's data sets that need no more") as caught:
        find_source(f"torchvision:{name}", downloads=tmp_path)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["EMNIST", "ImageFolder", "Kinetics", "CocoDetection"])
def test_names_that_need_more(tmp_path, name):
    """A data set whose constructor asks for more than a folder and a split is not offered."""
    with pytest.raises(SourceError, match="need no more than a name") as caught:
        find_source(f"torchvision:{name}", downloads=tmp_path)
    assert name not in caught.value.hint.split(", ")


def test_no_network(tmp_path, monkeypatch):
    """A data set that is not there and cannot be downloaded is one line, with where it is looked for."""

    def refuse(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(SourceError, match=r"torchvision's CIFAR10 cannot be had: .*no route to host") as caught:
        find_source("torchvision:CIFAR10", downloads=tmp_path)
    assert f"it is looked for in {tmp_path}" in caught.value.hint
