import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import DataError, StoreError
from alexnet_cli.core.evaluate import evaluate
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.scoring import Evaluation, score
from alexnet_cli.core.store import Store
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.truths import match_classes
from tests.networks import on_ranks
from tests.stores import write_store

CPU = torch.device("cpu")
FP32, FP64 = Precision("fp32"), Precision("fp64")
TINY = Recipe(name="tiny", channels=(8, 16, 24, 24, 16), hidden=(32, 32))
GAINS = {"conv1.weight": 0.05, "fc8.weight": 0.3}  # with them probabilities are neither flat nor certain
CLASSES = ("n01", "n02", "n03", "n04", "n05", "n06", "n07")


def tiny_weights(classes: tuple[str, ...] = CLASSES, recipe: Recipe = TINY) -> Weights:
    """Random weights of a small two-tower network."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in parameter_shapes(recipe, len(classes)).items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 200.0  # biases are small
        tensors[name] = torch.randn(shape, generator=generator) * float(2 / fan_in) ** 0.5 * GAINS.get(name, 1.2)
    mean = 100 + 50 * torch.rand(3, 256, 256, generator=generator)
    return Weights(recipe, classes, classes, tensors, mean)


def run(stores: list[Store], weights: Weights, *, precision: Precision = FP32, **options: Any) -> Evaluation:
    """Evaluate weights on the CPU."""
    network = build_network(weights, CPU, precision)
    return evaluate(network, weights.mean, stores, classes=weights.classes, device=CPU, precision=precision, workers=2, **options)


@pytest.fixture(scope="module")
def images():
    """Five images of large random squares: their views differ from each other."""
    squares = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    return list(squares.repeat(32, axis=1).repeat(32, axis=2))


LABELS = [0, 3, 1, 6, 2]


@pytest.fixture(scope="module")
def store(images, tmp_path_factory):
    """The five images."""
    return write_store(tmp_path_factory.mktemp("evaluate") / "val", images, LABELS, CLASSES)


# A slow reference: float64, one view at a time, the two towers spelled out --------------------------------------------------


def reference_logits(weights: Weights, view_CHW: Tensor) -> Tensor:
    """Net #145 from the 2012 code's configuration, for one view whose mean is removed."""
    w = {name: value.double() for name, value in weights.tensors.items()}

    def half(name: str, tower: int) -> Tensor:
        return w[name].chunk(2)[tower]

    def conv(name: str, x: Tensor, tower: int, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, half(f"{name}.weight", tower), half(f"{name}.bias", tower), stride, padding)

    def norm(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=2.0)

    image = F.pad(view_CHW.double()[None], (0, 3, 0, 3))
    towers = []
    for tower in (0, 1):
        x = conv("conv1", image, tower, stride=4)
        x = F.relu(F.max_pool2d(norm(x), 3, 2))
        x = norm(F.relu(conv("conv2", x, tower, padding=2)))
        x = x / (1 + 0.001 * F.avg_pool2d(x * x, 5, 1, 2)) ** 0.75
        towers.append(F.max_pool2d(x, 3, 2))
    both = torch.cat(towers, dim=1)
    ends = []
    for tower in (0, 1):
        x = F.relu(conv("conv3", both, tower, padding=1))
        x = F.relu(conv("conv4", x, tower, padding=1))
        ends.append(F.relu(F.max_pool2d(conv("conv5", x, tower, padding=1), 3, 2)))
    x = torch.cat(ends, dim=1).reshape(-1)
    for name in ("fc6", "fc7"):
        x = 0.5 * F.relu(w[f"{name}.weight"] @ x + w[f"{name}.bias"])
    return w["fc8.weight"] @ x + w["fc8.bias"]


def reference_probabilities(weights: Weights, image_HWC: np.ndarray, *, crops: int = 10, mirror: bool = True) -> np.ndarray:
    """Average the softmax of the views, one by one: corners and centre of 224 in 256, plain and mirrored."""
    image_CHW = torch.from_numpy(image_HWC.copy()).permute(2, 0, 1).double()
    mean_CHW = weights.mean.double()[:, 16:240, 16:240]
    total, count = np.zeros(len(weights.classes)), 0
    for y, x in [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)] if crops == 10 else [(16, 16)]:
        crop_CHW = image_CHW[:, y : y + 224, x : x + 224]
        for view_CHW in [crop_CHW, crop_CHW.flip(2)] if mirror and crops == 10 else [crop_CHW]:
            logits = reference_logits(weights, view_CHW - mean_CHW).numpy()
            powers = [np.exp(logit - max(logits)) for logit in logits]
            total += np.array([power / sum(powers) for power in powers])
            count += 1
    return total / count


