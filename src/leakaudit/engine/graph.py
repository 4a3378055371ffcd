"""The graph of cells that a plan consists of: jobs, each once, under the key of everything that can change its numbers."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from leakaudit.engine.jobs import Job
from leakaudit.engine.keys import digest
from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.sources import source_digest
from leakaudit.recipes.models import RunSettings

__all__ = ["Graph", "core_digest", "resolve_device"]

_FOREVER = 30 * 24 * 3600.0
_CELLS = "leakaudit.engine.cells."
_ROOMS = ("attacks", "cohorts", "defenses", "engine", "models", "plugins", "protocols", "wire")
"""Rooms whose code decides a cell's numbers; scoring is added for score cells, so that metrics change without attacking."""


def resolve_device(device: str) -> str:
    """Return the device for `"auto"` without importing torch: CUDA where the driver and a CUDA build are present."""
    if device != "auto":
        return device
    return "cuda" if Path("/dev/nvidiactl").exists() and not version("torch").endswith("+cpu") else "cpu"


@functools.cache
def core_digest(*rooms: str) -> str:
    """Return the SHA-256 of the sources of some of leakaudit's rooms."""
    total = hashlib.sha256()
    root = Path(str(files("leakaudit")))
    for room in (*sorted(rooms), "facts.py", "threats.py"):
        path = root / room
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


@dataclass(kw_only=True)
class Graph:
    """The cells of one plan.

    Attributes:
        settings: How the run is computed.
        device: Device that cells use.
        env: What can change the last bits of a result.
        jobs: Cells by key.
    """

    settings: RunSettings
    device: str
    env: dict[str, Any]
    jobs: dict[str, Job] = field(default_factory=dict)

    def add(self, kind: str, label: str, key: str, runner: str, spec: dict[str, Any], inputs: list[str], **extra: Any) -> str:
        """Add a cell unless it is there, and return its key."""
        settings = self.settings
        whole = {
            **spec, "runner": _CELLS + runner, "device": self.device, "threads": settings.threads,
            "deterministic": settings.determinism, "precision": settings.precision,
        }  # fmt: skip
        if key not in self.jobs:
            self.jobs[key] = Job(
                key=key, kind=kind, label=label, spec=whole, inputs=tuple(inputs), cpus=settings.threads,
                gpus=1 if self.device != "cpu" and kind in ("train", "record", "shadows", "attack") else 0,
                wall_s=settings.cell_timeout_s or _FOREVER, environment=digest(self.env), **extra,
            )  # fmt: skip
        return key

    def key_of(self, kind: str, spec: dict[str, Any], *plugins: Plugin, rooms: tuple[str, ...] = _ROOMS) -> str:
        """Return the key of a cell: everything that can change its numbers, and nothing else."""
        sources = {p.distribution: source_digest(p.distribution) for p in plugins if p.third_party or p.distribution != "leakaudit"}
        facts = {"environment": self.env, "precision": self.settings.precision}
        return digest({"kind": kind, "spec": spec, "sources": sources, "core": core_digest(*rooms), **facts})
