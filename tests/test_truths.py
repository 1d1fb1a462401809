import re
from pathlib import Path

import pytest

from alexnet_cli.core.errors import DataError
from alexnet_cli.core.imagenet import ilsvrc_classes
from alexnet_cli.core.store import Store, pack_names
from alexnet_cli.core.truths import ClassNames, match_classes, match_some_classes, read_truths
from tests.stores import change, random_images, write_store

WNIDS = ("n01440764", "n02012849", "n03126707")
WORDS = ("tench, Tinca tinca", "crane", "crane")
OURS = ClassNames(WNIDS, WORDS)
PICTURES = ("val.tar/ILSVRC2012_val_00000003.JPEG", "val.tar/ILSVRC2012_val_00000001.JPEG", "val.tar/ILSVRC2012_val_00000002.JPEG")


@pytest.fixture
def store(tmp_path):
    """Three pictures with names, of the classes above."""
    folder = write_store(tmp_path / "data/val", random_images(3), [0, 1, 2], WNIDS).folder
    change(folder, b"names", pack_names(PICTURES))
    return Store(folder)


def labels_file(folder: Path, text: str) -> Path:
    """Write a file of labels."""
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("ids", "words", "places"),
    [
        (WNIDS[::-1], WORDS[::-1], [2, 1, 0]),  # by id, in whatever order
        (("tench",), ("tench",), [0]),  # by one of the names
        (("Tinca_tinca",), ("Tinca_tinca",), [0]),
        (("crane",), ("crane",), [None]),  # two classes are called so
        (("x",), ("tench, Tinca tinca",), [0]),
        (("n99999999",), ("n99999999",), [None]),
    ],
)
def test_classes_by_id_then_by_name(ids, words, places):
    """A class is found by its id, else by a name that no other class has."""
    assert OURS.places(ClassNames(ids, words)) == places


def test_subset_only_where_asked_for(tmp_path):
    """A store that lacks classes is matched where that is allowed, and else refused with the option that allows it."""
    store = write_store(tmp_path / "val", random_images(1), [0], ("n03126707", "n01440764"))
    assert match_some_classes(store, WNIDS, WORDS).tolist() == [2, 0]
    with pytest.raises(DataError, match="only the weights have 'n02012849'") as caught:
        match_classes(store, WNIDS, WORDS)
    assert "--restrict-classes" in caught.value.hint


def test_two_folders_of_one_class(tmp_path):
    """Two classes of the data that are one of the weights are refused by name."""
    store = write_store(tmp_path / "val", random_images(1), [0], ("n01440764", "tench"))
    with pytest.raises(DataError, match="has n01440764 and tench, which are both class 'n01440764'"):
        match_some_classes(store, WNIDS, WORDS)


def test_labels_by_file(store, tmp_path):
    """Pictures are found by path, file name or stem, labels by id or name; several are right, none is not counted."""
    rows = [
        "note,picture,label",
        f"a,ILSVRC2012_val_00000001.JPEG,{WNIDS[2]};tench",
        f"b,{PICTURES[0]},",
        f"c,ILSVRC2012_val_00000002,{WNIDS[1]}",
    ]
    assert read_truths(labels_file(tmp_path, "\n".join(rows)), [store], OURS).tolist() == [[-1, -1], [2, 0], [1, -1]]


def test_labels_in_several_rows(store, tmp_path):
    """Rows of the same picture add up; a byte order mark and a picture that is elsewhere do no harm."""
    path = labels_file(
        tmp_path, "\ufeffpicture,label\nILSVRC2012_val_00000001,n01440764\nILSVRC2012_val_00000001,n02012849\nother,tench\n"
    )
    assert read_truths(path, [store], OURS).tolist() == [[-1, -1], [0, 1], [-1, -1]]


def test_reassessed_labels(store, tmp_path):
    """ReaL's JSON lists for each validation image, by number, places among the sorted WNIDs, whatever the weights' order."""
    path = labels_file(tmp_path, "[[1, 2], [], [0]]")
    ids, words = ilsvrc_classes()
    assert read_truths(path, [store], ClassNames(ids, words)).tolist() == [[0, -1], [1, 2], [-1, -1]]
    turned = ClassNames(ids[::-1], words[::-1])
    assert read_truths(path, [store], turned).tolist() == [[999, -1], [998, 997], [-1, -1]]
    with pytest.raises(DataError, match="numbers ILSVRC-2012's 1,000 classes, but the weights have others"):
        read_truths(path, [store], OURS)


def test_same_picture_by_two_names(store, tmp_path):
    """Rows that name one picture differently add up."""
    path = labels_file(tmp_path, f"picture,label\n{PICTURES[0]},tench\nILSVRC2012_val_00000003,n02012849;n03126707\n")
    assert read_truths(path, [store], OURS).tolist() == [[0, 1, 2], [-1, -1, -1], [-1, -1, -1]]


def test_same_name_twice(store, tmp_path):
    """A name that two stores have names neither picture."""
    path = labels_file(tmp_path, f"picture,label\n{PICTURES[0]},tench\n")
    with pytest.raises(DataError, match="names no picture of"):
        read_truths(path, [store, store], OURS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture;label\na;b\n", "has the columns 'picture;label'"),
        ("", "has the columns ''"),
        ("picture,label\nILSVRC2012_val_00000001,n00000001\n", "line 2: 'n00000001' is no class of the weights"),
        ("picture,label\nILSVRC2012_val_00000001,crane\n", "line 2: 'crane' is no class of the weights"),
        ("picture,label\nx.jpg,tench\n", "names no picture of .*, such as 'x.jpg'"),
        ("picture,label\n", "names no picture of .*, it names none"),
        ("[[1], [1000]]", r"entry 2 is \[1000\], expected a list of numbers from 0 to 999"),
        ("[1, 2]", "entry 1 is 1, expected a list"),
        ("[[1", "is no JSON"),
        ("[" * 200_000, "is no JSON"),
    ],
)
def test_bad_files(store, tmp_path, text, message):
    """A file in another form, or of other pictures or classes, is refused with what was found."""
    classes = ClassNames(*ilsvrc_classes()) if text.startswith("[") else OURS
    with pytest.raises(DataError, match=message) as caught:
        read_truths(labels_file(tmp_path, text), [store], classes)
    assert caught.value.hint


def test_missing_file_and_nameless_store(store, tmp_path):
    """A file that is not there and a store without names are said so."""
    with pytest.raises(DataError, match=r"cannot read .*nowhere\.csv: No such file"):
        read_truths(tmp_path / "nowhere.csv", [store], OURS)
    nameless = write_store(tmp_path / "old/val", random_images(1), [0], WNIDS)
    with pytest.raises(DataError, match=re.escape(f"{nameless.folder} was made by an earlier version")):
        read_truths(labels_file(tmp_path, "picture,label\na,tench\n"), [nameless], OURS)