def reference_result(weights: Weights, images: list[np.ndarray], labels: list[int], **views: Any) -> tuple[float, float, float]:
    """Return loss, top-1 and top-5 error by sorting; no two probabilities are equal here."""
    losses, wrong1, wrong5 = [], 0, 0
    for image, label in zip(images, labels, strict=True):
        probabilities = reference_probabilities(weights, image, **views)
        order = sorted(range(len(probabilities)), key=lambda k: -probabilities[k])
        losses.append(-np.log(probabilities[label]))
        wrong1 += order[0] != label
        wrong5 += label not in order[:5]
    return float(np.mean(losses)), wrong1 / len(labels), wrong5 / len(labels)


@pytest.mark.parametrize(("crops", "views"), [(10, 10), (1, 1)])
@pytest.mark.parametrize(("precision", "tolerance"), [(FP32, 1e-4), (FP64, 1e-9)])
def test_agrees_with_slow_reference(store, images, crops, views, precision, tolerance):
    """Loss and errors are those of a float64 network with two explicit towers that sees one view at a time."""
    found = run([store], tiny_weights(), crops=crops, precision=precision)
    loss, top1, top5 = reference_result(tiny_weights(), images, LABELS, crops=crops)
    assert found.loss == pytest.approx(loss, rel=tolerance)
    assert [found.top1_error, found.top5_error] == pytest.approx([top1, top5])
    assert (found.images, found.crops, found.top_k) == (5, views, 5)
    assert 0 < top1 <= 1 and found.seconds > 0


def test_reference_is_not_trivial(images):
    """The probabilities compared above differ between images, views and classes."""
    one, other = (reference_probabilities(tiny_weights(), image) for image in images[:2])
    centre = reference_probabilities(tiny_weights(), images[0], crops=1)
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - centre).max() > 1e-3
    assert 0.02 < one.min() < one.max() < 0.5


def test_five_views_without_mirroring(store, images):
    """A recipe that does not mirror, as for digits, is tested on the five plain views."""
    weights = tiny_weights(recipe=Recipe(name="tiny", channels=(8, 16, 24, 24, 16), hidden=(32, 32), mirror=False))
    found = run([store], weights)
    assert found.crops == 5
    assert found.loss == pytest.approx(reference_result(weights, images, LABELS, mirror=False)[0], rel=1e-4)


def test_views_default_to_the_recipes(store):
    """A recipe that is tested on the centre alone is, unless ten views are asked for."""
    weights = tiny_weights(recipe=replace(TINY, test_crops=1))
    assert run([store], weights).crops == 1
    assert run([store], weights, crops=10).crops == 10


@pytest.mark.parametrize("batch_size", [1, 20, 30, 70])
def test_size_of_the_passes_changes_nothing(store, batch_size):
    """One image a pass or all at once, with or without padding, gives the same."""
    expected = run([store], tiny_weights())
    found = run([store], tiny_weights(), batch_size=batch_size)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert (found.images, found.top1_error, found.top5_error) == (5, expected.top1_error, expected.top5_error)


@pytest.mark.parametrize(("crops", "batch_size", "expected"), [(10, 25, (20, 8, 55, 55)), (1, 2, (2, 8, 55, 55))])
def test_passes_have_one_shape(store, monkeypatch, crops, batch_size, expected):
    """Every pass goes on from conv1 in the same shape, also the last: nothing is compiled or searched for twice."""
    weights = tiny_weights()
    network = build_network(weights, CPU, FP32)
    shapes, go_on = [], network.go_on

    def seen(sums_BCHW, *keys):
        shapes.append(tuple(sums_BCHW.shape))
        return go_on(sums_BCHW, *keys)

    monkeypatch.setattr(network, "go_on", seen)
    evaluate(network, weights.mean, [store], classes=CLASSES, crops=crops, device=CPU, precision=FP32, batch_size=batch_size)
    assert shapes == [expected] * 3


def test_stores_are_taken_together(store, images, tmp_path):
    """Two stores give what one store with all their images gives."""
    halves = [
        write_store(tmp_path / "val", images[:2], LABELS[:2], CLASSES),
        write_store(tmp_path / "test", images[2:], LABELS[2:], CLASSES),
    ]
    expected, found = run([store], tiny_weights()), run(halves, tiny_weights())
    assert found.images == 5
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert (found.top1_error, found.top5_error) == (expected.top1_error, expected.top5_error)


def test_bf16_is_close(store):
    """In bf16 the loss is the same to that arithmetic's rounding."""
    assert run([store], tiny_weights(), precision=Precision("bf16")).loss == pytest.approx(
        run([store], tiny_weights()).loss, rel=0.02
    )


