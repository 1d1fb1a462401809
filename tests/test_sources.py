import shutil

import pytest

from alexnet_cli.cli.prepare import SourceKind
from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.sources import KINDS, find_source, require_val
from tests.pictures import make_source


def touch(*paths):
    """Files are only listed here, never opened, so two bytes stand in for a picture."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"xx")


def test_lists_are_sorted(tmp_path):
    """Paths are relative and sorted by class and name, labels are places in the sorted classes, whatever the order on disk."""
    touch(tmp_path / "train/b/2.jpg", tmp_path / "train/a/10.JPEG", tmp_path / "train/a/1.png", tmp_path / "train/B/x.webp")
    touch(tmp_path / "val/b/v.jpg", tmp_path / "test/a/t.tiff")
    source = find_source(tmp_path)
    assert source.classes == ("B", "a", "b")
    assert source.words == ("B", "a", "b")
    assert source.splits["train"].paths == ("train/B/x.webp", "train/a/1.png", "train/a/10.JPEG", "train/b/2.jpg")
    assert source.splits["train"].labels.tolist() == [0, 1, 1, 2]
    assert source.splits["val"].labels.tolist() == [2]
    assert source.splits["test"].paths == ("test/a/t.tiff",)


def test_validation_is_val(tmp_path):
    """The folder may be called validation; the split is then still "val"."""
    touch(tmp_path / "train/a/1.jpg", tmp_path / "train/b/1.jpg", tmp_path / "validation/a/1.jpg")
    source = find_source(tmp_path)
    assert list(source.splits) == ["train", "val"]
    assert source.splits["val"].folder == "validation"
    assert source.splits["val"].paths == ("validation/a/1.jpg",)


def test_what_is_left_out(tmp_path):
    """Hidden files and folders and files that are no pictures do not count, nor become classes."""
    make_source(tmp_path, {"train": {"cat": 1, "dog": 1}, "val": {"cat": 1}})
    touch(tmp_path / "train/.ipynb_checkpoints/1.jpg", tmp_path / "train/cat/.hidden.jpg", tmp_path / "train/cat/notes.txt")
    touch(tmp_path / "train/cat/.cache/1.jpg", tmp_path / "train/readme.jpg", tmp_path / "val/.DS_Store", tmp_path / ".git/x")
    source = find_source(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.splits["train"].paths == ("train/cat/cat_0.jpg", "train/dog/dog_0.jpg")


def test_folders_within_a_class(tmp_path):
    """Pictures in folders below a class folder, as in Tiny ImageNet's train/ID/images, belong to the class."""
    touch(tmp_path / "train/n1/images/1.jpg", tmp_path / "train/n2/2.jpg", tmp_path / "val/n1/3.jpg")
    assert find_source(tmp_path).splits["train"].paths == ("train/n1/images/1.jpg", "train/n2/2.jpg")


