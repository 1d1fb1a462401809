"""Networks of other programs give, layer by layer, what those programs make of them; whatever else is refused."""

import io
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import torchvision
from onnx import helper, numpy_helper
from safetensors.torch import save_file

from alexnet_cli.core.caffe import read_binaryproto
from alexnet_cli.core.checkpoint import Weights, build_network, load_weights, save_weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError, CheckpointError
from alexnet_cli.core.foreign import load_foreign
from alexnet_cli.core.imagenet import ilsvrc_classes
from alexnet_cli.core.recipes import bvlc, caffenet, difference
from tests import foreign_files as files
from tests.conftest import REAL_DATA
from tests.layers import every_output, largest_difference

CPU = torch.device("cpu")
FP32 = Precision("fp32")
TOLERANCE = 1e-4
PHOTOGRAPHS = REAL_DATA / "clothing-small" / "test"


@pytest.fixture(scope="module")
def narrow_arrays():
    """Weights of Caffe's network with few channels and five classes."""
    return files.random_arrays(files.narrow_shapes())


@pytest.fixture
def five(tmp_path):
    """A list of five classes."""
    path = tmp_path / "classes.txt"
    path.write_text("n01 a cat\nn02 a dog\nn03\nn04\ta bird\nn05 e\n")
    return path


def onnx_outputs(model: onnx.ModelProto, images: torch.Tensor) -> list[torch.Tensor]:
    """Run a graph with every intermediate value as an output, one picture at a time as the batch may be fixed."""
    skipped = ("Reshape", "Flatten", "Dropout", "Softmax")
    names = [node.output[0] for node in model.graph.node if node.op_type not in skipped]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    data = session.get_inputs()[0].name
    runs = [session.run(names, {data: image[None].numpy()}) for image in images]
    return [torch.from_numpy(np.concatenate(values)) for values in zip(*runs, strict=True)]


