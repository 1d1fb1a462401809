"""What the network is at this moment, copied so that it can be written down while training goes on."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Snapshot:
    """Copies of tensors, on the device where they are: made in milliseconds there, brought to the CPU later, by another thread."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._copies = {name: value.detach().clone() for name, value in tensors.items()}
        self._device = next((value.device for value in self._copies.values()), torch.device("cpu"))
        self._taken: torch.cuda.Event | None = None
        if self._device.type == "cuda":
            self._taken = torch.cuda.Event()
            self._taken.record(torch.cuda.current_stream(self._device))

    def on_cpu(self) -> dict[str, Tensor]:
        """Return the copies on the CPU, contiguous; on CUDA over a stream of their own, so that the training is not in the way."""
        if self._taken is None:
            return {name: value.to("cpu").contiguous() for name, value in self._copies.items()}
        stream = torch.cuda.Stream(self._device)
        stream.wait_event(self._taken)
        with torch.cuda.stream(stream):
            found = {
                name: torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
                for name, value in self._copies.items()
            }
        stream.synchronize()
        return found