def test_broken_link_is_listed(tmp_path):
    """A link that leads nowhere stays in the list, so that it is reported instead of silently missing."""
    make_source(tmp_path)
    (tmp_path / "train/cat/lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    train = find_source(tmp_path).splits["train"]
    assert train.sizes[train.paths.index("train/cat/lost.jpg")] == -1


@pytest.mark.parametrize("name", ["synset_words.txt", "LOC_synset_mapping.txt", "words.txt"])
def test_words(name, tmp_path):
    """Words come from the file that the distributions bring, split at the first tab or blank; a class without any keeps its id."""
    touch(*(tmp_path / f"train/{folder}/1.jpg" for folder in ("n01440764", "n01443537", "hot dog", "other")))
    touch(tmp_path / "val/other/1.jpg")
    (tmp_path / name).write_text("n01440764 tench, Tinca tinca\nn01443537\tgoldfish\nhot dog\tsausage in a bun\n\nn09 unused\n")
    source = find_source(tmp_path)
    expected = {"hot dog": "sausage in a bun", "n01440764": "tench, Tinca tinca", "n01443537": "goldfish", "other": "other"}
    assert dict(zip(source.classes, source.words, strict=True)) == expected


def expect(path, message, hint="expected train/CLASS"):
    """Check the text of the refusal and, in part, of its hint."""
    with pytest.raises(SourceError) as raised:
        find_source(path)
    assert raised.value.message == message
    assert hint in raised.value.hint


def test_no_folder(tmp_path):
    """A path that is not there and a file are refused, each in its own words."""
    touch(tmp_path / "file")
    expect(tmp_path / "absent", f"{tmp_path}/absent does not exist, expected a folder of pictures")
    expect(tmp_path / "file", f"{tmp_path}/file is a file, expected a folder of pictures")


def test_missing_and_double_splits(tmp_path):
    """An empty source, one without val, and one with both val and validation are refused."""
    expect(tmp_path, f"{tmp_path} has no folder train/")
    make_source(tmp_path)
    (tmp_path / "validation").mkdir()
    expect(tmp_path, f"{tmp_path} has both val/ and validation/, expected one of them", "move one away")
    shutil.rmtree(tmp_path / "val")
    shutil.rmtree(tmp_path / "validation")
    with pytest.raises(SourceError, match="has no folder val/ or validation/") as raised:
        require_val(find_source(tmp_path))
    assert raised.value.hint.startswith("expected train/CLASS") and "--holdout 0.05" in raised.value.hint


def test_too_few_classes(tmp_path):
    """A training folder without class folders, or with one, is refused."""
    touch(tmp_path / "train/1.jpg", tmp_path / "val/cat/1.jpg")
    expect(tmp_path, f"{tmp_path}/train has no class folders")
    touch(tmp_path / "train/cat/1.jpg")
    expect(tmp_path, f'{tmp_path}/train has one class, "cat"; there is nothing to tell apart')


def test_flat_val(tmp_path):
    """A val folder with pictures but no class folders is refused, as its labels would be unknown."""
    touch(tmp_path / "train/a/1.jpg", tmp_path / "train/b/1.jpg", tmp_path / "val/1.jpg")
    expect(tmp_path, f"{tmp_path}/val has no class folders")


def test_empty_classes(tmp_path):
    """Class folders of train without pictures are named, the first three of them; an empty one in val is no fault."""
    make_source(tmp_path)
    (tmp_path / "train/bird").mkdir()
    (tmp_path / "val/bird").mkdir()
    expect(tmp_path, "train/ has no pictures in class bird", "fill or remove")
    for name in ("ant", "bee", "cow"):
        (tmp_path / "train" / name).mkdir()
    expect(tmp_path, "train/ has no pictures in classes ant, bee, bird and 1 more", "fill or remove")
    for name in ("ant", "bee", "cow", "bird"):
        touch(tmp_path / "train" / name / "1.jpg")
    assert len(find_source(tmp_path).classes) == 6


def test_split_without_pictures(tmp_path):
    """A val folder whose class folders are all empty is refused."""
    make_source(tmp_path, {"train": {"cat": 1, "dog": 1}, "val": {"cat": 0}})
    expect(tmp_path, f"{tmp_path}/val has class folders but no pictures in them")


def test_unknown_class_in_val(tmp_path):
    """A class of val that train lacks is named."""
    make_source(tmp_path, {"train": {"cat": 1, "dog": 1}, "val": {"cat": 1, "fish": 1}})
    expect(tmp_path, f"{tmp_path}/val has class fish, which {tmp_path}/train lacks", "every class must have pictures in train/")


def _hashable(source):
    return tuple(sorted(source.fingerprint().items()))


def test_fingerprint(tmp_path):
    """The fingerprint stays when the source moves and changes with a name, a size, a class or a class's words."""
    first = _hashable(find_source(make_source(tmp_path / "one")))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert _hashable(find_source(tmp_path / "two")) == first
    changes = [
        lambda root: (root / "train/cat/cat_0.jpg").rename(root / "train/cat/other.jpg"),
        lambda root: (root / "train/cat/cat_0.jpg").write_bytes(b"x"),
        lambda root: (root / "train/cat/cat_0.jpg").rename(root / "train/dog/cat_0.jpg"),
        lambda root: (root / "words.txt").write_text("cat a small tiger\n"),
    ]
    prints = {first}
    for index, change in enumerate(changes):
        change(shutil.copytree(tmp_path / "one", tmp_path / f"changed{index}"))
        prints.add(_hashable(find_source(tmp_path / f"changed{index}")))
    assert len(prints) == 1 + len(changes)


def test_classes_without_splits(tmp_path):
    """A folder of class folders alone is all training pictures; hidden folders do not count."""
    touch(tmp_path / "cat/1.jpg", tmp_path / "cat/2.jpg", tmp_path / "dog/1.jpg", tmp_path / ".git/x.jpg")
    source = find_source(tmp_path)
    assert (source.kind, source.classes, list(source.splits)) == ("folders", ("cat", "dog"), ["train"])
    assert source.splits["train"].paths == ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")


def test_flat_test_has_no_labels(tmp_path):
    """Test pictures without class folders are taken, their labels are unknown."""
    make_source(tmp_path)
    touch(tmp_path / "test/1.jpg", tmp_path / "test/2.jpg")
    assert find_source(tmp_path).splits["test"].labels.tolist() == [-1, -1]


def test_kinds_of_the_command():
    """The command line offers the kinds that there are."""
    assert [kind.value for kind in SourceKind] == list(KINDS)
