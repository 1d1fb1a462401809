import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.assess import Assessment, AssessOptions, assess
from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.published import is_ilsvrc2012_val, published_rows
from alexnet_cli.core.store import pack_names
from tests.stores import change, write_store
from tests.test_evaluate import CLASSES, LABELS, reference_probabilities, tiny_weights

NAMES = tuple(f"val/{label}/{index}.png" for index, label in enumerate(LABELS))


def other_weights() -> Weights:
    """Other weights of the same classes."""
    weights = tiny_weights()
    weights.tensors["fc8.weight"] = -weights.tensors["fc8.weight"].flip(1)
    return weights


@pytest.fixture(scope="module")
def images():
    """Five images of large random squares: their views differ from each other."""
    squares = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    return list(squares.repeat(32, axis=1).repeat(32, axis=2))


@pytest.fixture(scope="module")
def place(images, tmp_path_factory):
    """Two weights files, and a store of five pictures with their names."""
    place = tmp_path_factory.mktemp("assess")
    folder = write_store(place / "data/val", images, LABELS, CLASSES).folder
    change(folder, b"names", pack_names(NAMES))
    save_weights(place / "one.safetensors", tiny_weights())
    save_weights(place / "two.safetensors", other_weights())
    return place


@pytest.fixture(scope="module")
def expected(images):
    """The slow reference's probabilities of both weights, (2, 5, 7)."""
    return np.array(
        [[reference_probabilities(weights, image) for image in images] for weights in (tiny_weights(), other_weights())]
    )


def measure(place: Path, *weights: str, **options: Any) -> Assessment:
    """Assess weights on the CPU."""
    paths = tuple(place / f"{name}.safetensors" for name in weights)
    found = assess(AssessOptions(paths, place / "data", device="cpu", precision="fp32", workers=2, **options))
    assert found is not None
    return found


def run(place: Path, *arguments: object, code: int = 0) -> Any:
    """Run `alexnet evaluate` on the store; returns the result of the run."""
    always = ["--data", str(place / "data"), "--device", "cpu", "--precision", "fp32"]
    result = CliRunner().invoke(app, ["evaluate", *(str(one) for one in arguments), *always])
    assert result.exit_code == code, result.output + result.stderr
    return result


def table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def errors(probabilities: np.ndarray, labels: list[int]) -> tuple[float, float]:
    """Return top-1 and top-5 error by sorting."""
    orders = np.argsort(-probabilities, axis=1)
    hits = [(order[0] == label, label in order[:5]) for order, label in zip(orders, labels, strict=True)]
    top1, top5 = np.mean(hits, axis=0)
    return 1 - float(top1), 1 - float(top5)


def test_ensemble_averages_probabilities(place, expected):
    """Members have their own errors, and all together those of the mean of their probabilities, as the reference finds them."""
    found = measure(place, "one", "two")
    for member, probabilities in zip([*found.members, found.evaluation], [*expected, expected.mean(axis=0)], strict=True):
        assert (member.top1_error, member.top5_error) == pytest.approx(errors(probabilities, LABELS))
        truths = probabilities[np.arange(5), LABELS]
        assert member.loss == pytest.approx(float(-np.log(truths).mean()), rel=1e-4)
    assert found.coefficients == (0.5, 0.5)
    ordered = -np.sort(-expected.mean(axis=0), axis=1)[:, :5]
    np.testing.assert_allclose(found.answers.probabilities_NT, ordered, rtol=1e-3)
    assert found.answers.named_NT.tolist() == np.argsort(-expected.mean(axis=0), axis=1)[:, :5].tolist()


def test_members_of_another_order(place, expected, tmp_path):
    """A member whose classes are in another order is matched by id."""
    weights, order = other_weights(), [3, 1, 4, 0, 6, 2, 5]
    weights.classes = weights.words = tuple(CLASSES[k] for k in order)
    for name in ("fc8.weight", "fc8.bias"):
        weights.tensors[name] = weights.tensors[name][order]
    save_weights(place / "turned.safetensors", weights)
    found = measure(place, "one", "turned")
    assert found.evaluation.loss == pytest.approx(measure(place, "one", "two").evaluation.loss, rel=1e-5)


