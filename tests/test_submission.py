import numpy as np
import pytest
from scipy.io import loadmat
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.errors import DataError, SourceError
from alexnet_cli.core.submission import Submission, class_numbers
from tests.imagenets import KIT_ORDER, WORDS, make_archives, write_kit
from tests.pictures import photo
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


def test_lines_by_hand(tmp_path):
    """Lines stand in the order of the pictures' numbers, whatever the order of the answers; a missing one is filled and counted."""
    lines = Submission(NUMBERS)
    lines.add("test/ILSVRC2012_test_00000004.JPEG", ["n01", "n02", "n03", "n04", "n05"])
    lines.add("ILSVRC2012_test_00000001.JPEG", ["n06", "n05", "n04", "n03", "n02", "n01"])
    lines.add("a.tar/ILSVRC2012_test_00000002.JPEG", ["n02", "n01", "n04", "n06", "n03"])
    assert lines.write(tmp_path / "out" / "s.txt") == (4, 1)
    assert (tmp_path / "out" / "s.txt").read_bytes() == b"60 40 50 10 20\n20 30 50 60 10\n10 20 30 40 50\n30 20 10 50 40\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["s.txt"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["cat.jpg"], "'cat.jpg' is not named like the challenge's pictures"),
        (["00000012"], "'00000012' is not named like"),
        (["ILSVRC2012_test_00000001/cat.jpg"], "is not named like"),
        (["ILSVRC2012_test_000000010.JPEG"], "is not named like"),
        (["a/ILSVRC2012_test_00000001.JPEG", "b/ILSVRC2012_test_00000001.JPEG"], "is the second picture with the number 1"),
        (["ILSVRC2012_test_00000000.JPEG"], "has number 0"),
    ],
)
def test_names_without_a_place(names, reason):
    """A picture whose name has no number, or one that is taken, ends the work rather than shift the lines."""
    lines = Submission(NUMBERS)
    with pytest.raises(DataError, match=reason):
        for name in names:
            lines.add(name, list(NUMBERS))


def test_nothing_to_submit(tmp_path):
    """Without a picture no file is written."""
    with pytest.raises(DataError, match="nothing to submit"):
        Submission(NUMBERS).write(tmp_path / "s.txt")
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
    (tmp_path / "test" / "ILSVRC2012_test_00000002.JPEG").write_bytes(b"broken")
    common = ["predict", "test", "--weights", "w.safetensors", "--crops", "1"]
    printed = CliRunner().invoke(app, [*common, "--csv"]).stdout.splitlines()[1:]
    numbers = class_numbers(ilsvrc_devkit, classes)
    expected = [str(numbers[row.split(",")[2].strip('"')]) for row in printed]
    result = CliRunner().invoke(app, [*common, "--submission", "s.txt", "--devkit", str(ilsvrc_devkit)])
    assert result.exit_code == 1 and result.stdout == "s.txt\n"
    assert "no picture for 1 of these numbers: their lines are 1 " in result.stderr
    lines = (tmp_path / "s.txt").read_text().splitlines()
    assert lines[0].split() == expected[:5] and lines[2].split() == expected[5:] and len(lines) == 3
    assert len(set(lines[1].split())) == 5
