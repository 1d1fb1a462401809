"""AlexNet (Krizhevsky, Sutskever, Hinton, NIPS 2012), from the raw archives to the paper's numbers and pictures."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_cli.core.errors import AlexNetError as AlexNetError
    from alexnet_cli.core.features import Features as Features
    from alexnet_cli.core.predict import ClassProbability as ClassProbability
    from alexnet_cli.core.predict import Failure as Failure
    from alexnet_cli.core.predict import Model as Model
    from alexnet_cli.core.predict import Prediction as Prediction
    from alexnet_cli.core.predict import load as load
    from alexnet_cli.core.prepare import prepare as prepare
    from alexnet_cli.core.recipe import Recipe as Recipe
    from alexnet_cli.core.recipes import original as original
    from alexnet_cli.core.recipes import small as small
    from alexnet_cli.core.reports import Reporter as Reporter
    from alexnet_cli.core.train import train as train
    from alexnet_cli.core.train_job import TrainOptions as TrainOptions
    from alexnet_cli.core.train_job import TrainResult as TrainResult

__version__ = "0.1.0"

# What docs/api.md describes, and the module of core that has it. It is imported when it is asked for: torch takes over a second.
PUBLIC = {
    "AlexNetError": "errors",
    "ClassProbability": "predict",
    "Failure": "predict",
    "Features": "features",
    "Model": "predict",
    "Prediction": "predict",
    "Recipe": "recipe",
    "Reporter": "reports",
    "TrainOptions": "train_job",
    "TrainResult": "train_job",
    "load": "predict",
    "original": "recipes",
    "prepare": "prepare",
    "small": "recipes",
    "train": "train",
}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"alexnet_cli.core.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])


# torch reads this when it first allocates. Large pages halve the time of everything that runs through memory on the CPU: the
# normalisation of 128 images of conv1 takes 0.24 s with them and 0.50 s without.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