def test_several_ranks_count_each_picture_once(place):
    """Three processes give the answers of one, picture by picture."""
    alone, shared = measure(place, "one", "two"), measure(place, "one", "two", gpus=3)
    assert shared.evaluation.images == 5
    assert shared.answers.named_NT.tolist() == alone.answers.named_NT.tolist()
    np.testing.assert_allclose(shared.answers.loss_N, alone.answers.loss_N, rtol=1e-5)
    assert shared.evaluation.top1_error == alone.evaluation.top1_error


def test_restricted_classes_do_not_compete(images, place, tmp_path):
    """On data of some of the classes the network chooses among these alone, and its probabilities are of these."""
    some = (2, 5, 6)  # n03, n06, n07
    write_store(tmp_path / "data/val", images, [0, 1, 2, 0, 1], tuple(CLASSES[k] for k in some))
    (tmp_path / "one.safetensors").hardlink_to(place / "one.safetensors")
    found = measure(tmp_path, "one", restrict_classes=True, crops=1)
    # With a single view, to choose among some is to divide by their sum.
    probabilities = np.array([reference_probabilities(tiny_weights(), image, crops=1)[list(some)] for image in images])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert found.evaluation.top1_error == pytest.approx(errors(probabilities, [0, 1, 2, 0, 1])[0])
    np.testing.assert_allclose(found.answers.truth_N, probabilities[np.arange(5), [0, 1, 2, 0, 1]], rtol=1e-3)
    with pytest.raises(AlexNetError) as caught:
        measure(tmp_path, "one")
    assert "--restrict-classes" in caught.value.hint


def test_other_labels(place, expected, tmp_path):
    """Labels of a file take the place of the store's: several are right, and pictures without are not counted."""
    path = tmp_path / "labels.csv"
    path.write_text(f"picture,label\n0.png,{CLASSES[1]};{CLASSES[4]}\n{NAMES[3]},{CLASSES[0]}\n")
    found = measure(place, "one", labels=path)
    assert found.evaluation.images == 2
    loss = -np.log(expected[0][0][[1, 4]].sum()) - np.log(expected[0][3][0])
    assert found.evaluation.loss == pytest.approx(loss / 2, rel=1e-4)


def test_labels_of_restricted_classes(images, place, tmp_path):
    """Labels may name any class of the weights; those that the data lacks do not count as right, nor pictures without others."""
    folder = write_store(tmp_path / "data/val", images, [0, 1, 2, 0, 1], tuple(CLASSES[k] for k in (2, 5, 6))).folder
    change(folder, b"names", pack_names(NAMES))
    (tmp_path / "one.safetensors").hardlink_to(place / "one.safetensors")
    path = tmp_path / "labels.csv"
    path.write_text(f"picture,label\n0.png,{CLASSES[0]};{CLASSES[5]}\n1.png,{CLASSES[1]}\n2.png,{CLASSES[2]}\n")
    found = measure(tmp_path, "one", restrict_classes=True, labels=path)
    assert found.right_NL.tolist() == [[1, -1], [-1, -1], [0, -1], [-1, -1], [-1, -1]]
    assert found.evaluation.images == 2


