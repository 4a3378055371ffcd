"""Killed at any point and started again, a run ends with the numbers of one that was never killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Audit, Machine, attack, tiny

VOLATILE = {"created", "seconds", "cells", "cost", "patient", "peak_memory_mb"}


def numbers(value: Any) -> Any:
    """Return a report without what may differ between runs: times, counts of cells, pseudonyms."""
    if isinstance(value, dict):
        return {k: numbers(v) for k, v in value.items() if k not in VOLATILE}
    return [numbers(v) for v in value] if isinstance(value, list) else value


def recipe() -> dict[str, Any]:
    both = ("none", "toy-noise")
    attacks = [attack("toy-rider", defenses=both), attack("toy-guess", defenses=both), attack("toy-canary")]
    plain = tiny("resume", defenses=["toy-noise"], attacks=attacks)
    plain["run"]["workers"] = 1
    plain["protocols"][0]["params"]["rounds"] = 8  # long enough to be killed in the middle
    return plain


@pytest.fixture(scope="session")
def whole(machine: Machine) -> Audit:
    return machine.run(machine.write(recipe()), machine.root / "whole")


def finished(out: Path) -> int:
    return len(list((out / "store" / "cells").glob("*/[0-9a-f]*/entry.json")))


def kill_when(machine: Machine, path: Path, out: Path, reached: Callable[[], bool]) -> bool:
    """Run and kill the command's process once something is so; False when the run ended before."""
    process = machine.start("run", path, "--out", out, "--fail-on", "never")
    alive = machine.wait_for(process, reached)
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    return alive


def writing(out: Path) -> bool:
    return any((out / "store" / "cells").glob("*/.*"))


def test_killed_and_resumed_runs_end_with_the_same_numbers(machine: Machine, whole: Audit) -> None:
    out = machine.root / "killed"

    def training() -> bool:
        """Whether the first training has sent messages and is not stored yet."""
        return finished(out) == 1 and any(machine.scratch.rglob("000003.safetensors"))

    points = [training, lambda: finished(out) >= 3]
    assert all(kill_when(machine, whole.recipe, out, point) for point in points)
    assert not list(machine.scratch.glob("leakaudit*")), "what lies in temporary folders goes with the run"
    before = finished(out)
    resumed = machine.run(whole.recipe, out)
    assert numbers(resumed.report) == numbers(whole.report)
    assert resumed.report["cells"]["cached"] >= before
    assert not writing(out), "what killed writers left is cleaned away"


def test_the_second_run_in_a_folder_computes_nothing(machine: Machine, whole: Audit) -> None:
    before = json.loads((whole.out / "report.json").read_text())
    again = machine.run(whole.recipe, whole.out)
    cells = again.report["cells"]
    assert (cells["computed"], cells["failed"]) == (0, 0)
    # What the plan names, and the planted control of the canaries that hardly differ from those left out.
    planted = [
        label for _, label in json.loads((whole.out / "store" / "run.json").read_text())["cells"].values() if "planted" in label
    ]
    assert cells["cached"] == len(machine.cells(again.recipe)) + len(planted)
    assert numbers(again.report) == numbers(before)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 7, 8, 9, 10, 12])
def test_a_kill_after_any_cell_changes_nothing(machine: Machine, whole: Audit, tmp_path: Path, count: int) -> None:
    out = tmp_path / "out"
    assert kill_when(machine, whole.recipe, out, lambda: finished(out) >= count)
    assert numbers(machine.run(whole.recipe, out).report) == numbers(whole.report)


@pytest.mark.slow
def test_two_runs_in_two_folders_agree(machine: Machine, whole: Audit, tmp_path: Path) -> None:
    assert numbers(machine.run(whole.recipe, tmp_path / "out").report) == numbers(whole.report)
