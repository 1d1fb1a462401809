import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.checkpoint import Weights, build_network, save_weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.evaluate import evaluate
from alexnet_cli.core.predict import ClassProbability, Failure, Model, Prediction
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from tests.stores import write_store

CPU = torch.device("cpu")
FP32 = Precision("fp32")
CLASSES = ("n01", "n02", "n03", "n04")
WORDS = ("cat", "dog", "", "tench, Tinca tinca")


def tiny_weights(recipe: Recipe | None = None) -> Weights:
    """Random weights of a small network whose answers depend on the picture."""
    recipe = recipe or Recipe(name="tiny", channels=(8, 16, 24, 24, 16), hidden=(32, 32))
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for name, shape in parameter_shapes(recipe, len(CLASSES)).items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 200.0
        gain = {"conv1.weight": 0.05, "fc8.weight": 0.3}.get(name, 1.2)
        tensors[name] = torch.randn(shape, generator=generator) * float(2 / fan_in) ** 0.5 * gain
    return Weights(recipe, CLASSES, WORDS, tensors, torch.full((3, 256, 256), 110.0))


def squares(height: int, width: int, seed: int) -> np.ndarray:
    """Make a picture of large random squares."""
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST))


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Three lossless pictures of the stored size."""
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        Image.fromarray(squares(256, 256, seed)).save(path)
    return [str(path) for path in paths]


def run(paths: list[str], weights: Weights | None = None, **options: object) -> list[Prediction | Failure]:
    """Predict on the CPU."""
    return list(Model(weights or tiny_weights(), CPU, FP32).stream(paths, workers=2, **options))  # type: ignore[arg-type]


def probabilities(result: Prediction | Failure) -> dict[str, float]:
    """Probability by class id."""
    assert isinstance(result, Prediction)
    return {one.class_id: one.probability for one in result.predictions}


def test_agrees_with_evaluate(pictures, tmp_path):
    """Predict gives a picture the probability that evaluate's loss is made of: both see the same pixels and views."""
    weights = tiny_weights()
    for index, result in enumerate(run(pictures, weights)):
        store = write_store(tmp_path / f"store{index}", [squares(256, 256, index)], [index], CLASSES)
        scored = evaluate(build_network(weights, CPU, FP32), weights.mean, [store], classes=CLASSES, device=CPU, precision=FP32)
        assert -np.log(probabilities(result)[CLASSES[index]]) == pytest.approx(scored.loss, rel=1e-5)


def test_answers_differ(pictures):
    """Different pictures have different answers, so that the comparisons here mean something."""
    found = [probabilities(result)["n01"] for result in run(pictures)]
    assert max(found) - min(found) > 1e-3


def test_most_probable_first(pictures):
    """The classes go from the most to the least probable and add up to one; the name falls back on the id."""
    (result,) = run(pictures[:1])
    assert isinstance(result, Prediction)
    values = [one.probability for one in result.predictions]
    assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1)
    assert {one.class_id: one.name for one in result.predictions} == {
        "n01": "cat",
        "n02": "dog",
        "n03": "n03",
        "n04": "tench, Tinca tinca",
    }


@pytest.mark.parametrize(("top", "count"), [(1, 1), (3, 3), (5, 4)])
def test_top(pictures, top, count):
    """As many classes are named as asked for, at most all; they are the first of the whole list."""
    (whole,), (some,) = run(pictures[:1], top=4), run(pictures[:1], top=top)
    assert isinstance(whole, Prediction) and isinstance(some, Prediction)
    assert some.predictions == whole.predictions[:count]


def test_equal_probabilities_keep_the_file_s_order(pictures):
    """Where all classes are equally probable they are named in the order of the weights file."""
    weights = tiny_weights()
    weights.tensors["fc8.weight"].zero_()
    weights.tensors["fc8.bias"].zero_()
    (result,) = run(pictures[:1], weights, top=2)
    assert result == Prediction(pictures[0], (ClassProbability("n01", "cat", 0.25), ClassProbability("n02", "dog", 0.25)))


@pytest.mark.parametrize("batch_size", [1, 20, 128])
def test_neighbours_change_nothing(pictures, batch_size):
    """A picture has the same answer alone and among others, in the order given."""
    together = run([*pictures, pictures[0]], batch_size=batch_size)
    assert [result.path for result in together] == [*pictures, pictures[0]]
    for path, result in zip(pictures, together, strict=False):
        assert probabilities(result) == pytest.approx(probabilities(run([path])[0]), rel=1e-5)
    assert probabilities(together[0]) == pytest.approx(probabilities(together[3]), rel=1e-5)


def test_one_bad_file_does_not_stop_the_others(pictures, tmp_path):
    """Files that cannot be read become failures in their place, with the reason; the others are answered."""
    text, cut = tmp_path / "text.jpg", tmp_path / "cut.jpg"
    text.write_text("not a picture", encoding="utf-8")
    Image.fromarray(squares(300, 300, 0)).save(cut, quality=95)
    cut.write_bytes(cut.read_bytes()[:2000])
    paths = [str(text), pictures[0], str(cut), str(tmp_path / "missing.jpg"), pictures[1]]
    results = run(paths, batch_size=20)
    assert [result.path for result in results] == paths
    assert [type(result) for result in results] == [Failure, Prediction, Failure, Failure, Prediction]
    reasons = [result.reason for result in results if isinstance(result, Failure)]
    assert reasons[0].startswith("not a picture of a known format")
    assert reasons[1].startswith("damaged or cut short")
    assert reasons[2] == "cannot be opened: No such file or directory"


