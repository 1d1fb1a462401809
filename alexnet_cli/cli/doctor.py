"""`alexnet doctor`: what this machine offers, and what will be slow or impossible on it."""

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_cli import __version__
from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import DebugOption, JsonOption, QuietOption
from alexnet_cli.cli.render import paint, print_facts, print_json, size
from alexnet_cli.core.cores import usable_cores

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "lmdb",
    "safetensors",
    "typer",
    "rich",
    "simplejpeg",
    "cykooz-resizer",
)
# By the extra that brings them: pip install 'alexnet-cli[plot]'.
OPTIONAL_PACKAGES = {
    "demo": "scikit-learn",
    "faiss": "faiss-cpu",
    "hub": "huggingface_hub",
    "onnx": "onnx",
    "parquet": "pyarrow",
    "plot": "matplotlib",
    "tensorboard": "tensorboard",
}
COMPILERS = ("g++", "clang++", "c++")
SHARED_MEMORY = Path("/dev/shm")
SMALL_SHARED_MEMORY = 1_000_000_000
SMALL_DISK = 5_000_000_000


def doctor(as_json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """Show what this machine offers and lacks.

    Versions, devices, the compiler, free disk and shared memory, and what to do where one of them will hurt.
    """
    with running(quiet=quiet, debug=debug):
        examination = examine(Path.cwd())
        print_json(examination) if as_json else _print(examination)


def examine(folder: Path) -> dict[str, Any]:
    """Return all findings; folder: where runs and data would lie."""
    findings: dict[str, Any] = {
        "alexnet": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: version for name in (*PACKAGES, *OPTIONAL_PACKAGES.values()) if (version := _version(name))},
        "missing_extras": [extra for extra, name in OPTIONAL_PACKAGES.items() if not _version(name)],
        "processor": _processor(),
        "devices": _devices(),
        "compiler": find_compiler(),
        "compile_problem": _compile_problem(),
        "free_disk": shutil.disk_usage(folder).free,
        "shared_memory": shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None,
        "lmdb": _lmdb(),
    }
    untested = list_untested([device["name"] for device in findings["devices"]])
    return {**findings, "untested": untested, "warnings": list_warnings(findings)}


def find_compiler() -> str | None:
    """Return the C++ compiler that torch.compile would take on a CPU: that of CXX, else the first on the path."""
    candidates = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    return next((found for name in candidates if (found := shutil.which(name))), None)


def list_warnings(findings: dict[str, Any]) -> list[str]:
    """Return what will be slow or fail, each with what to do."""
    warnings = []
    if findings["compile_problem"]:
        cure = "" if findings["compiler"] else "; install a C++ compiler (g++)"
        warnings.append(f"torch.compile does not work, training is slower without it: {findings['compile_problem']}{cure}")
    if not any(device["name"] != "cpu" for device in findings["devices"]):
        warnings.append("no GPU that PyTorch can use: training on ImageNet's scale would take months")
    if findings["free_disk"] < SMALL_DISK:
        warnings.append(f"only {size(findings['free_disk'])} of disk are free here: a run needs 2 GB, ImageNet's store 40 GB")
    if findings["shared_memory"] is not None and findings["shared_memory"] < SMALL_SHARED_MEMORY:
        warnings.append(
            f"/dev/shm has {size(findings['shared_memory'])}: --gpus 2 may fail with a bus error; docker: --shm-size 2g"
        )
    return warnings


def list_untested(devices: Sequence[str]) -> list[str]:
    """Return what the project's own tests have never run on devices of these names."""
    said = {
        "cuda": "cuda: everything, NCCL between several GPUs included; the tests that need one skip where there is none",
        "mps": "mps: training, evaluate, predict and filters on Apple's GPUs; several ranks do not exist there",
    }
    kinds = {name.split(":")[0] for name in devices}
    return [text for kind, text in said.items() if kind in kinds]


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    import torch

    return {
        "model": _processor_model(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _processor_model() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(errors="replace").splitlines() if listing.is_file() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _devices() -> list[dict[str, Any]]:
    import torch

    from alexnet_cli.core.devices import has_native_bf16

    devices = [
        {
            "name": f"cuda:{index}",
            "model": torch.cuda.get_device_name(index),
            "memory": torch.cuda.get_device_properties(index).total_memory,
            "bf16": has_native_bf16(torch.device("cuda", index)),
        }
        for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "model": "Apple GPU", "memory": None, "bf16": False})
    cpu = {"name": "cpu", "model": _processor_model(), "memory": _memory(), "bf16": has_native_bf16(torch.device("cpu"))}
    return [*devices, cpu]


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _compile_problem() -> str:
    """Try torch.compile where training would take place; "" where it works."""
    from alexnet_cli.core.compiler import compile_problem
    from alexnet_cli.core.devices import choose_device

    return compile_problem(choose_device())


def _lmdb() -> str:
    import lmdb

    return ".".join(str(part) for part in lmdb.version())


def _print(examination: dict[str, Any]) -> None:
    processor = examination["processor"]
    print_facts(
        [
            ("alexnet", examination["alexnet"]),
            ("python", f"{examination['python']} on {examination['system']}"),
            ("packages", ", ".join(f"{name} {version}" for name, version in examination["packages"].items())),
            ("optional", _missing(examination["missing_extras"])),
            ("processor", f"{processor['model']}, {processor['cores']} cores, {processor['instructions']}"),
            *(("device", _device(device)) for device in examination["devices"]),
            ("compiler", examination["compiler"] or "none"),
            ("torch.compile", "works" if not examination["compile_problem"] else "does not work"),
            ("free disk", f"{size(examination['free_disk'])} in this folder"),
            ("/dev/shm", size(examination["shared_memory"]) + " free" if examination["shared_memory"] is not None else "none"),
            *(("never tested", text) for text in examination["untested"]),
            ("LMDB", f"{examination['lmdb']} (the memory that it seems to use is the system's file cache)"),
        ]
    )
    for warning in examination["warnings"]:
        print(f"{paint('warning:', 'yellow', sys.stdout)} {warning}")


def _missing(extras: list[str]) -> str:
    if not extras:
        return "all installed"
    names = ", ".join(OPTIONAL_PACKAGES[extra] for extra in extras)
    return f"{names} not installed: pip install 'alexnet-cli[{','.join(extras)}]'"


def _device(device: dict[str, Any]) -> str:
    memory = f", {size(device['memory'])}" if device["memory"] else ""
    return f"{device['name']}: {device['model']}{memory}, bf16 {'native' if device['bf16'] else 'emulated'}"
