"""What changes while a network is trained, how one step changes it, and how it is put on disk and taken up again."""

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_cli.core.checkpoint import ResumeState, Weights, load_resume, save_resume, save_weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import RunError
from alexnet_cli.core.model import AlexNet, dropout_keys
from alexnet_cli.core.optim import UpdateRule
from alexnet_cli.core.recipe import Rates, Recipe
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.views import Colours

DIVERGED = "start again with a lower --learning-rate, or with --precision fp32"


@dataclass
class TrainState:
    """A network in training.

    network, update, scaler: weights, velocities, and float16's scale of the loss. seed: of every draw. step: steps made.
    best: figures of the best epoch so far, empty before the first. colours: mean and components of the training pictures.
    """

    network: AlexNet
    update: UpdateRule
    precision: Precision
    colours: Colours
    seed: int
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """Where the towers are."""
        return self.network.layout


def new_state(recipe: Recipe, num_classes: int, precision: Precision, colours: Colours, layout: Layout, seed: int) -> TrainState:
    """Build the network with its initial weights, drawn from the seed, on the layout's device."""
    network = AlexNet(recipe, num_classes, layout=layout, seed=seed)
    # Images are stored channels last; so laid out, every layer takes them as they are.
    network = network.to(layout.device, precision.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scaler = torch.amp.GradScaler(layout.device.type) if precision.name == "fp16" else None
    return TrainState(network, UpdateRule(dict(network.named_parameters()), recipe), precision, colours, seed, scaler)


def train_step(state: TrainState, views_BCHW: Tensor, labels_B: Tensor, rates: Rates) -> tuple[Tensor, Tensor]:
    """Make one step of stochastic gradient descent.

    views_BCHW, labels_B: the whole batch, on the device. Returns loss (mean over the batch) and top-1 error (0-1) before the
    step, as tensors, so that the host need not wait; on rank 1 of 2 both are zero.
    """
    state.update.set_rates(rates)
    device = state.layout.device
    keys = dropout_keys(state.seed, state.step, device)
    with state.precision.autocast(device):
        logits_BK = state.network(views_BCHW, keys)
    loss = wrong = logits_BK
    if state.layout.rank == 0:
        logits_BK = logits_BK.to(state.precision.dtype)
        loss = F.cross_entropy(logits_BK, labels_B)
        wrong = (logits_BK.detach().argmax(1) != labels_B).to(loss.dtype).mean()
    (loss if state.scaler is None else state.scaler.scale(loss)).backward()
    state.update.step(state.scaler)
    state.step += 1
    return loss.detach(), wrong.detach()


def save_state(state: TrainState, folder: RunFolder, progress: dict[str, Any]) -> None:
    """Commit everything that `--resume` needs; every rank calls it, rank 0 writes. Raises DiskFullError."""
    weights = state.layout.gather(dict(state.network.named_parameters()))
    velocities = state.layout.gather(state.update.velocities())
    if state.layout.rank != 0:
        return
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise RunError(f"the weights are no longer finite after step {state.step}; nothing of them was saved", hint=DIVERGED)
    tensors = {f"weights/{name}": value for name, value in weights.items()}
    tensors |= {f"velocities/{name}": value for name, value in velocities.items()}
    scale = state.scaler.state_dict() if state.scaler else {}
    own = {"step": state.step, "seed": state.seed, "best": state.best, "rates": state.update.rates, "scaler": scale}
    save_resume(folder.resume, ResumeState(tensors, {**progress, **own, "environment": environment(state)}))


def load_state(state: TrainState, folder: RunFolder) -> dict[str, Any]:
    """Take up what `save_state` committed, in this layout; return its progress. Raises CheckpointError, RunError."""
    saved = load_resume(folder.resume)

    def held(kind: str, name: str) -> Tensor:
        whole = saved.tensors[f"{kind}/{name}"]
        return whole[state.layout.rows(name.split(".")[0], len(whole))]

    try:
        with torch.no_grad():
            for name, parameter in state.network.named_parameters():
                parameter.copy_(held("weights", name))
        rates = _whole_rates(saved.progress["rates"], state)
        state.update.load({name: held("velocities", name) for name in state.update.parameters}, rates)
        state.step, state.best = int(saved.progress["step"]), dict(saved.progress["best"])
    except (KeyError, RuntimeError) as error:
        raise RunError(f"the state in {folder.resume} is not that of this run's recipe and data: {error}") from error
    if state.scaler and saved.progress["scaler"]:
        state.scaler.load_state_dict(saved.progress["scaler"])
    return saved.progress


def _whole_rates(saved: dict[str, float], state: TrainState) -> dict[str, float]:
    """Return the rates by parameter; rank 1 has no fc8, whose rates rank 0 saved."""
    return {name: saved[name] for name in state.update.parameters if name in saved}


def save_weights_file(
    state: TrainState, folder: RunFolder, store: Any, epoch: int, accuracy: dict[str, float], *, best: bool
) -> None:
    """Write last.safetensors, and best.safetensors too if told so; every rank calls it, rank 0 writes."""
    tensors = state.layout.gather(dict(state.network.named_parameters()))
    if state.layout.rank != 0:
        return
    mean = state.colours.mean_CHW.to("cpu", torch.float32)
    weights = Weights(state.network.recipe, store.classes, store.words, tensors, mean, state.step, epoch, accuracy)
    for path in (folder.last, folder.best) if best else (folder.last,):
        save_weights(path, weights)


def environment(state: TrainState) -> dict[str, Any]:
    """Return what must be the same for a resumed run to end bit for bit like an uninterrupted one."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "device": _device_name(state.layout.device),
        "precision": state.precision.name,
        "gpus": state.layout.world,
        "threads": torch.get_num_threads(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines() if listing.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{device.type} {models[0] if models else platform.machine()}"
