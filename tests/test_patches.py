"""Strongest patches against a plain torch stack and a scan of every picture and place, a planted picture, and their limits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError, DataError
from alexnet_cli.core.patch_cuts import cut, to_pixels
from alexnet_cli.core.patches import PatchOptions, UnitPatches, strongest_patches
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import preset
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store, pack_names
from tests.networks import narrow
from tests.pictures import photo
from tests.stores import change, write_store

CLASSES = ("n1", "n2", "n3")
RECIPE = narrow(preset("no-lrn"))  # of which a plain stack of torch's functions is quickly written


def weights_of(recipe: Recipe) -> Weights:
    """Random weights, and a mean that differs from pixel to pixel."""
    generator = torch.Generator().manual_seed(3)
    shapes = parameter_shapes(recipe, len(CLASSES))
    tensors = {
        name: torch.randn(shape, generator=generator) * (0.5 if name.endswith("bias") else 1.5 / np.sqrt(np.prod(shape[1:4])))
        for name, shape in shapes.items()
    }
    side = recipe.stored_size
    mean = 90 + 60 * torch.rand(3, side, side, generator=generator)
    return Weights(recipe, CLASSES, ("one, uno", "two", ""), tensors, mean)


def images(count: int, first: int = 0) -> list[np.ndarray]:
    """Return pictures of soft blobs."""
    return [np.asarray(photo(256, 256, seed)) for seed in range(first, first + count)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Fourteen pictures of three classes; of the last one the class is not known."""
    labels = [index % 3 for index in range(13)] + [-1]
    return write_store(tmp_path_factory.mktemp("data") / "val", images(14), labels, CLASSES)


def found(
    weights: Weights, layer: str, units: Sequence[int], stores: Sequence[Store], precision: str = "fp64", **options: Any
) -> list[UnitPatches]:
    """Return the strongest patches, without attributions unless they are asked for."""
    chosen = PatchOptions(**{"attribution": None, "workers": 1, **options})
    return strongest_patches(weights, layer, units, stores, chosen, device=torch.device("cpu"), precision=Precision(precision))


def plain_sums(weights: Weights, image_HWC: np.ndarray, layer: str) -> torch.Tensor:
    """Return a layer's sums of the centre view by torch's functions alone, in float64: (C, H, W) or (C,)."""
    w = {name: values.double() for name, values in weights.tensors.items()}
    x = torch.tensor(image_HWC).double().permute(2, 0, 1)[:, 16:240, 16:240] - weights.mean.double()[:, 16:240, 16:240]
    x = F.pad(x[None], (0, 3, 0, 3))
    for name, stride, padding, groups, pools in (
        ("conv1", 4, 0, 1, True),
        ("conv2", 1, 2, 2, True),
        ("conv3", 1, 1, 1, False),
        ("conv4", 1, 1, 2, False),
        ("conv5", 1, 1, 2, True),
    ):
        x = F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding, groups=groups)
        if name == layer:
            return x[0]
        x = F.relu(F.max_pool2d(x, 3, 2) if pools else x)
    x = x.flatten(1)
    for name in ("fc6", "fc7", "fc8"):
        x = F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
        if name == layer:
            return x[0]
        x = F.relu(x) / 2
    raise AssertionError


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv4", "conv5", "fc6", "fc8"])
def test_like_a_scan_of_all_pictures_and_places(store, layer):
    """Values, pictures and places are those that a plain stack gives when all its sums are put in order."""
    weights = weights_of(RECIPE)
    units = [2, 0, 1]
    scanned = [plain_sums(weights, store.image(index), layer) for index in range(len(store))]
    for one, unit in zip(found(weights, layer, units, [store], patches=5), units, strict=True):
        best = [(float(maps[unit].max()), index, int(maps[unit].argmax())) for index, maps in enumerate(scanned)]
        best.sort(reverse=True)
        width = scanned[0].shape[-1]
        assert one.unit == unit and [patch.picture for patch in one.patches] == [f"{index:08d}" for _, index, _ in best[:5]]
        np.testing.assert_allclose([patch.value for patch in one.patches], [value for value, _, _ in best[:5]], rtol=1e-9)
        places = [() if layer.startswith("fc") else divmod(place, width) for _, _, place in best[:5]]
        assert [patch.place for patch in one.patches] == places