def test_store_of_another_resize(images, place, tmp_path):
    """Pictures that became squares in another way than the recipe says are measured, with a warning."""
    write_store(tmp_path / "data/val", images, LABELS, CLASSES, resize="warp")
    arguments = ["evaluate", str(place / "one.safetensors"), "--data", str(tmp_path / "data"), "--crops", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "warning: " in result.stderr
    assert "was prepared with --resize warp" in result.stderr and "expects short-side" in result.stderr


def test_compiled_normalisation_gives_the_same(place, expected, monkeypatch):
    """Where a test is large the normalisation is compiled, which changes no answer."""
    monkeypatch.setattr("alexnet_cli.core.assess.VIEWS_WORTH_COMPILING", 1)
    compiled = []
    usual = AlexNet.compile_normalisation

    def noted(network: AlexNet, **options: bool) -> None:
        compiled.append(options)
        usual(network, **options)

    monkeypatch.setattr(AlexNet, "compile_normalisation", noted)
    found = measure(place, "one")
    assert compiled == [{"tests": True}]
    np.testing.assert_allclose(found.answers.truth_N, expected[0][np.arange(5), LABELS], rtol=1e-3)


def test_tuned_ensemble(place, expected):
    """The search finds coefficients that are no worse than plain averaging on the split that it was given."""
    found = measure(place, "one", "two", tune_on=("val",))
    assert sum(found.coefficients) == pytest.approx(1)
    assert found.evaluation.top5_error <= measure(place, "one", "two").evaluation.top5_error
    mixed = sum(share * one for share, one in zip(found.coefficients, expected, strict=True))
    assert found.evaluation.top5_error == pytest.approx(errors(mixed, LABELS)[1])
    result = run(place, place / "one.safetensors", place / "two.safetensors", "--tune-weights", "val")
    assert "warning: the ensemble was tuned on the pictures that it is tested on" in result.stderr
    assert "all together, tuned on val" in result.output


def test_files(place, expected, tmp_path):
    """Predictions, classes and the confusion picture are written, the tables with what the reference says."""
    tables = [tmp_path / "all.csv", tmp_path / "all.parquet"]
    for path in tables:
        more = ["--per-class", tmp_path / "classes.csv", "--confusion", tmp_path / "confusion.png"]
        run(place, place / "one.safetensors", "--predictions", path, *more)
    rows = table(tables[0])
    assert [row["picture"] for row in rows] == list(NAMES)
    assert [row["label"] for row in rows] == [CLASSES[label] for label in LABELS]
    first = expected[0].argmax(axis=1)
    assert [row["class_1"] for row in rows] == [CLASSES[k] for k in first]
    assert [float(row["probability_1"]) for row in rows] == pytest.approx(expected[0].max(axis=1), rel=1e-3)
    assert [float(row["top1"]) for row in rows] == [float(k == label) for k, label in zip(first, LABELS, strict=True)]
    packed = pyarrow.parquet.read_table(tables[1]).to_pylist()
    assert [row["class_5"] for row in packed] == [row["class_5"] for row in rows]
    classes = table(tmp_path / "classes.csv")
    assert [row["class_id"] for row in classes] == sorted(CLASSES[label] for label in LABELS)
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG"
    # What was written can be given back as labels.
    again = json.loads(run(place, place / "one.safetensors", "--labels", tables[0], "--json").stdout)
    assert again["images"] == 5 and again["top1_error"] == pytest.approx(errors(expected[0], LABELS)[0])


def test_text_and_json(place, expected):
    """The summary has intervals, classes and pairs; the document has the members too."""
    text = run(place, place / "one.safetensors").stdout
    assert "worst classes" in text and "mistaken most" in text
    found = json.loads(run(place, place / "one.safetensors", place / "two.safetensors", "--json").stdout)
    assert [member["top1_error"] for member in found["members"]] == pytest.approx([errors(one, LABELS)[0] for one in expected])
    low, high = found["top1_interval"]
    assert low <= found["top1_error"] <= high and found["published"] == []


def test_published_results_for_the_challenge_alone():
    """Published rows stand beside 1,000 WNIDs tested on val, and those of one view beside one view."""
    wnids = [f"n{number:08d}" for number in range(1000)]
    assert is_ilsvrc2012_val(wnids, ["val"])
    assert not is_ilsvrc2012_val(wnids, ["val", "test"]) and not is_ilsvrc2012_val(wnids[:100], ["val"])
    assert [row.top1_error for row in published_rows(10)][:4] == [0.407, 0.381, 0.390, 0.367]
    assert all(row.crops == 1 for row in published_rows(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one.safetensors", "--tune-weights", "val"], "error: --tune-weights with one weights file"),
        (["one.safetensors", "few.safetensors"], "has other classes than the first weights: 3 against 7, none is 'n04'"),
        (["one.safetensors", "--predictions", "x.txt"], "error: x.txt ends in neither .csv nor .parquet"),
        (["one.safetensors", "--labels", "nowhere.csv"], "error: cannot read nowhere.csv"),
        (
            ["one.safetensors", "--predictions", "one.safetensors/x.csv"],
            "error: cannot write one.safetensors/x.csv: Not a directory",
        ),
        (["one.safetensors", "--per-class", "data"], "error: cannot write data: Is a directory"),
    ],
)
def test_refused(place, monkeypatch, arguments, message):
    """What cannot be is said in one line, before anything is computed."""
    monkeypatch.chdir(place)
    if not (place / "few.safetensors").exists():
        save_weights(place / "few.safetensors", tiny_weights(CLASSES[:3]))
    result = CliRunner().invoke(app, ["evaluate", "--data", "data", "--device", "cpu", *arguments])
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.stderr
