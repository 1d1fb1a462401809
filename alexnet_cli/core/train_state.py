"""What changes while a network is trained, how one step changes it, and how it is put on disk and taken up again."""

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import RunError
from alexnet_cli.core.model import AlexNet, dropout_keys
from alexnet_cli.core.optim import UpdateRule
from alexnet_cli.core.rates import Rates
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.resume import ResumeState
from alexnet_cli.core.schedule import PlateauState
from alexnet_cli.core.snapshot import Snapshot
from alexnet_cli.core.towers import GradientSums, Layout
from alexnet_cli.core.views import Colours


@dataclass
class TrainState:
    """A network in training.

    network, update, scaler: weights, velocities, and float16's scale of the loss. sums: adds up the gradients of all
    replicas. seed: of every draw. step: steps made.
    best: figures of the best epoch so far, empty before the first. plateau: what the schedule of that name remembers.
    colours: mean and components of the training pictures.
    """

    network: AlexNet
    update: UpdateRule
    sums: GradientSums
    precision: Precision
    colours: Colours
    seed: int
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    plateau: PlateauState = field(default_factory=PlateauState)

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
    sums = GradientSums(layout, list(network.parameters()))
    return TrainState(network, UpdateRule(dict(network.named_parameters()), recipe), sums, precision, colours, seed, scaler)


def train_step(
    state: TrainState, views_BCHW: Tensor, labels_B: Tensor, rates: Rates, *, first_image: int = 0, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Make one step of stochastic gradient descent.

    views_BCHW, labels_B: the whole batch, or this replica's part of it from `first_image` on, which is a `share` of 0-1 of its
    images; on the device. Returns this rank's part of the loss (mean over the batch) and of the top-1 error (0-1) before the
    step, as tensors, so that the host need not wait; the sum over all ranks is the whole, and tower b's part is zero.
    """
    state.update.set_rates(rates)
    device = state.layout.device
    keys = dropout_keys(state.network.recipe, state.seed, state.step, device, first_image)
    with state.precision.autocast(device):
        logits_BK = state.network(views_BCHW, keys)
    loss = wrong = logits_BK
    if state.layout.scores:
        logits_BK = logits_BK.to(state.precision.dtype)
        loss = F.cross_entropy(logits_BK, labels_B) * share
        wrong = (logits_BK.detach().argmax(1) != labels_B).to(loss.dtype).mean() * share
    if loss.requires_grad:  # not where tower b is frozen whole and tower a goes on with fc8
        (loss if state.scaler is None else state.scaler.scale(loss)).backward()
    state.sums.finish()
    state.update.step(state.scaler)
    state.step += 1
    return loss.detach(), wrong.detach()


def last_change(state: TrainState) -> tuple[dict[str, nn.Parameter], dict[str, Tensor], dict[str, float]]:
    """Return parameters and velocities as held here, and by every parameter's name the rate of the last step, 0 if frozen."""
    parameters = dict(state.network.named_parameters())
    held = {name: state.update.rates.get(name, 0.0) * parameter.requires_grad for name, parameter in parameters.items()}
    names = [f"{layer}.{kind}" for layer in state.network.recipe.layers for kind in ("weight", "bias")]
    return parameters, state.update.velocities(), {name: held.get(name, 0.0) for name in names}


def take_weights(state: TrainState) -> Snapshot:
    """Return a copy of the whole weights on rank 0, an empty one on the others; every rank must call it."""
    return Snapshot(state.layout.gather(dict(state.network.named_parameters())))


def take_first_layer(state: TrainState) -> Snapshot:
    """Return a copy of the first layer's whole kernels on rank 0, an empty one on the others; every rank must call it."""
    name = f"{state.network.recipe.layers[0]}.weight"
    return Snapshot(state.layout.gather({name: state.network.get_parameter(name)}))


def take_state(state: TrainState) -> tuple[Snapshot, dict[str, Any]]:
    """Return a copy of everything that `--resume` needs, tensors and progress, on rank 0; every rank must call it."""
    weights = state.layout.gather(dict(state.network.named_parameters()))
    velocities = state.layout.gather(state.update.velocities())
    tensors = {f"weights/{name}": value for name, value in weights.items()}
    tensors |= {f"velocities/{name}": value for name, value in velocities.items()}
    scale = state.scaler.state_dict() if state.scaler else {}
    own = {"step": state.step, "seed": state.seed, "best": dict(state.best), "rates": dict(state.update.rates), "scaler": scale}
    return Snapshot(tensors), {**own, "plateau": state.plateau.to_dict(), "environment": environment(state)}


def load_state(state: TrainState, saved: ResumeState) -> None:
    """Take up what `take_state` took, in this layout. Raises RunError."""

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
        state.plateau = PlateauState.from_dict(saved.progress["plateau"])
    except (KeyError, RuntimeError) as error:
        raise RunError(f"the saved state is not that of this run's recipe and data: {error}") from error
    if state.scaler and saved.progress["scaler"]:
        state.scaler.load_state_dict(saved.progress["scaler"])


def _whole_rates(saved: dict[str, float], state: TrainState) -> dict[str, float]:
    """Return the rates by parameter; tower b has no fc8, whose rates rank 0 saved."""
    return {name: saved[name] for name in state.update.parameters if name in saved}


def environment(state: TrainState) -> dict[str, Any]:
    """Return what must be the same for a resumed run to end bit for bit like an uninterrupted one."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "device": _device_name(state.layout.device),
        "precision": state.precision.name,
        "gpus": state.layout.world,
        "towers": state.layout.towers,
        "threads": torch.get_num_threads(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines() if listing.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{device.type} {models[0] if models else platform.machine()}"
