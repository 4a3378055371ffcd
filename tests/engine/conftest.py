from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leakaudit.engine import worker
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.keys import digest
from leakaudit.engine.store import RunStore

# Job processes import the toy runners by name; they take over this process's import path.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "store")


@pytest.fixture
def make_job() -> Callable[..., Job]:
    """`make_job("write", inputs=(...), value=3)`: a job of the toy runner, with a key from its name and spec."""

    def make(runner: str, label: str = "", inputs: tuple[str, ...] = (), job: dict[str, Any] | None = None, **spec: Any) -> Job:
        fields = dict(job or {})
        spec = {"runner": f"toy_runners:{runner}", **spec}
        key = digest({"spec": spec, "label": label, "inputs": inputs})
        return Job(key, fields.pop("kind", "toy"), label or runner, spec, inputs, **fields)

    return make


@pytest.fixture
def run(store: RunStore) -> Callable[..., Outcome]:
    """Run one job as an executor does."""

    def start(job: Job, environment: str = "", **more: Any) -> Outcome:
        return worker.main(job.to_json(), str(store.root), environment, **more)

    return start
