"""A tiny audit in this process: the engine's own plan and cells, without its processes."""

from __future__ import annotations

import contextlib
import importlib
import json
import random
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from leakaudit.engine.cells.train import open_training
from leakaudit.engine.child import CleanChild
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.jobs import Job
from leakaudit.engine.plan import Plan
from leakaudit.engine.planner import make_plan
from leakaudit.engine.store import RunStore
from leakaudit.engine.training import Training
from leakaudit.plugins.targets import import_target
from leakaudit.recipes.loading import load_recipe
from leakaudit.testing.subject import PROTOCOLS

__all__ = ["Stage", "as_in_a_cell"]

_DATA: dict[str, Any] = {
    "use": "leakaudit/phantom",
    "params": {"patients": 30, "size": 32, "slices": 1, "sites": 2, "visits": 2},
    "split": {"members": 8, "validation": 4, "test": 2, "non_members": 8, "auxiliary": 8, "attacked": 4},
}


@contextlib.contextmanager
def as_in_a_cell(seed: int = 0) -> Iterator[None]:
    """Compute on one thread and deterministically, with global generators seeded; everything is put back afterwards."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    numbers, arrays = random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # Stored cohorts are memory maps that nothing writes to.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)
        torch.set_deterministic_debug_mode(mode)
        torch.set_num_threads(threads)


class _Here:
    """Stands in for the clean child: runs the foreign code in this process and keeps the folder it was given."""

    sandbox = "none"

    def __init__(self, keep: Path) -> None:
        self._keep = keep

    def call(self, target: str, folder: Path) -> Mapping[str, Any]:
        """Run `target` on `folder`."""
        shutil.copytree(folder, self._keep, dirs_exist_ok=True)
        return cast("Mapping[str, Any]", import_target(target)(folder))


@dataclass(frozen=True)
class _Context(Context):
    """What a cell's runner gets; nobody listens to its log."""

    def _send(self, message: dict[str, Any]) -> None:
        pass


@dataclass
class Stage:
    """Plans tiny recipes and runs their cells here.

    Attributes:
        folder: Where the run store and the views lie.
        views: Folder that an attack cell gave its attack, by the cell's key.
    """

    folder: Path
    views: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = RunStore(self.folder / "store")

    def plan(
        self, *, protocols: Sequence[Mapping[str, Any]] | None = None, defenses: Sequence[Mapping[str, Any]] = (),
        attacks: Sequence[Mapping[str, Any]] = (), seed: int = 0,
    ) -> Plan:  # fmt: skip
        """Plan a recipe on 30 synthetic patients; by default under the three built-in protocols."""
        built_in = [{"use": name, "params": params} for name, params in PROTOCOLS.items()]
        document = {
            "version": 1, "name": "conformance", "seed": seed, "data": _DATA, "protocols": list(protocols or built_in),
            "defenses": list(defenses), "attacks": list(attacks), "run": {"device": "cpu"},
        }  # fmt: skip
        path = self.folder / "recipe.yaml"
        path.write_text(json.dumps(document))  # JSON is YAML
        return make_plan(load_recipe(path))

    def run(self, plan: Plan, *kinds: str) -> None:
        """Run the plan's cells of these kinds that are not in the store yet."""
        for job in plan.jobs:
            if job.kind in kinds and not self.store.has(job.key):
                module, _, function = job.spec["runner"].partition(":")
                with as_in_a_cell():
                    getattr(importlib.import_module(module), function)(job.spec, self._context(job))

    def training(self, plan: Plan, key: str) -> Training:
        """Return the training of a train cell, ready to run."""
        self.run(plan, "cohort")
        job = next(job for job in plan.jobs if job.key == key)
        return open_training(job.spec, self._context(job))

    def _context(self, job: Job) -> Context:
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        self.views[job.key] = scratch / "given"
        return _Context(job, self.store, scratch, -1, cast("CleanChild", _Here(scratch / "given")))
