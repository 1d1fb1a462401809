"""What `import alexnet_cli` offers, and that docs/api.md tells the truth about it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alexnet_cli
from alexnet_cli import AlexNetError, Failure, Model, Prediction, load
from alexnet_cli.core.checkpoint import save_weights
from tests.conftest import ROOT
from tests.test_predict import squares, tiny_weights

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture
def model(tmp_path) -> Model:
    """A small network, loaded from a run's folder."""
    save_weights(tmp_path / "run" / "best.safetensors", tiny_weights())
    return load("run", runs=tmp_path, device="cpu")


def clothes(clothing_small: Path, folder: Path) -> None:
    """Lay a few photographs of two classes."""
    for split, source, count in (("train", "train", 12), ("val", "validation", 3)):
        for name in ("hat", "pants"):
            (folder / split / name).mkdir(parents=True)
            for path in sorted((clothing_small / source / name).iterdir())[:count]:
                shutil.copy(path, folder / split / name)


def test_the_example_runs(clothing_small, tmp_path):
    """The code of docs/api.md runs as it stands, on real photographs, and names each picture that it looked at."""
    clothes(clothing_small, tmp_path / "pictures")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "TORCH_COMPILE_DISABLE": "1"}
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    expected = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "pictures" / "val").rglob("*.jpg"))
    assert [line[0] for line in lines] == expected and {line[1] for line in lines} <= {"hat", "pants"}


def test_the_import_is_light():
    """The package and the names that need no network do not import torch; what it offers is listed before it is loaded."""
    code = "import sys, alexnet_cli; alexnet_cli.small(); print('torch' in sys.modules, 'load' in dir(alexnet_cli))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.stdout == "False True\n"


def test_every_public_name_is_there_and_described():
    """Each name that is offered exists, has a docstring, and stands in docs/api.md; others are an AttributeError."""
    for name in alexnet_cli.PUBLIC:
        assert getattr(alexnet_cli, name).__doc__
        assert re.search(rf"`{name}\b", PAGE), name
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = alexnet_cli.lode


def test_kinds_of_pictures_agree(model, tmp_path):
    """A path, bytes, a picture of Pillow's and an array of the same pixels have the same answer."""
    pixels = squares(256, 256, 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    answers = model.predict([tmp_path / "a.png", str(tmp_path / "a.png"), content, Image.fromarray(pixels), pixels])
    first = [one.probability for one in answers[0].predictions]
    assert [answer.path for answer in answers] == [str(tmp_path / "a.png")] * 2 + ["[2]", "[3]", "[4]"]
    for answer in answers:
        assert [one.probability for one in answer.predictions] == pytest.approx(first, rel=1e-6)


def test_a_picture_of_pillow_s_is_turned_like_a_file(model, tmp_path):
    """The note to turn a picture counts also where Pillow has opened it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(squares(256, 256, 2)).save(tmp_path / "lying.png", exif=exif)
    with Image.open(tmp_path / "lying.png") as opened:
        by_path, by_picture, plain = model.predict([tmp_path / "lying.png", opened, squares(256, 256, 2)])
    assert by_path.predictions == by_picture.predictions != plain.predictions


def test_what_cannot_be_read_is_a_failure_in_its_place(model):
    """Missing files, rubbish and wrong arrays do not raise; the others are answered."""
    answers = model.predict(["missing.jpg", b"rubbish", squares(20, 20, 0), np.zeros((2, 2))])
    assert [type(answer) for answer in answers] == [Failure, Failure, Prediction, Failure]
    assert answers[0].reason == "cannot be opened: No such file or directory"


def test_images_of_a_stream(model):
    """The first answers carry what the network saw, as many as were asked for."""
    pictures = [squares(256, 256, seed) for seed in range(3)]
    answers = list(model.stream(pictures, num_images=2, batch_size=10))
    np.testing.assert_array_equal(answers[1].image, pictures[1])
    assert answers[2].image is None and model.predict(pictures[0])[0].image is None


def test_a_stream_reads_no_further_than_it_must(model):
    """Of an endless row of pictures the first is answered, with a few passes read ahead."""
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield squares(32, 32, 0)

    stream = model.stream(endless(), batch_size=10, workers=2)
    assert isinstance(next(stream), Prediction)
    stream.close()
    assert len(taken) <= 3  # the answered one, and one for each worker


def test_load_refuses_in_words(tmp_path):
    """A missing run is an error of one line, with what to do."""
    with pytest.raises(AlexNetError, match="no weights file nothing, nor a run of that name in ") as raised:
        load("nothing", runs=tmp_path)
    assert raised.value.hint