@pytest.mark.parametrize(("layer", "size"), [("conv1", 11), ("conv2", 51), ("conv3", 99)])
def test_a_patch_is_all_that_the_unit_sees(store, layer, size):
    """A picture of nothing but the patch, the mean around it, gives the unit the same value at its place."""
    weights = weights_of(RECIPE)
    mean = weights.mean.round().clamp(0, 255)
    weights.mean = mean
    for one in found(weights, layer, [0, 5], [store], patches=3):
        for patch in one.patches:
            assert patch.pixels.shape == (size, size, 3)
            picture = mean.permute(1, 2, 0).numpy().astype(np.uint8).copy()
            rows, columns = ([number for number in numbers if 0 <= number < 224] for numbers in (patch.rows, patch.columns))
            inside = patch.pixels[np.ix_([row - patch.rows.start for row in rows], [col - patch.columns.start for col in columns])]
            picture[np.ix_([16 + row for row in rows], [16 + column for column in columns])] = inside
            value = float(plain_sums(weights, picture, layer)[one.unit][patch.place])
            assert value == pytest.approx(patch.value, rel=1e-9)


def test_a_planted_picture_is_found(tmp_path):
    """A kernel that looks for red left of green, and a picture that has it in one place: there, and nowhere else."""
    weights = weights_of(RECIPE)
    kernel = weights.tensors["conv1.weight"][3]
    kernel[:] = -1.0
    kernel[0, :, :6], kernel[1, :, 6:] = 1.0, 1.0
    pictures = images(6)
    pictures[4] = np.full((256, 256, 3), 120, np.uint8)
    pictures[4][16 + 80 : 16 + 91, 16 + 40 : 16 + 46] = (255, 0, 0)
    pictures[4][16 + 80 : 16 + 91, 16 + 46 : 16 + 51] = (0, 255, 0)
    store = write_store(tmp_path / "val", pictures, [0] * 6, CLASSES)
    (one,) = found(weights, "conv1", [3], [store], patches=1)
    (patch,) = one.patches
    assert (patch.picture, patch.place, patch.rows, patch.columns) == ("00000004", (20, 10), range(80, 91), range(40, 51))
    assert patch.pixels[:, :6].reshape(-1, 3).tolist() == [[255, 0, 0]] * 66
    assert patch.pixels[:, 6:].reshape(-1, 3).tolist() == [[0, 255, 0]] * 55


def test_beyond_the_edge_is_grey(store):
    """Of a field that begins beyond the picture, as conv3's does, what is not there is grey, and what is there is the picture."""
    weights = weights_of(RECIPE)
    weights.tensors["conv3.weight"][7] = 0
    weights.tensors["conv3.bias"][7] = 1  # equal everywhere: the first place counts
    (one,) = found(weights, "conv3", [7], [store], patches=1)
    (patch,) = one.patches
    # Ends of the field by hand: conv3 and conv2 are padded by 1 of 16 and 2 of 8 pixels.
    assert patch.place == (0, 0) and patch.rows == patch.columns == range(-32, 67)
    assert (patch.pixels[:32] == 128).all() and (patch.pixels[:, :32] == 128).all()
    assert np.array_equal(patch.pixels[32:, 32:], store.image(0)[16 : 16 + 67, 16 : 16 + 67])


def test_zeros_that_the_network_adds_are_grey(store):
    """The last places of conv1 see three rows and columns that are no pixels."""
    image = store.image(0)[16:240, 16:240]
    assert np.array_equal(cut(image, range(216, 227), range(0, 11), beyond=128)[:8], image[216:, :11])
    assert (cut(image, range(216, 227), range(0, 11), beyond=128)[8:] == 128).all()


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_one_patch_of_a_picture_and_ties_in_order(tmp_path, precision):
    """Of equal pictures the first comes first, whatever the batches; and none comes twice, however many places are as strong."""
    weights = weights_of(RECIPE)
    same = images(1)[0]
    store = write_store(tmp_path / "val", [same] * 7, [0] * 7, CLASSES)
    for batch_size in (1, 3, 7, 128):
        for layer in ("conv2", "fc7"):
            (one,) = found(weights, layer, [4], [store], precision, batch_size=batch_size)
            assert [patch.picture for patch in one.patches] == [f"{index:08d}" for index in range(7)]


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5"])
def test_the_first_of_equal_places(tmp_path, layer):
    """In a picture of one colour many places are equal but for rounding: the first of them in reading order is taken."""
    weights = weights_of(RECIPE)
    weights.mean[:] = 100
    store = write_store(tmp_path / "val", [np.full((256, 256, 3), (203, 31, 155), np.uint8)], [0], CLASSES)
    for one in found(weights, layer, range(8), [store], "fp32"):
        maps = plain_sums(weights, store.image(0), layer)[one.unit]
        first = int((maps >= maps.max() - 1e-7 * maps.max().abs()).flatten().byte().argmax())
        assert one.patches[0].place == divmod(first, maps.shape[1])


