import numpy as np
import pytest
from scipy.io import loadmat
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.errors import DataError, SourceError
from alexnet_cli.core.input_places import Nowhere, PixelPlace
from alexnet_cli.core.inputs import Input
from alexnet_cli.core.submission import Submission, class_numbers, require_names
from tests.imagenets import KIT_ORDER, WORDS, make_archives, write_kit
from tests.pictures import photo
from tests.stores import random_images, write_store
from tests.test_predict import tiny_weights

NUMBERS = {"n01": 30, "n02": 20, "n03": 10, "n04": 50, "n05": 40, "n06": 60}


def test_numbers_of_the_real_kit(ilsvrc_devkit):
    """The real kit's numbers are those that scipy reads from it: 1 is the kit fox, 449 the tench, which is the first by id."""
    synsets = loadmat(ilsvrc_devkit / "data" / "meta.mat", struct_as_record=False, squeeze_me=True)["synsets"]
    expected = {synset.WNID: synset.ILSVRC2012_ID for synset in synsets if synset.ILSVRC2012_ID <= 1000}
    numbers = class_numbers(ilsvrc_devkit, sorted(expected))
    assert numbers == expected and len(numbers) == 1000
    assert (numbers["n02119789"], numbers["n01440764"]) == (1, 449)


@pytest.mark.parametrize("form", ["extracted", "archive in a folder", "archive"])
def test_forms_of_the_kit(form, tmp_path, monkeypatch):
    """The kit is taken extracted, in a folder as an archive, or as the archive itself."""
    monkeypatch.setattr("alexnet_cli.core.submission.PER_LINE", 3)
    if form == "extracted":
        write_kit(tmp_path)
    else:
        make_archives(tmp_path / "kit")
    path = {"extracted": tmp_path, "archive in a folder": tmp_path / "kit"}.get(form, tmp_path / "kit/ILSVRC2012_devkit_t12.tar.gz")
    assert class_numbers(path, sorted(WORDS)) == {name: number for number, name in enumerate(KIT_ORDER, start=1)}


def test_classes_and_kits_that_do_not_fit(tmp_path):
    """A missing kit, a file that is none, classes that the kit lacks or has as a group only, and too few classes are refused."""
    with pytest.raises(SourceError, match="no development kit in "):
        class_numbers(tmp_path / "missing", ["n01440764"])
    with pytest.raises(SourceError, match="no development kit in "):
        class_numbers(tmp_path, ["n01440764"])
    (tmp_path / "kit.tar.gz").write_text("no archive")
    with pytest.raises(SourceError, match=r"kit\.tar\.gz cannot be read"):
        class_numbers(tmp_path / "kit.tar.gz", ["n01440764"])
    write_kit(tmp_path)
    with pytest.raises(SourceError, match="has no number for 1 of 2 classes, such as 'cat'"):
        class_numbers(tmp_path, ["n01440764", "cat"])
    with pytest.raises(SourceError, match="3 classes, a line of a submission has 5"):
        class_numbers(tmp_path, sorted(WORDS))


def numbered(lines: Submission, *names: str) -> list[str]:
    """Show pictures to a submission; return the reasons of those that it refuses, and "" for the others."""
    places = [one.place for one in lines.numbered(Input(name, PixelPlace(b"")) for name in names)]
    return [place.reason if isinstance(place, Nowhere) else "" for place in places]


def test_lines_by_hand(tmp_path):
    """Lines stand in the order of the pictures' numbers, whatever the order of the answers; a missing one is filled and counted."""
    lines = Submission(NUMBERS)
    names = ["test/ILSVRC2012_test_00000004.JPEG", "ILSVRC2012_test_00000001.JPEG", "a.tar/ILSVRC2012_test_00000002.JPEG"]
    assert numbered(lines, *names) == ["", "", ""]
    lines.add(names[0], ["n01", "n02", "n03", "n04", "n05"])
    lines.add(names[1], ["n06", "n05", "n04", "n03", "n02", "n01"])
    lines.add(names[2], ["n02", "n01", "n04", "n06", "n03"])
    assert lines.write(tmp_path / "out" / "s.txt") == (4, 1)
    assert (tmp_path / "out" / "s.txt").read_bytes() == b"60 40 50 10 20\n20 30 50 60 10\n10 20 30 40 50\n30 20 10 50 40\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["s.txt"]


