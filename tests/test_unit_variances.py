"""How much units vary over stored pictures, against numpy on all values at once."""

import numpy as np
import pytest
import torch

from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError, DataError
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.store import Store
from alexnet_cli.core.unit_variances import most_varying, unit_variances
from tests.layers import every_output
from tests.networks import narrow
from tests.stores import random_images, write_store
from tests.test_train import Notes

CPU, FP64 = torch.device("cpu"), Precision("fp64")
COUNT = 7
LAST = {"conv1": "relu of conv1", "conv2": "pool of conv2", "conv5": "relu of conv5", "fc7": "activation of fc7", "fc8": "fc8"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> list[Store]:
    """Return seven pictures of noise in two stores."""
    images = random_images(COUNT)
    folder = tmp_path_factory.mktemp("stores")
    halves = (("a", images[:4]), ("b", images[4:]))
    return [write_store(folder / name, some, [0] * len(some), ["x", "y", "z"]) for name, some in halves]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Return a narrow network of three classes with weights at random and a mean of greys."""
    recipe = narrow(dropout=0.0)
    network = AlexNet(recipe, 3, seed=0)
    mean = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0)) * 255
    return Weights(recipe, ("x", "y", "z"), ("x", "y", "z"), dict(network.state_dict()), mean)


def everything(weights: Weights, layer: str) -> np.ndarray:
    """Return what a layer hands on of every picture's centre, from a pass that is spelled out elsewhere."""
    images = np.stack(random_images(COUNT))[:, 16:240, 16:240].transpose(0, 3, 1, 2).astype(np.float64)
    views = torch.from_numpy(images) - weights.mean[:, 16:240, 16:240].double()
    values = dict(every_output(build_network(weights, CPU, FP64), views))
    return values[LAST[layer]].numpy()


@pytest.mark.parametrize("layer", list(LAST))
@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_variance_is_numpys(layer, batch_size, weights, stores):
    """Whatever the batches, over pictures and places, each unit's variance is numpy's of all its values."""
    found = unit_variances(weights, layer, stores, device=CPU, precision=FP64, batch_size=batch_size, workers=1)
    values = everything(weights, layer)
    expected = values.var(axis=(0, *range(2, values.ndim)))
    assert found.shape == expected.shape and (expected > 0).any()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_first_pictures_only(weights, stores):
    """A limit takes the stores' first pictures, also where it ends in the middle of a batch; the bar counts them."""
    notes = Notes()
    found = unit_variances(
        weights, "conv1", stores, device=CPU, precision=FP64, pictures=5, batch_size=2, workers=1, reporter=notes
    )
    assert notes.steps == 5
    np.testing.assert_allclose(found, everything(weights, "conv1")[:5].var(axis=(0, 2, 3)), rtol=1e-9)
    more = unit_variances(weights, "conv1", stores, device=CPU, precision=FP64, pictures=99, batch_size=2, workers=1)
    np.testing.assert_allclose(more, everything(weights, "conv1").var(axis=(0, 2, 3)), rtol=1e-9)


def test_pictures_must_be_there_and_fit(weights, stores, tmp_path):
    """An empty store and one of another size are told before the network runs."""
    empty = write_store(tmp_path / "c", [], [], ["x", "y", "z"])
    with pytest.raises(DataError, match="no picture is to be looked at"):
        unit_variances(weights, "conv1", [empty], device=CPU, precision=FP64)
    small = write_store(tmp_path / "d", [bytes(3 * 8 * 8)], [0], ["x", "y", "z"], size=8)
    with pytest.raises(DataError, match="pictures of 8x8"):
        unit_variances(weights, "conv1", [stores[0], small], device=CPU, precision=FP64)


def test_most_varying_by_hand():
    """The greatest first, of equals the one that was named first, and only among those that are asked about."""
    variances = np.array([1.0, 5.0, 5.0, 0.0, 9.0])
    assert most_varying(variances, range(5), 3) == [4, 1, 2]
    assert most_varying(variances, [3, 2, 1, 0], 3) == [2, 1, 0]
    with pytest.raises(AlexNetError, match="4 units were asked for among 3") as caught:
        most_varying(variances, [0, 1, 2], 4)
    assert caught.value.hint == "--top 3 takes them all"