def test_source_that_fails_loses_no_answers(pictures):
    """What the stream of pictures raises comes to its caller, behind the answers for the pictures before."""

    def source():
        yield from pictures[:2]
        raise LookupError("no more")

    answers = Model(tiny_weights(), CPU, FP32).stream(source(), crops=1)
    assert [next(answers).path, next(answers).path] == pictures[:2]
    with pytest.raises(LookupError, match="no more"):
        next(answers)


def test_no_more_is_read_ahead_than_a_pass(pictures):
    """Of an endless stream no more is taken than the pass before the network, the next one, and the picture that waits."""
    taken = []

    def source():
        while True:
            taken.append(pictures[0])
            yield pictures[0]

    answers = Model(tiny_weights(), CPU, FP32).stream(source(), crops=1, batch_size=4, workers=2)
    next(answers)
    time.sleep(0.3)
    del answers
    assert len(taken) <= 9
    time.sleep(0.1)
    assert not [thread for thread in threading.enumerate() if "_work" in thread.name or "_list" in thread.name]


def test_only_bad_files(tmp_path):
    """When no file can be read there are only failures."""
    results = run([str(tmp_path), str(tmp_path / "no")])
    assert all(isinstance(result, Failure) for result in results) and len(results) == 2


def test_no_files():
    """No paths, no answers."""
    assert run([]) == []


def test_path_is_as_typed(pictures, tmp_path, monkeypatch):
    """The answer's path is the argument as it was typed, not made absolute or tidied."""
    monkeypatch.chdir(tmp_path)
    assert run(["./0.png"])[0].path == "./0.png"


def test_orientation_is_honoured(tmp_path):
    """A picture that was stored lying down, with a note to turn it, is seen upright."""
    upright, lying = tmp_path / "upright.png", tmp_path / "lying.png"
    Image.fromarray(squares(256, 256, 5)).save(upright)
    turned = Image.fromarray(squares(256, 256, 5)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    turned.save(lying, exif=exif)
    plain = tmp_path / "plain.png"
    turned.save(plain)
    results = [probabilities(result) for result in run([str(upright), str(lying), str(plain)])]
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    assert results[0] != pytest.approx(results[2], rel=1e-3)


def test_resize_is_the_recipe_s(tmp_path):
    """A network trained on warped pictures sees the whole of a wide one; the usual one its centre."""
    wide = squares(256, 768, 4)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide[:, 256:512]).save(tmp_path / "centre.png")
    Image.fromarray(wide).resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / "warped.png")
    for resize, same, other in (("short_side", 1, 2), ("warp", 2, 1)):
        recipe = Recipe(name="tiny", channels=(8, 16, 24, 24, 16), hidden=(32, 32), resize=resize)  # type: ignore[arg-type]
        paths = [str(tmp_path / name) for name in ("wide.png", "centre.png", "warped.png")]
        found = [probabilities(result) for result in run(paths, tiny_weights(recipe))]
        assert found[0] == pytest.approx(found[same], rel=1e-5)
        assert found[0] != pytest.approx(found[other], rel=1e-4)


def test_crops_default_to_the_recipe_s(pictures):
    """Without a wish the recipe says how many views; one view gives another answer than ten."""
    single = Recipe(name="tiny", channels=(8, 16, 24, 24, 16), hidden=(32, 32), test_crops=1)
    (default,), (one,), (ten,) = run(pictures[:1], tiny_weights(single)), run(pictures[:1], crops=1), run(pictures[:1], crops=10)
    assert probabilities(default) == pytest.approx(probabilities(one), rel=1e-6)
    assert probabilities(one) != pytest.approx(probabilities(ten), rel=1e-4)


def test_progress_is_reported(pictures):
    """The reporter hears of every picture."""
    heard: list[object] = []

    class Listener(Reporter):
        def start(self, task, total, unit, *, done=0):
            heard.append((total, unit))

        def advance(self, amount=1, **figures):
            heard.append(amount)

    run(pictures, batch_size=20, reporter=Listener(), total=3)
    assert heard == [(3, "pictures"), 2, 1]


def test_answer_loads_neither_torchvision_nor_the_compiler(pictures, tmp_path):
    """Answering for one picture loads torch alone: torchvision or torch.compile would take longer than the answer."""
    save_weights(tmp_path / "w.safetensors", tiny_weights())
    code = """
        import sys
        from pathlib import Path
        import torch
        before = set(sys.modules)
        from alexnet_cli import load
        load(Path(sys.argv[1]), device="cpu").predict(sys.argv[2])
        print(sorted({"torchvision", "torch._inductor", "sympy", "scipy", "sklearn"} & (set(sys.modules) - before)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "w.safetensors"), pictures[0]]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout == "[]\n"
