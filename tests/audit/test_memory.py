"""Memory: what crossed the wire lies on disk and is read as it is needed."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from .conftest import Machine, attack, tiny

LIMIT_MB = 3000


def resident_mb(pid: int) -> float:
    """Return the memory of a process and of all its descendants, shared pages counted in proportion."""
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, ProcessLookupError):  # it ended meanwhile
        return total
    return total + sum(resident_mb(int(child)) for child in children)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_audit_of_500_slices_of_four_clients_at_four_levels_stays_small(machine: Machine) -> None:
    recipe = tiny(
        "large",
        data={
            "use": "phantom", "params": {"patients": 290, "size": 64, "slices": 2, "visits": 1, "sites": 2},
            "split": {"members": 250, "validation": 5, "test": 5, "non_members": 0, "auxiliary": 30, "attacked": 250},
        },
        protocols=[
            {
                "use": "split",
                "params": {"rounds": 1, "cut": 3, "network": {"channels": [8, 16, 32, 64]}, "training": {"batch_size": 8}},
            }
        ],
        attacks=[attack("model-inversion", iterations=3, levels="each-and-joint")],
        run={"workers": 1, "device": "cpu"},
    )  # fmt: skip
    environment = machine.allowed
    machine.allowed = [*environment, "leakaudit-inversion"]
    try:
        process = machine.start("run", machine.write(recipe), "--out", machine.root / "large", "--fail-on", "never")
    finally:
        machine.allowed = environment
    peak, lines = [0.0], []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    while process.poll() is None:
        peak[0] = max(peak[0], resident_mb(process.pid))
        time.sleep(0.2)
    reader.join()
    assert process.returncode == 0, "".join(lines)
    logs = [*(machine.root / "large").rglob("messages/index.jsonl")]
    recorded = sum(len(json.loads(line)["samples"]) for log in logs for line in log.read_text().splitlines())
    assert recorded == 4 * 500, "every client's 500 slices were recorded"
    assert 200 < peak[0] < LIMIT_MB, f"{peak[0]:.0f} MB"