def saved(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(content)
    return path


def show(differences: dict[str, float]) -> None:
    """Print the figures, for `pytest -s`."""
    print("\n".join(f"{name}: {value:.1e}" for name, value in differences.items()))


# Layer by layer --------------------------------------------------------------------------------------------------------------


def test_the_onnx_zoos_alexnet(tmp_path):
    """The graph of the onnx package, 61 million random weights, agrees with onnxruntime at every operation's output."""
    model = files.filled_light()
    weights = load_foreign(saved(tmp_path / "bvlc.onnx", model.SerializeToString()))
    assert difference(weights.recipe).keys() - difference(bvlc()).keys() == {"pools_rounded_down", "mean"}
    assert weights.recipe.pools_rounded_down == ("conv1", "conv2") and weights.recipe.input_size == 224
    assert weights.recipe.channel_order == "bgr" and weights.recipe.lrn_crosses_towers and weights.recipe.lrn_k == 1
    assert weights.classes == ilsvrc_classes()[0]
    assert weights.mean[:, 0, 0].tolist() == [123, 117, 104]
    images = files.photographs(PHOTOGRAPHS, 2, 224)
    found = largest_difference(every_output(build_network(weights, CPU, FP32), images), onnx_outputs(model, images))
    show(found)
    assert len(found) == 20 and max(found.values()) <= TOLERANCE


def test_caffenet_as_onnx(tmp_path, narrow_arrays, five):
    """CaffeNet's order, pooling before the norm, on 227 pixels, agrees with onnxruntime everywhere."""
    model = files.caffenet_onnx(narrow_arrays)
    weights = load_foreign(saved(tmp_path / "caffenet.onnx", model.SerializeToString()), classes=five)
    assert weights.recipe.follows == caffenet().follows and weights.recipe.name == "caffenet"
    assert weights.recipe.pools_rounded_down == ()
    assert weights.words == ("a cat", "a dog", "n03", "a bird", "e")
    images = files.photographs(PHOTOGRAPHS, 3, 227)
    found = largest_difference(every_output(build_network(weights, CPU, FP32), images), onnx_outputs(model, images))
    show(found)
    assert max(found.values()) <= TOLERANCE


@pytest.mark.parametrize("norm_last", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_caffemodel(tmp_path, narrow_arrays, five, old, norm_last):
    """Both forms of a .caffemodel, written by Google's protobuf, give Caffe's published layers in torch's own functions."""
    path = saved(tmp_path / "net.caffemodel", files.caffemodel(narrow_arrays, old=old, norm_last=norm_last))
    weights = load_foreign(path, classes=five)
    assert difference(weights.recipe).keys() ^ difference(caffenet() if norm_last else bvlc()).keys() == {
        "channels",
        "hidden",
        "mean",
    }
    images = files.photographs(PHOTOGRAPHS, 2, 227)
    found = largest_difference(
        every_output(build_network(weights, CPU, FP32), images), caffe_outputs(narrow_arrays, images, norm_last)
    )
    show(found)
    assert max(found.values()) <= TOLERANCE


def caffe_outputs(arrays, x, norm_last):
    """Restate Caffe's network: 227 pixels, sizes rounded up, k 1 and alpha over 5 in its norm over all channels."""
    p = {name: torch.from_numpy(value) for name, value in arrays.items()}
    outputs = []

    def put(value):
        outputs.append(value)
        return value

    for layer, (_, stride, padding) in files.KERNELS.items():
        x = put(F.conv2d(x, p[f"{layer}.weight"], p[f"{layer}.bias"], stride, padding, groups=files.GROUPS[layer]))
        x = put(F.relu(x))
        for kind in ("pool", "norm") if norm_last else ("norm", "pool"):
            if kind == "norm" and layer in ("conv1", "conv2"):
                x = put(F.local_response_norm(x, 5, 1e-4, 0.75, 1.0))
            if kind == "pool" and layer in ("conv1", "conv2", "conv5"):
                x = put(F.max_pool2d(x, 3, 2, ceil_mode=True))
    x = x.flatten(1)
    for layer in ("fc6", "fc7"):
        x = put(F.linear(x, p[f"{layer}.weight"], p[f"{layer}.bias"]))
        x = put(F.relu(x))
    put(F.linear(x, p["fc8.weight"], p["fc8.bias"]))
    return outputs


@pytest.fixture(scope="module")
def theirs():
    """Torchvision's network with random weights and five classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.alexnet(num_classes=5).eval()


def test_torchvision(tmp_path, theirs, five):
    """A .pth of torchvision's gives torchvision's outputs at every layer, on pictures scaled as torchvision scales them."""
    torch.save(theirs.state_dict(), tmp_path / "alexnet.pth")
    weights = load_foreign(tmp_path / "alexnet.pth", classes=five)
    assert weights.recipe.dropout_before and weights.recipe.dropout_inverted and weights.recipe.name == "torchvision"
    images = (files.photographs(PHOTOGRAPHS, 2, 224) + 110) / 255
    images = torchvision.transforms.functional.normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    outputs = []
    x = images
    with torch.no_grad():
        for module in [*theirs.features, torch.nn.Flatten(), *theirs.classifier]:
            x = module(x)
            if not isinstance(module, (torch.nn.Dropout, torch.nn.Flatten)):
                outputs.append(x.clone())  # ReLU works in place there
    found = largest_difference(every_output(build_network(weights, CPU, FP32), images), outputs)
    show(found)
    assert max(found.values()) <= TOLERANCE


def test_torchvisions_pictures(tmp_path, theirs, five):
    """What the network sees of a stored square is torchvision's own preprocessing of it: centre crop, 0-1, mean, deviations."""
    from alexnet_cli.core.views import test_views

    torch.save(theirs.state_dict(), tmp_path / "alexnet.pth")
    weights = load_foreign(tmp_path / "alexnet.pth", classes=five)
    squares = torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = torchvision.transforms.functional.center_crop(squares.permute(0, 3, 1, 2), [224, 224]).float() / 255
    expected = torchvision.transforms.functional.normalize(expected, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(test_views(squares, weights.mean, weights.recipe, 1)[:, 0], expected, rtol=0, atol=1e-5)


def test_other_places_of_torchvisions_tensors(tmp_path, theirs, five):
    """The old file form, DataParallel's names in a training's checkpoint, and safetensors hold the same network."""
    state = theirs.state_dict()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    inner = {name.replace("features.", "features.module."): value for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": inner}, tmp_path / "checkpoint.pth")
    save_file(state, tmp_path / "model.safetensors")
    for name in ("old.pth", "checkpoint.pth", "model.safetensors"):
        found = load_foreign(tmp_path / name, classes=five)
        assert torch.equal(found.tensors["conv5.weight"], state["features.10.weight"]), name
        assert torch.equal(found.tensors["fc8.bias"], state["classifier.6.bias"]), name


def test_an_imported_file_is_a_weights_file(tmp_path, narrow_arrays, five):
    """Saved and loaded again, an imported network is what it was, its new fields too."""
    model = files.caffenet_onnx(files.random_arrays(files.narrow_shapes()), side=224, last_pad=1)
    for pool in (model.graph.node[2], model.graph.node[6]):  # the last alone is padded, as in the zoo's graph
        next(attribute for attribute in pool.attribute if attribute.name == "pads").ints[:] = [0, 0, 0, 0]
    weights = load_foreign(saved(tmp_path / "a.onnx", model.SerializeToString()), classes=five)
    assert weights.recipe.pools_rounded_down == ("conv1", "conv2")
    save_weights(tmp_path / "a.safetensors", weights)
    back = load_weights(tmp_path / "a.safetensors")
    assert back.recipe == weights.recipe and back.words == weights.words
    assert all(torch.equal(back.tensors[name], value) for name, value in weights.tensors.items())


# Mean and classes ------------------------------------------------------------------------------------------------------------


def test_a_mean_image_is_turned_to_rgb(tmp_path, narrow_arrays, five):
    """Caffe's mean, blue first, as .binaryproto or .npy, becomes ours, red first, pixel by pixel."""
    mean = np.random.default_rng(0).uniform(0, 255, (3, 256, 256)).astype(np.float32)
    path = saved(tmp_path / "net.caffemodel", files.caffemodel(narrow_arrays, old=False))
    saved(tmp_path / "mean.binaryproto", files.mean_blob(mean))
    np.save(tmp_path / "mean.npy", mean)
    for name in ("mean.binaryproto", "mean.npy"):
        weights = load_foreign(path, mean=tmp_path / name, classes=five)
        assert weights.recipe.mean == "image"
        assert np.array_equal(weights.mean.numpy(), mean[[2, 1, 0]]), name


def test_the_class_list_is_the_development_kits(ilsvrc_devkit):
    """The 1,000 ids are sorted, and ids and words are those of the real synset_words.txt."""
    lines = next(ilsvrc_devkit.rglob("synset_words.txt")).read_text().splitlines()
    classes, words = ilsvrc_classes()
    assert [f"{name} {word}" for name, word in zip(classes, words, strict=True)] == lines
    assert list(classes) == sorted(set(classes))


def test_classes_must_be_named_and_fit(tmp_path, narrow_arrays, five):
    """Five outputs without a list, with a list of four, or with a class named twice are errors."""
    path = saved(tmp_path / "net.caffemodel", files.caffemodel(narrow_arrays, old=False))
    with pytest.raises(CheckpointError, match="the network has 5 outputs") as caught:
        load_foreign(path)
    assert "--classes" in caught.value.hint
    five.write_text("a\nb\nc\nd\n")
    with pytest.raises(CheckpointError, match="has 4 classes, but the network 5 outputs"):
        load_foreign(path, classes=five)
    five.write_text("a\nb\nc\nd\na e\n")
    with pytest.raises(CheckpointError, match="names a twice"):
        load_foreign(path, classes=five)


# Refused ---------------------------------------------------------------------------------------------------------------------


class Bomb:
    """A pickle that would run a command."""

    def __reduce__(self):
        return (Path.touch, (Path("/tmp/alexnet-was-here"),))


def _zeros_state(**changes):
    state = {name: torch.zeros(value.shape) for name, value in torchvision.models.alexnet(num_classes=5).state_dict().items()}
    return {**state, **changes}


def _pth(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"just a text", "is neither ONNX"),
        (b"\x00" * 100, "is neither ONNX"),
        (b"\x08\x03\x3a\xff\xff\xff\xff\x0f", "is neither ONNX"),
        (pickle.dumps(Bomb(), 2), "would run code"),
        (_pth({"a": Bomb()}), "would run code"),
        (_pth({"a": torch.zeros(3)}), "another network"),
        (_pth(torch.zeros(3)), "holds a Tensor"),
        (_pth({"a": torch.zeros(3)})[:200], "is damaged"),
    ],
)
def test_files_that_are_no_network(tmp_path, content, message):
    """Each is one line of what it is instead, with a hint; nothing in it runs."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load_foreign(saved(tmp_path / "network.onnx", content))
    assert caught.value.hint and "\n" not in caught.value.message
    assert not Path("/tmp/alexnet-was-here").exists()


def test_places_that_hold_no_network(tmp_path, five, narrow_arrays):
    """A folder, a missing file and a weights file of ours are told apart."""
    with pytest.raises(CheckpointError, match="is a folder"):
        load_foreign(tmp_path)
    with pytest.raises(CheckpointError, match="no file"):
        load_foreign(tmp_path / "absent.onnx")
    weights = load_foreign(saved(tmp_path / "a.caffemodel", files.caffemodel(narrow_arrays, old=True)), classes=five)
    save_weights(tmp_path / "ours.safetensors", weights)
    with pytest.raises(CheckpointError, match="already one of ours"):
        load_foreign(tmp_path / "ours.safetensors")


def test_loading_weights_points_to_import(tmp_path, narrow_arrays):
    """Where a weights file is expected, another program's network is answered with the command that takes it over."""
    path = saved(tmp_path / "a b.caffemodel", files.caffemodel(narrow_arrays, old=True))
    with pytest.raises(CheckpointError, match="is not a safetensors file") as caught:
        load_weights(path)
    assert caught.value.hint == f"alexnet import '{path}' --out weights.safetensors"


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_caffemodel_cut_short(tmp_path, narrow_arrays, five, share):
    """A download that stopped is refused at any place."""
    whole = files.caffemodel(narrow_arrays, old=False)
    with pytest.raises(CheckpointError):
        load_foreign(saved(tmp_path / "net.caffemodel", whole[: int(share * len(whole))]), classes=five)


@pytest.mark.parametrize("kind", ["Concat", "Eltwise", "BatchNorm"])
def test_another_layer_of_caffe(tmp_path, narrow_arrays, five, kind):
    """A layer that AlexNet does not have is named with its type."""
    with pytest.raises(CheckpointError, match=f"layer odd is of type {kind}"):
        load_foreign(saved(tmp_path / "net.caffemodel", files.caffemodel(narrow_arrays, old=False, extra=kind)), classes=five)


def _damage_external(model):
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="../../etc/passwd")


def _damage_nan(model):
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values.flat[3] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "conv1.weight"))


