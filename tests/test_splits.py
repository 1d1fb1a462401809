"""Choosing part of a source: classes, pictures per class, a validation split of one's own."""

from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.places import Files, RangePlace
from alexnet_cli.core.splits import WINDOW, Selection, Source, everything, select

COUNTS = {"a": 20, "b": 10, "c": 3, "d": 1}


def source(*, val: bool = False) -> Source:
    """Return a source of 34 pictures of four classes, and perhaps one val picture of each and one without a label."""
    labels = [label for label, count in enumerate(COUNTS.values()) for _ in range(count)]
    paths = [f"train/{index}" for index in range(len(labels))]
    splits = {"train": everything("train", paths, labels, [1] * len(labels), Files(Path("/x"), paths))}
    if val:
        paths = [f"val/{index}" for index in range(5)]
        splits["val"] = everything("val", paths, [0, 1, 2, 3, -1], [1] * 5, Files(Path("/x"), paths))
    return Source("folders", Path("/x"), splits, tuple(COUNTS), tuple("ABCD"))


def counts(found: Source, split: str = "train") -> list[int]:
    """Return the pictures of each class."""
    return np.bincount(found.splits[split].labels, minlength=len(found.classes)).tolist()


def test_a_list_of_classes():
    """Only these classes remain, with new labels and their words; a picture without a label stays, as nobody knows its class."""
    found = select(source(val=True), Selection(classes=("d", "b")), seed=0)
    assert (found.classes, found.words) == (("b", "d"), ("B", "D"))
    assert counts(found) == [10, 1]
    assert found.splits["train"].paths == [f"train/{index}" for index in (*range(20, 30), 33)]
    assert found.splits["val"].paths == ["val/1", "val/3", "val/4"]
    assert found.splits["val"].labels.tolist() == [0, 1, -1]


def test_a_number_of_classes_is_drawn_by_the_seed():
    """So many classes remain, the same for the same seed, others for another."""
    drawn = [select(source(), Selection(classes=2), seed=seed).classes for seed in range(20)]
    assert all(len(classes) == 2 and list(classes) == sorted(classes) for classes in drawn)
    assert select(source(), Selection(classes=2), seed=3).classes == drawn[3]
    assert len(set(drawn)) == 6  # of 20 draws all pairs of four


def test_pictures_per_class():
    """No class has more than that many training pictures, smaller ones keep theirs, and val is left alone."""
    found = select(source(val=True), Selection(per_class=4), seed=0)
    assert counts(found) == [4, 4, 3, 1]
    assert len(found.splits["val"].paths) == 5
    assert found.splits["train"].paths != select(source(), Selection(per_class=4), seed=1).splits["train"].paths


def test_holdout_takes_of_every_class():
    """A share of each class, at least one picture but never all of them; nothing twice, nothing lost."""
    found = select(source(), Selection(holdout=0.25), seed=0)
    assert counts(found, "val") == [5, 2, 1, 0]
    assert counts(found) == [15, 8, 2, 1]
    both = [*found.splits["train"].paths, *found.splits["val"].paths]
    assert sorted(both) == sorted(source().splits["train"].paths)


def test_nothing_to_hold_out():
    """Where every class has one picture there is nothing to hold out, and nothing is begun."""
    paths = ["a", "b"]
    alone = Source(
        "folders",
        Path("/x"),
        {"train": everything("train", paths, [0, 1], [1, 1], Files(Path("/x"), paths))},
        ("a", "b"),
        ("A", "B"),
    )
    with pytest.raises(SourceError, match="no class has two pictures"):
        select(alone, Selection(holdout=0.5), seed=0)


def test_what_is_held_out_does_not_depend_on_the_pictures_per_class():
    """Validation is drawn before the training pictures are thinned out."""
    one, two = (select(source(), Selection(holdout=0.25, per_class=count), seed=0) for count in (2, None))
    assert one.splits["val"].paths == two.splits["val"].paths


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Selection(classes=5), "5 classes asked for, expected 2 to 4"),
        (Selection(classes=1), "1 classes asked for, expected 2 to 4"),
        (Selection(classes=("a", "x")), "/x has no class x"),
        (Selection(classes=("a",)), "one class asked for"),
        (Selection(holdout=0.1), "/x has validation pictures of its own"),
    ],
)
def test_impossible_wishes(wanted, message):
    """What cannot be had is refused by name."""
    with pytest.raises(SourceError, match=message):
        select(source(val=True), wanted, seed=0)


def test_order_within_groups():
    """Where pictures are read in groups, groups are in random order, neighbours are mixed, and few groups are open at a time."""
    each = np.repeat(np.arange(40), 1000)
    paths = [str(index) for index in range(40_000)]
    split = everything("train", paths, [0] * 40_000, [1] * 40_000, Files(Path("/x"), paths, groups=each))  # type: ignore[arg-type]
    order = split.order(seed=0, counter=0)
    assert sorted(order.tolist()) == list(range(40_000))
    groups = each[order]
    per_window = WINDOW // 1000
    for window in groups.reshape(-1, per_window * 1000):
        assert len(set(window.tolist())) == per_window
        assert len(set(window[:50].tolist())) == per_window  # mixed, not one after the other
    assert groups[::2000].tolist() != sorted(groups[::2000].tolist())


def test_range_of_a_file(tmp_path):
    """A part of a file is just those bytes, and fewer at its end."""
    (tmp_path / "f").write_bytes(bytes(range(100)))
    assert RangePlace(tmp_path / "f", 10, 5).read() == bytes(range(10, 15))
    assert RangePlace(tmp_path / "f", 95, 50).read() == bytes(range(95, 100))
