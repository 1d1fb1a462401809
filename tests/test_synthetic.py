"""Training on made-up pictures: all parts of a step, no files."""

import math

import pytest

from alexnet_cli.core.synthetic import train_synthetic
from alexnet_cli.core.train import TrainOptions
from tests.conftest import ROOT
from tests.networks import narrow


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("gpus", "towers"), [(1, None), (2, None), (2, 1)])
def test_made_up_pictures(tmp_path, monkeypatch, gpus, towers):
    """So many steps are counted on so many ranks, the loss of noise is near ln 1,000, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    recipe = narrow(learning_rate=1e-6)
    options = TrainOptions(
        data=tmp_path / "none", runs=tmp_path / "none", recipe=recipe, gpus=gpus, towers=towers, device="cpu", limit_steps=2
    )
    result = train_synthetic(options)
    assert (result.steps, result.ranks, result.towers) == (2, gpus, 2 if (gpus, towers) == (2, None) else 1)
    assert result.images_per_second == pytest.approx(2 * recipe.batch_size / result.seconds)
    assert result.loss == pytest.approx(math.log(1000), abs=0.3)
    assert not list(tmp_path.iterdir())
