"""Which device computes, and in which arithmetic."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch

from alexnet_cli.core.errors import DeviceError
from alexnet_cli.core.memory import reuse_memory

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp64")
NATIVE_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}  # as /proc/cpuinfo spells them


@dataclass(frozen=True)
class Precision:
    """An arithmetic: fp32, tf32 (fp32 with shortened products on CUDA), bf16 and fp16 (mixed, weights in fp32) or fp64."""

    name: str

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the network's input: float64 for fp64, else float32."""
        return torch.float64 if self.name == "fp64" else torch.float32

    @property
    def product_dtype(self) -> torch.dtype:
        """Type in which convolutions and products are computed: bfloat16 for bf16, float16 for fp16, else that of the weights."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.name, self.dtype)

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """Return the context in which a forward pass runs: torch.autocast for bf16 and fp16, nothing for the others."""
        is_mixed = self.product_dtype != self.dtype
        return torch.autocast(device.type, self.product_dtype) if is_mixed else contextlib.nullcontext()


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name: "cuda", "cuda:1", "mps", "cpu", or "auto" for the first of these that is here.

    Raises DeviceError for an unknown name and for a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _unknown_device(name) from error
    if device.type not in DEVICES or (device.type == "cpu" and device.index):
        raise _unknown_device(name)
    if device.type == "cuda":
        _require_cuda(device, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps was asked for, but it exists only on Macs with Apple's processors", hint="use --device cpu")
    return device


def _unknown_device(name: str) -> DeviceError:
    return DeviceError(f"no device named {name!r}, expected one of {', '.join(DEVICES)}")


def _require_cuda(device: torch.device, found: int) -> None:
    if found == 0:
        reason = "finds no GPU" if torch.backends.cuda.is_built() else "was built without CUDA"
        raise DeviceError(
            f"device {device} was asked for, but this PyTorch ({torch.__version__}) {reason}",
            hint='use --device cpu, or look at the driver with "alexnet doctor"',
        )
    if (device.index or 0) >= found:
        raise DeviceError(
            f"device {device} was asked for, but the GPUs here are cuda:0 to cuda:{found - 1}", hint="use --device cuda:0"
        )


def choose_precision(name: str, device: torch.device, *, default: str = "auto") -> Precision:
    """Return the arithmetic of that name on a device.

    name: one of PRECISIONS, or "auto" for `default`; if that is "auto" too: bf16 where the hardware computes it natively
    (CUDA from 8.0 on, processors with AMX or AVX512-BF16), else fp32.
    Raises DeviceError for an unknown name and for an arithmetic that the device does not have.
    """
    name = default if name == "auto" else name
    if name == "auto":
        name = "bf16" if has_native_bf16(device) else "fp32"
    if name not in PRECISIONS:
        raise DeviceError(f"no precision named {name!r}, expected one of auto, {', '.join(PRECISIONS)}")
    if name == "tf32" and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise DeviceError(
            f"precision tf32 exists on NVIDIA GPUs from compute capability 8.0 on, not on {device}", hint="use --precision fp32"
        )
    if name == "fp64" and device.type == "mps":
        raise DeviceError("precision fp64 does not exist on mps", hint="use --precision fp32 or --device cpu")
    return Precision(name)


def has_native_bf16(device: torch.device) -> bool:
    """Say whether the hardware multiplies bfloat16 itself; elsewhere bf16 is emulated and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(cpu_flags() & NATIVE_CPU_FLAGS)


def cpu_flags(listing: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Return what the processor says it can do, in Linux's words; empty on other systems."""
    try:
        lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))


def settle(precision: Precision, device: torch.device) -> None:
    """Set what a process keeps globally before it computes: how products of float32 are shortened, and how it keeps memory.

    Shortened products are on for tf32 alone, in convolutions and matrix products alike: PyTorch's own defaults differ between
    the two, so that float32 convolutions would be tf32 unasked.
    """
    torch.backends.cudnn.allow_tf32 = precision.name == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision.name == "tf32"
    if device.type == "cpu":
        reuse_memory()