def _damage_shape(model):
    model.graph.initializer[0].dims[0] = 10**12


def _damage_missing(model):
    del model.graph.initializer[0]


def _damage_operator(model):
    model.graph.node[1].op_type = "Sigmoid"


def _damage_branch(model):
    model.graph.node[6].input[0] = "n0"


def _damage_norms(model):
    next(a for a in model.graph.node[7].attribute if a.name == "alpha").f = 0.5


def _damage_groups(model):
    next(a for a in model.graph.node[4].attribute if a.name == "group").i = 4


def _damage_integers(model):
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((8, 3, 11, 11), np.int8), "conv1.weight"))


def _damage_size(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 199
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 199


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_damage_external, "in another file"),
        (_damage_nan, "not finite"),
        (_damage_shape, "damaged"),
        (_damage_missing, "not in the file"),
        (_damage_operator, r"n1 \(Sigmoid\)"),
        (_damage_branch, "branches"),
        (_damage_norms, "alpha 0.5, expected 0.0001"),
        (_damage_groups, "4 groups"),
        (_damage_integers, "int8"),
        (_damage_size, "pixels"),
    ],
)
def test_onnx_that_is_not_alexnet(tmp_path, narrow_arrays, five, damage, message):
    """What no recipe expresses, or what is damaged, is refused naming the node or tensor."""
    model = files.caffenet_onnx(narrow_arrays)
    damage(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_foreign(saved(tmp_path / "a.onnx", model.SerializeToString()), classes=five)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["light_squeezenet", "light_resnet50", "light_densenet121", "light_inception_v1"])
