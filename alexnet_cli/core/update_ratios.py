"""How large a step is beside the weights that it changes, as the authors' program printed it for every layer.

A training that goes well moves its weights by about a thousandth a step: far less and it stands still, far more and it diverges.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def update_ratios(
    parameters: Mapping[str, Tensor],
    velocities: Mapping[str, Tensor],
    rates: Mapping[str, float],
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> dict[str, dict[str, float]]:
    """Return for each parameter mean |w|, mean |dw| of the last step, and the second over the first.

    velocities: torch's momentum buffers b, as a step changes w by -rate * b. rates: those of the last step, 0 for a frozen
    parameter; their names are the ones answered for. total: sums a tensor over the ranks that hold parts of the parameters;
    parts that several ranks hold alike do not change a mean. A ratio to weights that are all zero is 0.
    """
    rows = []
    for name, rate in rates.items():
        weights, velocity = parameters.get(name), velocities.get(name)
        if weights is None or velocity is None:  # another rank holds it
            rows.append(torch.zeros(3, device=next(iter(parameters.values())).device))
        else:
            count = weights.new_tensor(weights.numel())
            rows.append(torch.stack([count, weights.detach().abs().sum(), rate * velocity.abs().sum()]).float())
    found = zip(rates, total(torch.stack(rows)).tolist(), strict=True)
    return {name: _means(count, weight_sum, change_sum) for name, (count, weight_sum, change_sum) in found}


def _means(count: float, weight_sum: float, change_sum: float) -> dict[str, float]:
    ratio = change_sum / weight_sum if weight_sum else 0.0
    return {"mean_weight": weight_sum / count, "mean_change": change_sum / count, "ratio": ratio}