def test_last_picture_without_an_answer_has_a_line(tmp_path):
    """The last picture has its line also where it could not be read, so that the file is never short."""
    lines = Submission(NUMBERS)
    numbered(lines, "ILSVRC2012_test_00000001.JPEG", "ILSVRC2012_test_00000003.JPEG")
    lines.add("ILSVRC2012_test_00000001.JPEG", ["n01", "n02", "n03", "n04", "n05"])
    assert lines.write(tmp_path / "s.txt") == (3, 2)
    assert (tmp_path / "s.txt").read_text() == "30 20 10 50 40\n10 20 30 40 50\n10 20 30 40 50\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cat.jpg", "not named like the challenge's pictures, such as ILSVRC2012_test_00000001.JPEG"),
        ("00000012", "not named like the challenge's pictures, such as ILSVRC2012_test_00000001.JPEG"),
        ("ILSVRC2012_test_00000001/cat.jpg", "not named like the challenge's pictures, such as ILSVRC2012_test_00000001.JPEG"),
        ("ILSVRC2012_test_000000010.JPEG", "not named like the challenge's pictures, such as ILSVRC2012_test_00000001.JPEG"),
        ("b/ILSVRC2012_test_00000007.JPEG", "the second picture with the number 7"),
        ("ILSVRC2012_test_00000000.JPEG", "its number is 0, expected 1 to 100,000"),
        ("ILSVRC2012_test_09999999.JPEG", "its number is 9,999,999, expected 1 to 100,000"),
    ],
)
def test_names_without_a_place(name, reason, tmp_path):
    """A picture whose name has no number, one too large or one that is taken says so before it is read, and moves no line."""
    lines = Submission(NUMBERS)
    first = "a/ILSVRC2012_test_00000007.JPEG"
    assert numbered(lines, first, name, "ILSVRC2012_val_00000009.JPEG") == ["", reason, ""]
    lines.add(first, ["n01", "n02", "n03", "n04", "n05"])
    assert lines.write(tmp_path / "s.txt") == (9, 8)


def test_other_reasons_stay(tmp_path):
    """What cannot be read anyway keeps its own reason, and makes the file no longer than the challenge's."""
    lines = Submission(NUMBERS)
    names = ("*.gif", "ILSVRC2012_test_09999999.JPEG", "ILSVRC2012_test_00000002.JPEG")
    found = list(lines.numbered(Input(name, Nowhere("nothing there")) for name in names))
    assert [one.place for one in found] == [Nowhere("nothing there")] * 3
    numbered(lines, "ILSVRC2012_test_00000001.JPEG")
    lines.add("ILSVRC2012_test_00000001.JPEG", ["n01", "n02", "n03", "n04", "n05"])
    assert lines.write(tmp_path / "s.txt") == (2, 1)


def test_store_without_names_is_refused(tmp_path):
    """A store that keeps no names has no numbers: it is refused before anything is looked at."""
    with pytest.raises(DataError, match="kept no names of pictures"):
        require_names(write_store(tmp_path / "test", random_images(1), [0], ("cat",)))


def test_nothing_to_submit(tmp_path):
    """Without a picture that could be read no file is written."""
    lines = Submission(NUMBERS)
    numbered(lines, "ILSVRC2012_test_00000001.JPEG")
    with pytest.raises(DataError, match="nothing to submit"):
        lines.write(tmp_path / "s.txt")
    assert list(tmp_path.iterdir()) == []


def test_command(ilsvrc_devkit, tmp_path, monkeypatch):
    """The command's lines are the most probable classes that it prints otherwise, in the kit's numbers, to the last one."""
    monkeypatch.chdir(tmp_path)
    classes = sorted(class_numbers(ilsvrc_devkit, ["n01440764", "n02119789", "n15075141", "n02100735", "n02110185", "n02096294"]))
    tiny = tiny_weights()
    generator = np.random.default_rng(0)
    import torch

    tiny.tensors["fc8.weight"] = torch.from_numpy(generator.normal(size=(6, 32)).astype(np.float32))
    tiny.tensors["fc8.bias"] = torch.zeros(6)
    save_weights(tmp_path / "w.safetensors", Weights(tiny.recipe, tuple(classes), tuple(classes), tiny.tensors, tiny.mean))
    (tmp_path / "test").mkdir()
    for number in (3, 1, 2):
        photo(40, 30, number).save(tmp_path / "test" / f"ILSVRC2012_test_{number:08}.JPEG")
    for number in (2, 4):
        (tmp_path / "test" / f"ILSVRC2012_test_{number:08}.JPEG").write_bytes(b"broken")
    common = ["predict", "test", "--weights", "w.safetensors", "--crops", "1"]
    printed = CliRunner().invoke(app, [*common, "--csv"]).stdout.splitlines()[1:]
    numbers = class_numbers(ilsvrc_devkit, classes)
    expected = [str(numbers[row.split(",")[2].strip('"')]) for row in printed]
    photo(40, 30, 9).save(tmp_path / "test" / "cover.png")
    result = CliRunner().invoke(app, [*common, "--submission", "s.txt", "--devkit", str(ilsvrc_devkit)])
    assert result.exit_code == 1 and result.stdout == "s.txt\n"
    assert "no answer for 2 of these numbers: their lines are 1 " in result.stderr
    assert "error: test/cover.png: not named like the challenge's pictures" in result.stderr
    lines = (tmp_path / "s.txt").read_text().splitlines()
    assert lines[0].split() == expected[:5] and lines[2].split() == expected[5:] and len(lines) == 4
    assert len(set(lines[1].split())) == 5 and lines[3] == lines[1]
