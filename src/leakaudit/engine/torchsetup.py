"""Threads and determinism of a job's process: they change the last bits, so they are set, not left to chance."""

from __future__ import annotations

import sys

__all__ = ["set_up_torch", "thread_variables"]


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables for libraries that read them late (and for processes that the job starts)."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def set_up_torch(threads: int, deterministic: bool) -> None:
    """Set torch's thread count and, if asked, enforce deterministic algorithms; nothing when torch is not loaded.

    Args:
        threads: Threads for one operation, at least 1.
        deterministic: Raise wherever torch has no deterministic algorithm, and keep cuDNN from choosing by measurement.
    """
    if "torch" not in sys.modules:
        return
    import torch

    torch.set_num_threads(threads)
    # Does what use_deterministic_algorithms does, without its import of the compiler, which takes seconds.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