def test_other_networks_of_the_zoo(name):
    """Networks that branch, or without weights, are refused."""
    with pytest.raises(CheckpointError):
        load_foreign(files.LIGHT.with_name(f"{name}.onnx"))


def test_torchvisions_tensors_of_another_shape(tmp_path, five):
    """Kernels of another size, and a tensor that repeats one value to be huge, are refused."""
    for name, value in (
        ("features.0.weight", torch.zeros(64, 3, 7, 7)),
        ("classifier.6.weight", torch.zeros(1).expand(10**9, 4096)),
        ("classifier.6.bias", torch.zeros(4)),
        ("features.3.bias", torch.zeros(192, dtype=torch.int64)),
        ("features.3.bias", torch.full((192,), torch.inf)),
    ):
        torch.save(_zeros_state(**{name: value}), tmp_path / "a.pth")
        with pytest.raises(CheckpointError):
            load_foreign(tmp_path / "a.pth", classes=five)


@pytest.mark.parametrize("mean", [np.zeros((3, 227, 227)), np.full((3, 256, 256), 300.0), np.full(3, np.nan), np.array([None])])
def test_means_that_are_none(tmp_path, narrow_arrays, five, mean):
    """Another shape, values no pixel has, no numbers, and a pickle inside are refused."""
    np.save(tmp_path / "mean.npy", mean, allow_pickle=True)
    path = saved(tmp_path / "net.caffemodel", files.caffemodel(narrow_arrays, old=False))
    with pytest.raises(CheckpointError, match="mean"):
        load_foreign(path, mean=tmp_path / "mean.npy", classes=five)