def test_few_classes(images, tmp_path):
    """With three classes the second measure counts all three, says so, and is never wrong."""
    store = write_store(tmp_path / "val", images, [label % 3 for label in LABELS], ("a", "b", "c"))
    found = run([store], tiny_weights(("a", "b", "c")))
    assert (found.top_k, found.top5_error) == (3, 0.0)


def test_progress_is_reported(store):
    """The reporter hears of every image once."""
    heard: list[object] = []

    class Listener(Reporter):
        def start(self, task, total, unit, *, done=0):
            heard.append((task, total, unit))

        def advance(self, amount=1, **figures):
            heard.append(amount)

        def finish(self):
            heard.append("finish")

    run([store], tiny_weights(), batch_size=20, reporter=Listener())
    assert heard == [("evaluate", 5, "images"), 2, 2, 1, "finish"]


# Classes ---------------------------------------------------------------------------------------------------------------------


def test_classes_are_matched_by_id(images, tmp_path):
    """Weights whose outputs are in another order than the store's classes give the same result."""
    weights = tiny_weights()
    order = [4, 2, 0, 6, 1, 5, 3]
    other = tiny_weights()
    other.classes = other.words = tuple(CLASSES[k] for k in order)
    other.tensors["fc8.weight"], other.tensors["fc8.bias"] = (
        weights.tensors["fc8.weight"][order],
        weights.tensors["fc8.bias"][order],
    )
    store = write_store(tmp_path / "val", images, LABELS, CLASSES)
    expected, found = run([store], weights), run([store], other)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.top1_error == expected.top1_error
    assert match_classes(store, other.classes).tolist() == [2, 4, 1, 6, 0, 5, 3]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("n01", "n02", "n03"), "has 3 classes, the weights have 7; the first difference: only the weights have 'n04'"),
        ((*CLASSES, "n00"), "has 8 classes, the weights have 7; the first difference: only the store has 'n00'"),
        ((*CLASSES[:6], "n99"), "has 7 classes, the weights have 7; the first difference: only the weights have 'n07'"),
    ],
)
def test_other_classes(tmp_path, images, classes, message):
    """Data of other classes is refused with both numbers and the first difference, before anything is computed."""
    store = write_store(tmp_path / "val", images[:1], [0], classes)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'val'} {message}")) as caught:
        run([store], tiny_weights())
    some = set(classes) < set(CLASSES)
    assert caught.value.hint == (
        "--restrict-classes lets the network choose among the store's classes alone"
        if some
        else "evaluate on data that was prepared with the same classes"
    )


def test_pictures_without_labels(tmp_path, images):
    """A store with unknown labels is refused with their number, and nothing is measured on the others."""
    store = write_store(tmp_path / "test", images, [0, -1, 1, -1, 2], CLASSES)
    with pytest.raises(DataError, match=r"test has no label for 2 of 5 pictures") as caught:
        run([store], tiny_weights())
    assert "--split" in caught.value.hint


def test_no_images(tmp_path):
    """A store without images has no error rate."""
    with pytest.raises(DataError, match=re.escape(f"no images in {tmp_path / 'val'}")):
        run([write_store(tmp_path / "val", [], [], CLASSES)], tiny_weights())


def test_damaged_record(tmp_path, images):
    """A damaged record ends the evaluation with its number."""
    store = write_store(tmp_path / "val", [images[0], b"damaged"], [0, 1], CLASSES)
    with pytest.raises(StoreError, match=r"record 1 in .* is damaged"):
        run([store], tiny_weights())


# Scores by hand --------------------------------------------------------------------------------------------------------------


def score_one(probabilities: list[float], truth: int, top_k: int = 5) -> list[float]:
    """Loss, top-1 credit and top-k credit of one image."""
    _, *figures = score(torch.tensor([probabilities]), torch.tensor([[truth]]), top_k)
    return [float(figure) for figure in figures]


@pytest.mark.parametrize(
    ("probabilities", "truth", "top1", "top2"),
    [
        ([0.5, 0.3, 0.2], 0, 1, 1),
        ([0.5, 0.3, 0.2], 1, 0, 1),
        ([0.5, 0.3, 0.2], 2, 0, 0),
        ([0.4, 0.4, 0.2], 1, 1 / 2, 1),  # two share the first place: right once in two
        ([0.4, 0.3, 0.3], 2, 0, 1 / 2),  # two share the second place: among the first two once in two
        ([0.25, 0.25, 0.25, 0.25], 3, 1 / 4, 2 / 4),  # knows nothing
        ([0.4, 0.2, 0.2, 0.2], 1, 0, 1 / 3),
        ([0.3, 0.3, 0.3, 0.1], 0, 1 / 3, 2 / 3),
        ([0.3, 0.3, 0.3, 0.1], 3, 0, 0),
    ],
)
def test_ties_by_hand(probabilities, truth, top1, top2):
    """Tied classes share the credit, worked by hand."""
    loss, found1, found2 = score_one(probabilities, truth, top_k=2)
    assert [found1, found2] == pytest.approx([top1, top2])
    assert loss == pytest.approx(-np.log(probabilities[truth]))


