import os

import pytest
import torch

from alexnet_cli.core import devices
from alexnet_cli.core.devices import Precision, choose_device, choose_precision, cpu_flags, has_native_bf16, settle
from alexnet_cli.core.errors import DeviceError

CPU = torch.device("cpu")
needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_cpu_is_always_there():
    """The processor can be asked for by name."""
    assert choose_device("cpu") == CPU


def test_auto_takes_what_is_there():
    """Without a wish the device is one on which a tensor can be made."""
    assert torch.zeros(1, device=choose_device()).device.type == choose_device().type


@needs_no_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_without_gpu(name):
    """A GPU asked for where there is none is an error that names the way out."""
    with pytest.raises(
        DeviceError, match=f"device {name} was asked for, but this PyTorch .* (finds no GPU|was built without CUDA)"
    ) as caught:
        choose_device(name)
    assert caught.value.hint == 'use --device cpu, or look at the driver with "alexnet doctor"'


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has mps")
def test_mps_elsewhere():
    """Apple's GPU asked for on another machine is an error that names the way out."""
    with pytest.raises(DeviceError, match="device mps was asked for, but it exists only on Macs") as caught:
        choose_device("mps")
    assert caught.value.hint == "use --device cpu"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu:1", "meta", "xla"])
def test_unknown_device(name):
    """A name that is none of the four is an error that lists them."""
    with pytest.raises(DeviceError, match=f"no device named '{name}', expected one of auto, cuda, mps, cpu"):
        choose_device(name)


@pytest.mark.gpu
@needs_cuda
def test_gpu_out_of_range():
    """The number of a GPU that is not there is an error that says which are."""
    count = torch.cuda.device_count()
    with pytest.raises(DeviceError, match=f"device cuda:{count} was asked for, but the GPUs here are cuda:0 to cuda:{count - 1}"):
        choose_device(f"cuda:{count}")


def test_gpu_out_of_range_by_count():
    """The message names the last GPU, counted from zero."""
    with pytest.raises(DeviceError, match="device cuda:2 was asked for, but the GPUs here are cuda:0 to cuda:1") as caught:
        devices._require_cuda(torch.device("cuda:2"), found=2)
    assert caught.value.hint == "use --device cuda:0"


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "fp64"])
def test_precision_by_name(name):
    """A precision that is asked for is the one that is used; only fp64 has wider weights."""
    precision = choose_precision(name, CPU)
    assert precision == Precision(name)
    assert precision.dtype == (torch.float64 if name == "fp64" else torch.float32)


@pytest.mark.parametrize(
    ("name", "computed"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp64", torch.float64)]
)
def test_precision_of_a_product(name, computed):
    """Inside the context a matrix product has the type that the precision promises."""
    precision = Precision(name)
    matrix = torch.ones(2, 2, dtype=precision.dtype)
    with precision.autocast(CPU):
        assert (matrix @ matrix).dtype == computed
    assert (matrix @ matrix).dtype == precision.dtype


def test_unknown_precision():
    """A name that is no precision is an error that lists them."""
    with pytest.raises(DeviceError, match="no precision named 'int8', expected one of auto, fp32, tf32, bf16, fp16, fp64"):
        choose_precision("int8", CPU)


def test_tf32_needs_a_gpu():
    """tf32 on a processor is an error, not silently fp32."""
    with pytest.raises(
        DeviceError, match=r"precision tf32 exists on NVIDIA GPUs from compute capability 8\.0 on, not on cpu"
    ) as caught:
        choose_precision("tf32", CPU)
    assert caught.value.hint == "use --precision fp32"


def test_fp64_on_mps():
    """Apple's GPU has no float64."""
    with pytest.raises(DeviceError, match="precision fp64 does not exist on mps"):
        choose_precision("fp64", torch.device("mps"))


def test_auto_follows_the_hardware():
    """Auto is bf16 exactly where the device computes it natively, and a verb's own default goes before."""
    assert choose_precision("auto", CPU).name == ("bf16" if has_native_bf16(CPU) else "fp32")
    assert choose_precision("auto", CPU, default="fp32").name == "fp32"
    assert choose_precision("bf16", CPU, default="fp32").name == "bf16"


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="needs Linux")
def test_native_bf16_agrees_with_pytorch():
    """The flags of the kernel and PyTorch's own look at the processor agree."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if "avx512_bf16" not in capabilities:
        pytest.skip("this PyTorch does not name the processor's abilities")
    assert has_native_bf16(CPU) == bool(capabilities["avx512_bf16"] or capabilities["amx_bf16"])


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fma avx2", False), ("avx512f avx512_bf16", True), ("amx_tile amx_bf16", True), ("avx512f avx512vl", False)],
)
def test_flags_of_a_processor(tmp_path, flags, native):
    """The first processor's flags decide: AVX512-BF16 or AMX, not plain AVX-512."""
    listing = tmp_path / "cpuinfo"
    listing.write_text(f"processor\t: 0\nmodel name\t: some\nflags\t\t: fpu {flags} sse\n\nprocessor\t: 1\n", encoding="utf-8")
    assert bool(cpu_flags(listing) & devices.NATIVE_CPU_FLAGS) is native


def test_no_listing_of_flags(tmp_path):
    """Where there is no such listing, as on macOS, nothing is assumed."""
    assert cpu_flags(tmp_path / "none") == set()


def test_tf32_only_when_asked():
    """fp32 turns shortened products off in convolutions and matrix products alike, tf32 turns both on."""
    try:
        for name, on in (("tf32", True), ("fp32", False), ("tf32", True), ("bf16", False)):
            settle(Precision(name), CPU)
            assert torch.backends.cudnn.allow_tf32 is on
            assert torch.backends.cuda.matmul.allow_tf32 is on
    finally:
        settle(Precision("fp32"), CPU)


@pytest.mark.gpu
@needs_cuda
def test_fp32_convolution_is_exact_on_gpu():
    """After fp32 is applied, a convolution on the GPU is as exact as float32 is; TF32 would be a thousand times coarser."""
    settle(Precision("fp32"), CPU)
    images, kernels = torch.randn(4, 64, 32, 32), torch.randn(64, 64, 3, 3)
    exact = torch.nn.functional.conv2d(images.double(), kernels.double())
    found = torch.nn.functional.conv2d(images.cuda(), kernels.cuda()).cpu().double()
    assert ((found - exact).norm() / exact.norm()).item() < 2e-6