def test_a_mean_that_claims_to_be_huge(tmp_path, narrow_arrays, five):
    """A header that promises more than the file has is refused without asking for that memory."""
    with (tmp_path / "mean.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (3, 10**6, 10**6)})
    path = saved(tmp_path / "net.caffemodel", files.caffemodel(narrow_arrays, old=False))
    with pytest.raises(CheckpointError, match="mean"):
        load_foreign(path, mean=tmp_path / "mean.npy", classes=five)


def test_a_pth_with_a_damaged_directory(tmp_path):
    """A zip file whose directory is damaged, or not where its end says, is damage like any other."""
    whole = _pth(_zeros_state())
    place = whole.index(b"PK\x01\x02")
    for damaged in (whole[:place] + b"XXXX" + whole[place + 4 :], whole[:1000] + whole[place + 100 :]):
        with pytest.raises(CheckpointError, match="is damaged: BadZipFile"):
            load_foreign(saved(tmp_path / "a.pth", damaged))


def sparse(path: Path, content: bytes, size: int = 1 << 42) -> Path:
    """Write a file that is zeros after its beginning, and takes no room on the disk: more than any memory unless said."""
    with path.open("wb") as file:
        file.write(content)
        try:
            file.truncate(size)
        except OSError:
            pytest.skip(f"this disk holds no file of {size:,} bytes")
    return path


@pytest.mark.parametrize(
    "content", [b"", b"\x0a\x03abc", b"PK\x03\x04", b"\x02" + bytes(7) + b"{}"], ids=["zeros", "caffe", "pth", "ours"]
)
def test_a_file_larger_than_any_memory(tmp_path, content):
    """Four terabytes of anything are refused by their size, as a network to import, as weights and as a mean."""
    path = sparse(tmp_path / "huge", content)
    with pytest.raises(CheckpointError, match=r"huge has 4,398,046,511,104 bytes, expected a network of at most 4,000,000,000"):
        load_foreign(path)
    with pytest.raises(CheckpointError, match=r"huge is") as caught:
        load_weights(path)
    assert "alexnet train" in caught.value.hint
    with pytest.raises(CheckpointError, match="4,398,046,511,104 bytes"):
        read_binaryproto(path)


def test_a_mean_larger_than_any_memory(tmp_path, narrow_arrays, five):
    """A .npy that does have its 4 TB is refused by its shape, before it is read."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (3, 2**19, 2**19)})
    mean = sparse(tmp_path / "mean.npy", header.getvalue(), len(header.getvalue()) + 12 * 2**38)
    path = saved(tmp_path / "net.caffemodel", files.caffemodel(narrow_arrays, old=False))
    with pytest.raises(CheckpointError, match=r"is a mean of shape \(3, 524288, 524288\)"):
        load_foreign(path, mean=mean, classes=five)


def test_a_large_file_is_not_read_to_tell_its_kind(tmp_path):
    """A file of 3 GB that claims one field of all its bytes is told without that memory, which the process does not have."""
    path = sparse(tmp_path / "a.caffemodel", b"\xa2\x06" + bytes([0x80, 0xBC, 0xC1, 0x96, 0x0B]), 3_000_000_000 + 7)
    limited = (
        "import resource, sys; from pathlib import Path; from alexnet_cli.core.kinds import kind_of\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (500_000_000, 500_000_000))\n"
        "print(kind_of(Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", limited, path], capture_output=True, text=True, check=False)
    assert done.stdout == "('caffemodel', '')\n", done.stderr


def test_a_blob_of_a_million_extents(tmp_path):
    """A shape of many extents is refused without multiplying them."""
    blob = files.CAFFE["Blob"](data=[1.0], shape={"dim": [2**62] * 900})
    for count, message in ((900, "900 extents, expected at most 4"), (1_000_000, "more than 1,000 whole numbers")):
        del blob.shape.dim[:]
        blob.shape.dim.extend([2**62] * count)
        started = time.process_time()
        with pytest.raises(CheckpointError, match=message):
            read_binaryproto(saved(tmp_path / "mean.binaryproto", blob.SerializeToString()))
        assert time.process_time() - started < 2


def test_weights_is_what_it_returns(tmp_path, theirs, five):
    """The result is the same class that a weights file gives, with the file as its path."""
    torch.save(theirs.state_dict(), tmp_path / "alexnet.pth")
    found = load_foreign(tmp_path / "alexnet.pth", classes=five)
    assert isinstance(found, Weights) and found.path == tmp_path / "alexnet.pth" and (found.step, found.epoch) == (0, 0)


def test_damage_anywhere_in_a_caffemodel(tmp_path, five):
    """Bytes changed at random give a network or one kind of error, never another exception."""
    arrays = files.random_arrays(files.narrow_shapes(channels=(2, 2, 2, 2, 2), hidden=2))
    whole = files.caffemodel(arrays, old=False)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in generator.integers(0, len(whole), 20):
            content[place] = generator.integers(0, 256)
        try:
            load_foreign(saved(tmp_path / "net.caffemodel", bytes(content)), classes=five)
        except CheckpointError:
            refused += 1
    assert refused > 0


def test_damage_anywhere_in_an_onnx_file(tmp_path, five):
    """The same of ONNX."""
    whole = files.caffenet_onnx(files.random_arrays(files.narrow_shapes(channels=(2, 2, 2, 2, 2), hidden=2))).SerializeToString()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in generator.integers(0, 1200, 3):  # the nodes, before the weights
            content[place] = generator.integers(0, 256)
        try:
            load_foreign(saved(tmp_path / "net.onnx", bytes(content)), classes=five)
        except CheckpointError:
            refused += 1
    assert refused > 0


def test_without_the_onnx_package(tmp_path, narrow_arrays, five, monkeypatch):
    """The message says what to install; Caffe's files need nothing."""
    path = saved(tmp_path / "a.onnx", files.caffenet_onnx(narrow_arrays).SerializeToString())
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(AlexNetError, match="not installed") as caught:
        load_foreign(path, classes=five)
    assert caught.value.hint == "pip install 'alexnet-cli[onnx]'"
    load_foreign(saved(tmp_path / "a.caffemodel", files.caffemodel(narrow_arrays, old=False)), classes=five)


def test_names_in_messages_are_one_line(tmp_path, narrow_arrays, five):
    """A node's name may hold anything; a terminal gets one line without control characters."""
    model = files.caffenet_onnx(narrow_arrays)
    model.graph.node[1].name, model.graph.node[1].op_type = "a\n\x1b[31m" + "b" * 1000, "Sigmoid"
    with pytest.raises(CheckpointError) as caught:
        load_foreign(saved(tmp_path / "a.onnx", model.SerializeToString()), classes=five)
    assert caught.value.message.isprintable() and len(caught.value.message) <= 300
