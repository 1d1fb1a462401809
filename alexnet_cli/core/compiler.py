"""Whether torch.compile works on this machine, found out by trying."""

import logging
import warnings

import torch


def compile_problem(device: torch.device) -> str:
    """Compile and run one addition on the device; return why that failed in one line, or "" where it worked.

    A compiler is missing on many machines, and its presence alone proves little (headers, a writable cache, Triton).
    """
    # It says on every compilation that there is no GPU, which nobody asked.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(lambda x: x * 2 + 1, dynamic=False)(torch.ones(64, device=device))
    except Exception as error:  # whatever a compiler, a linker or a file system may raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return (lines[0] if lines else type(error).__name__)[:200]
    return ""