def test_the_same_whatever_the_batches(store):
    """Pictures, places and pixels do not depend on the size of the batches, nor do values but for rounding."""
    weights = weights_of(RECIPE)
    results = [
        found(weights, "conv4", range(0, 24, 4), [store], "fp32", patches=4, batch_size=size, attribution="guided")
        for size in (1, 5, 128)
    ]
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            for patch, again in zip(one.patches, same.patches, strict=True):
                assert replace(patch, value=0) == replace(again, value=0)
                assert patch.value == pytest.approx(again.value, rel=1e-5)
                assert np.array_equal(patch.pixels, again.pixels)
                assert patch.attribution is not None and again.attribution is not None
                assert np.abs(patch.attribution.astype(int) - again.attribution).max() <= 1
    assert found(weights, "conv4", [1], [store], "fp32") == found(weights, "conv4", [1], [store], "fp32")


def test_several_stores_names_and_classes(tmp_path):
    """Pictures are called by the names that their store keeps, or by their key; each has its split, and its class where known."""
    weights = weights_of(RECIPE)
    weights.tensors["fc8.weight"].zero_()
    weights.tensors["fc8.bias"][:] = torch.tensor([1.0, 2.0, 3.0])  # all pictures are equal: they come in order
    pictures = images(3)
    val = write_store(tmp_path / "val", pictures[:1], [1], CLASSES)
    write_store(tmp_path / "test", pictures[1:], [0, -1], CLASSES)
    change(tmp_path / "test", b"names", pack_names(["a/x.jpg", "b/y.jpg"]))
    test = Store(tmp_path / "test")
    first, last = found(weights, "fc8", [0, 2], [val, test])
    assert [patch.to_dict() for patch in first.patches] == [
        {
            "value": 1.0,
            "split": split,
            "picture": picture,
            "class": label,
            "name": name,
            "place": None,
            "rows": [0, 224],
            "columns": [0, 224],
        }
        for split, picture, label, name in (
            ("val", "00000000", "n2", "word n2"),
            ("test", "a/x.jpg", "n1", "word n1"),
            ("test", "b/y.jpg", None, None),
        )
    ]
    assert [one.to_dict()[key] for one in (first, last) for key in ("unit", "name")] == [0, "one, uno", 2, "n3"]
    assert np.array_equal(first.patches[1].pixels, pictures[1][16:240, 16:240])


def test_limited_to_the_first_pictures(store):
    """Only so many of the stores' first pictures are looked at, and the bar counts them."""
    counted: list[int] = []

    class Counts(Reporter):
        def start(self, task: str, total: int | None, unit: str, *, done: int = 0) -> None:
            counted.append(total or 0)

        def advance(self, amount: int = 1, **figures: float) -> None:
            counted.append(amount)

    weights = weights_of(RECIPE)
    options = PatchOptions(pictures=10, attribution=None, batch_size=4, workers=1)
    where: dict[str, Any] = {"device": torch.device("cpu"), "precision": Precision("fp64")}
    (one,) = strongest_patches(weights, "conv1", [0], [store], options, reporter=Counts(), **where)
    assert sorted(patch.picture for patch in one.patches)[-1] <= "00000009" and len(one.patches) == 9
    assert counted == [10, 4, 4, 2, 1, 1]
    (whole,) = strongest_patches(weights, "conv1", [0], [store], replace(options, pictures=None, patches=20), **where)
    assert len(whole.patches) == 14
    assert [patch for patch in whole.patches if patch.picture < "00000010"][:9] == list(one.patches)


def test_bgr_and_a_scaled_network(store):
    """Patches are RGB and of the stored pixels, whatever the network reads."""
    weights = weights_of(narrow(preset("caffenet")))
    (one,) = found(weights, "conv1", [0], [store], patches=1, attribution="gradient")
    patch = one.patches[0]
    edge = 14  # of 227 in 256
    rows, columns = (slice(edge + seen.start, edge + seen.stop) for seen in (patch.rows, patch.columns))
    assert np.array_equal(patch.pixels, store.image(int(patch.picture))[rows, columns])
    # conv1's gradient is its kernel, blue first.
    kernel = weights.tensors["conv1.weight"][0].flip(0).permute(1, 2, 0).double().numpy()
    # Of 363 weights the largest four, which are just more than a hundredth, have no room.
    expected = 128 + np.clip(127 * kernel / np.sort(np.abs(kernel).ravel())[358], -127, 127)
    assert patch.attribution is not None and np.abs(patch.attribution - expected).max() <= 0.51


