"""The update rule and its drops of the rate, free of data and files.

v <- 0.9 v - 0.0005 e w - e g;  w <- w + v   (paper 5), with the learning rate e inside the velocity v, own rates for biases, and
no decay for them. It runs on torch's fused SGD, which keeps b = -v / e instead of v and multiplies by the current e; so that a
drop of e leaves v as it is, b is multiplied by e_old / e_new at the drop.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from alexnet_cli.core.rates import Rates
from alexnet_cli.core.recipe import Recipe


class UpdateRule:
    """Stochastic gradient descent as the paper and the 2012 code run it.

    parameters: by name, "conv1.weight" to "fc8.bias", as far as they are held here.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: Recipe) -> None:
        self.parameters = dict(parameters)
        self.recipe = recipe
        # The rate each velocity is expressed in; stays at the last one above 0 while a parameter is frozen.
        self.rates: dict[str, float] = {}
        groups = [
            {"params": [parameter], "weight_decay": recipe.bias_weight_decay if name.endswith("bias") else recipe.weight_decay}
            for name, parameter in self.parameters.items()
        ]
        # Fused is one pass over the memory instead of four; it exists for the devices that people train on.
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in self.parameters.values())
        self.sgd = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=fused)

    def set_rates(self, rates: Rates) -> None:
        """Take the learning rates of the coming step; a parameter with rate 0 is frozen, its velocity too."""
        for group, (name, parameter) in zip(self.sgd.param_groups, self.parameters.items(), strict=True):
            layer, kind = name.split(".")
            rate = rates.weights[layer] if kind == "weight" else rates.biases[layer]
            parameter.requires_grad_(rate > 0)
            if rate > 0:
                self._rescale(name, self.rates.get(name, rate) / rate)
                self.rates[name] = group["lr"] = rate

    def _rescale(self, name: str, factor: float) -> None:
        buffer = self.sgd.state[self.parameters[name]].get("momentum_buffer")
        if factor != 1 and buffer is not None and self.recipe.rate_inside_velocity:
            buffer.mul_(factor)

    def step(self, scaler: torch.amp.GradScaler | None = None) -> None:
        """Change the parameters by their gradients, and forget the gradients. scaler: that of a float16 run."""
        if scaler is None:
            self.sgd.step()
        else:
            scaler.step(self.sgd)
            scaler.update()
        self.sgd.zero_grad(set_to_none=True)

    def velocities(self) -> dict[str, Tensor]:
        """Return what carries over from step to step, -v / e by parameter name; zero where there was no step yet."""
        return {
            name: self.sgd.state[parameter].get("momentum_buffer", torch.zeros_like(parameter)).detach()
            for name, parameter in self.parameters.items()
        }

    def load(self, velocities: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        """Continue from what `velocities` and `rates` were; velocities in the shapes held here."""
        for name, parameter in self.parameters.items():
            self.sgd.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(velocities[name]).detach()
        self.rates = dict(rates)
