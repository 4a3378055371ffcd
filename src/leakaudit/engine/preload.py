"""Imported once by the fork server, so that a job starts in milliseconds instead of seconds.

Importing must neither start threads nor touch an accelerator: processes are forked from here.
"""

from __future__ import annotations

import importlib

__all__ = ["MISSING"]

_MODULES = (
    "numpy",
    "torch",
    "torch._dynamo",  # what the first optimizer of every process imports otherwise, in about two seconds
    "safetensors.torch",
    "scipy.stats",
    "skimage.metrics",
    "nibabel",
    "monai.networks.blocks",
    "monai.networks.nets",
    "monai.losses",
    "monai.transforms",
    # Modules, not packages, which import their own only when asked: what every job of a kind imports.
    "leakaudit.engine.cells.attack",
    "leakaudit.engine.cells.cohort",
    "leakaudit.engine.cells.score",
    "leakaudit.engine.cells.shadows",
    "leakaudit.engine.cells.train",
)


def _load(names: tuple[str, ...]) -> dict[str, str]:
    """Import what can be imported; what cannot is reported by the job that needs it, with its own message."""
    missing = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken module must break the jobs that use it, not the server
            missing[name] = f"{type(error).__name__}: {error}"
    return missing


MISSING: dict[str, str] = _load(_MODULES)
"""Modules that could not be imported, and why."""
