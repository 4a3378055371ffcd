"""Keys of cells: hashes of canonical JSON, so that equal work has an equal name on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "digest", "environment"]

_GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


def canonical_json(value: Any) -> str:
    """Write `value` as the one JSON text that stands for it: sorted keys, no spaces, ASCII only.

    Args:
        value: Nested dicts with text keys, lists or tuples, text, whole numbers, finite floats, booleans and None.

    Returns:
        The JSON text. Tuples are written as lists; `1` and `1.0` differ.

    Raises:
        TypeError: Something has no canonical form (a set, an object, a key that is not text), with the place it stands at.
        ValueError: A float is NaN or infinite.
    """
    _check(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of `canonical_json(value)` as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def environment(device: str, threads: int, deterministic: bool) -> dict[str, Any]:
    """Describe what can change the last bits of a result, without importing torch.

    One and two threads give different weights after ten steps, each repeatable, so the thread count is part of it.

    Args:
        device: Torch device, for example `cpu` or `cuda:0`; only its class counts.
        threads: Number of torch threads of a job.
        deterministic: Whether deterministic algorithms are enforced.

    Returns:
        JSON-able facts: torch version, Python minor version, machine, device class, accelerator names, threads, determinism.
    """
    device_class = device.split(":", 1)[0]
    return {
        "torch": metadata.version("torch"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "machine": platform.machine(),
        "device": device_class,
        "accelerators": _accelerators() if device_class == "cuda" else [],
        "threads": int(threads),
        "deterministic": bool(deterministic),
    }


def _accelerators() -> list[str]:
    """Names of the NVIDIA models the driver lists, sorted, without duplicates; empty where it lists none."""
    names = set()
    for information in _GPU_FOLDER.glob("*/information"):
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model:"):
                names.add(line.removeprefix("Model:").strip())
    return sorted(names)


def _check(value: Any, place: str) -> None:
    """Raise unless `value` has exactly one JSON form; `place` names it in the message."""
    if value is None or isinstance(value, (bool, str, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}, but a key can hold only finite numbers.")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r} of type {type(key).__name__}, but keys must be text.")
            _check(item, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]")
    else:
        raise TypeError(f"{place} is a {type(value).__name__}, which has no canonical JSON form.")