def test_ties_are_the_expectation_of_random_order():
    """The credit is the share of random orders of equal classes in which the truth is among the first k."""
    generator = np.random.default_rng(0)
    probabilities = [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    hits = 0
    for _ in range(20_000):
        order = sorted(range(9), key=lambda k: (-probabilities[k], generator.random()))
        hits += 4 in order[:5]
    assert score_one(probabilities, 4)[2] == pytest.approx(hits / 20_000, abs=0.015)
    assert score_one(probabilities, 4)[2] == pytest.approx(4 / 8)


def test_knowing_nothing_is_chance():
    """Equal probabilities of 1,000 classes score 0.1 % and 0.5 %, with the loss ln 1000."""
    assert score_one([1 / 1000] * 1000, 17) == pytest.approx([np.log(1000), 0.001, 0.005])


def test_each_image_has_its_own():
    """Several images' probabilities of the truth, losses and credits come one by one."""
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    truth, loss, top1, top2 = score(probabilities, torch.tensor([[0], [2]]), 2)
    assert truth.tolist() == pytest.approx([0.7, 0.3]) and loss.tolist() == pytest.approx([-np.log(0.7), -np.log(0.3)])
    assert top1.tolist() == [1, 0] and top2.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("probabilities", "right", "top1", "top2"),
    [
        ([0.5, 0.3, 0.1, 0.1], [0, 3], 1, 1),
        ([0.5, 0.3, 0.1, 0.1], [1, 3], 0, 1),
        ([0.4, 0.4, 0.1, 0.1], [0, 1], 1, 1),  # whichever of the two comes first is right
        ([0.25, 0.25, 0.25, 0.25], [1, 2], 2 / 4, 1 - (2 / 4) * (1 / 3)),  # both places wrong: 2 of 4, then 1 of 3
        ([0.4, 0.2, 0.2, 0.2], [1, 2], 0, 2 / 3),
        ([0.4, 0.3, 0.2, 0.1], [-1, -1], 0, 0),  # nobody knows what is right
    ],
)
def test_several_right_classes_by_hand(probabilities, right, top1, top2):
    """Where several classes are right each will do, also among equals, and the loss is that of their sum."""
    truth, loss, *credits = (float(value) for value in score(torch.tensor([probabilities]), torch.tensor([right]), 2))
    assert credits == pytest.approx([top1, top2])
    expected = sum(probabilities[k] for k in right if k >= 0)
    assert truth == pytest.approx(expected)
    assert loss == pytest.approx(-np.log(expected) if expected else 0.0)


def test_certain_and_wrong_has_a_finite_loss():
    """A probability that rounded to zero costs ln of the smallest float32, 87.3, and earns nothing."""
    loss, top1, top5 = score_one([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3)
    assert loss == pytest.approx(87.3365, abs=1e-3)
    assert top1 == 0 and top5 == pytest.approx(4 / 5)


def test_not_a_number_is_wrong():
    """A diverged network is wrong about everything, and its loss is no number."""
    loss, top1, top5 = score_one([float("nan")] * 6, 0)
    assert np.isnan(loss) and top1 == 0 and top5 == 0


def test_diverged_network(store):
    """A network of infinities is scored, not taken for right."""
    weights = tiny_weights()
    weights.tensors["fc8.bias"][:] = float("inf")
    found = run([store], weights)
    assert (found.top1_error, found.top5_error) == (1.0, 1.0) and np.isnan(found.loss)


# Several ranks ---------------------------------------------------------------------------------------------------------------


def _evaluated(layout: Layout, folder: Path) -> Evaluation:
    weights = tiny_weights()
    network = build_network(weights, CPU, FP64, layout)
    return evaluate(
        network, weights.mean, [Store(folder / "val")], classes=CLASSES, device=CPU, precision=FP64, batch_size=20, workers=1
    )


@pytest.mark.parametrize(("world", "towers"), [(2, 2), (2, 1), (4, 2), (3, 1)])
def test_ranks_agree_with_one_device(images, tmp_path, world, towers):
    """Every rank returns the one-device result, each of the five images counted once however many ranks share them."""
    store = write_store(tmp_path / "val", images, LABELS, CLASSES)
    expected = run([store], tiny_weights(), precision=FP64)
    for found in on_ranks(world, towers, _evaluated, tmp_path):
        assert found.loss == pytest.approx(expected.loss, rel=1e-9)
        errors = [expected.top1_error, expected.top5_error]
        assert [found.images, found.top1_error, found.top5_error] == pytest.approx([5, *errors])