def test_attributions_have_one_scale():
    """Zero is grey and one scale holds for all of a unit's; it has no room for the largest hundredth of what is not zero."""
    weak, strong = np.zeros((20, 20, 3)), np.zeros((20, 20, 3))
    weak[0], strong[0] = 0.5, -1.0
    strong[1, 0, 0] = 50
    shown = to_pixels([weak, strong])
    assert shown[0].dtype == np.uint8 and (shown[0][2:] == 128).all()
    assert (shown[0][0] == 192).all() and (shown[1][0] == 1).all() and shown[1][1, 0, 0] == 255
    assert (to_pixels([np.zeros((3, 3, 3))])[0] == 128).all()


@pytest.mark.parametrize(
    ("layer", "units", "message", "hint"),
    [
        ("conv9", [0], "no layer named 'conv9' in a network of recipe no-lrn", "its layers are conv1, "),
        ("conv1", [3, 8], "conv1 has no unit 8", "its units are 0 to 7, of which tower a has 0 to 3"),
        ("fc8", [-1], "fc8 has no unit -1", "its units are 0 to 2"),
        ("fc8", [], "no unit of fc8 is named", "its units are 0 to 2"),
        ("fc6", [0] * 600, "600 units with 9 patches each are 5,400, expected 5,000 at most", "name some of the units"),
    ],
)
def test_units_that_there_are_not(store, layer, units, message, hint):
    """A layer or unit that there is not is named, with those that there are; so is a number of units that makes no picture."""
    with pytest.raises(AlexNetError) as caught:
        found(weights_of(RECIPE), layer, units, [store])
    assert caught.value.message == message and caught.value.hint.startswith(hint)


def test_stores_that_do_not_fit(store, tmp_path, monkeypatch):
    """Pictures of another size are refused, and none at all; squares made in another way are told."""
    with pytest.raises(DataError, match=r"has pictures of 256x256, recipe tiny expects 32x32"):
        found(weights_of(preset("tiny")), "conv1", [0], [store])
    empty = write_store(tmp_path / "empty", [], [], CLASSES)
    with pytest.raises(DataError, match="no picture is to be looked at, of 0 that there are") as caught:
        found(weights_of(RECIPE), "conv1", [0], [empty])
    assert caught.value.hint
    told: list[str] = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "warn", told.append)
    weights = weights_of(narrow(preset("caffenet")))
    where: dict[str, Any] = {"device": torch.device("cpu"), "precision": Precision("fp32")}
    strongest_patches(weights, "conv1", [0], [store], PatchOptions(pictures=1, workers=1), reporter=reporter, **where)
    assert told == [f"{store.folder} was prepared with --resize short-side, recipe caffenet expects warp"]


def test_unknown_attribution():
    """A way of attribution that there is not is named with those that there are."""
    with pytest.raises(AlexNetError, match="no attribution named 'lime', expected one of deconvolution, guided, gradient"):
        PatchOptions(attribution="lime")


@pytest.mark.parametrize("name", ["patches", "batch_size"])
def test_numbers_that_make_no_picture(name):
    """None of something is refused before any work."""
    with pytest.raises(AlexNetError, match=f"^{name} is 0, expected 1 or more$"):
        PatchOptions(**{name: 0})  # type: ignore[arg-type]


def test_local_layers(tmp_path):
    """A layer of local kernels has patches too, and their attributions."""
    recipe = preset("tiny")
    pictures = [np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8) for seed in range(4)]
    store = write_store(tmp_path / "val", pictures, [0] * 4, CLASSES, size=32)
    (one,) = found(weights_of(recipe), "local3", [1], [store], attribution="deconvolution")
    # 5x5 of stride 1, 3/2 pooling, 5x5, 3/2 pooling, 3x3: 5 + 2 + 4 * 2 + 2 * 2 + 2 * 4 pixels.
    assert len(one.patches) == 4 and {patch.pixels.shape for patch in one.patches} == {(27, 27, 3)}
    assert all(patch.attribution is not None and (patch.attribution != 128).any() for patch in one.patches)
