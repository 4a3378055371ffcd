"""Which planted control an endpoint has: one at hand, a computed one, or none and why."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from leakaudit.engine.merge import Merged, merge
from leakaudit.engine.plan import Pairing, Planted
from leakaudit.engine.planted import PlantedControls
from leakaudit.engine.planting import Wanted
from leakaudit.engine.store import RunStore
from leakaudit.facts import Flow, ProtocolFacts, SeatFacts
from leakaudit.scoring.policy import Policy

FACTS = ProtocolFacts(
    protocol="split", seats=(SeatFacts(id="client-0", role="client"), SeatFacts(id="server", role="server")),
    flows=(Flow(channel="activation", sender="client", receiver="server", names=("level0", "level1")),), rounds=1,
    spatial_dims=2, normalization="none", levels=("level0", "level1"),
)  # fmt: skip
UNDEFENDED = Pairing(protocol="split", defense="none", attack="toy")
DEFENDED = Pairing(protocol="split", defense="noise", attack="toy")
PLANTED = Planted(protocol="split", attack="toy", way="level", channel="activation", level="level0", score="ab12")


def score(levels: dict[str | None, float], n: int = 12, room: float = 1.0) -> dict[str, Any]:
    """Return a score cell with a mean leakage for each level."""
    patients = [f"p{i:02d}" for i in range(n)]
    evidence = []
    for level, value in levels.items():
        gains = room * (value + np.linspace(-0.02, 0.02, n))
        endpoint = {
            "name": "fidelity", "patients": patients, "score": gains.tolist(), "chance": [0.0] * n, "anchor": [room] * n,
            "chance_name": "mean", "raw": {}, "exchange": None,
        }  # fmt: skip
        piece = {"name": f"at-{level}", "channel": "activation", "seat": "client-0", "level": level, "shuffled": None}
        evidence.append({**piece, "endpoints": [endpoint], "pictures": []})
    return {"evidence": evidence}


def controls(tmp_path: Path, cell: dict[str, Any], *planted: Planted) -> PlantedControls:
    merged: dict[str, Merged] = merge([cell], "endpoints", 0)
    plan = SimpleNamespace(
        pairings=(UNDEFENDED, DEFENDED), baselines=(SimpleNamespace(protocol="split", facts=FACTS),), planted=planted
    )
    return PlantedControls(
        plan, RunStore(tmp_path / "store"), Policy(), undefended=lambda p: merged if p is UNDEFENDED else {},  # type: ignore[arg-type]
        failure=lambda keys: "The cell failed: no decoder.", seed=0,
    )  # fmt: skip


def keep(tmp_path: Path, cell: dict[str, Any]) -> None:
    with RunStore(tmp_path / "store").write(PLANTED.score, {"kind": "score", "sensitive": True}) as folder:
        (folder / "score.json").write_text(json.dumps(cell))


def test_nothing_is_asked_for_where_the_attack_works(tmp_path: Path) -> None:
    found = controls(tmp_path, score({"level1": 0.5}))
    assert found.wanted() == []
    assert found.of(DEFENDED, "at-level1 fidelity") == (None, None)
    assert found.of(DEFENDED, "at-level9 fidelity") == (None, None)


def test_a_missed_control_asks_for_the_shallowest_level_once(tmp_path: Path) -> None:
    cell = score({"level1": 0.05})
    (wanted,) = controls(tmp_path, cell).wanted()
    assert wanted == Wanted(protocol="split", attack="toy", way="level", channel="activation", level="level0")
    assert controls(tmp_path, cell, PLANTED).wanted() == []
    assert controls(tmp_path, cell).of(DEFENDED, "at-level1 fidelity") == (None, "none was run")


@pytest.mark.parametrize(("value", "passed"), [(0.5, True), (0.02, False), (0.2, None)])
def test_what_was_computed_is_judged(tmp_path: Path, value: float, passed: bool | None) -> None:
    keep(tmp_path, score({"level0": value}))
    control, reason = controls(tmp_path, score({"level1": 0.05}), PLANTED).of(DEFENDED, "at-level1 fidelity")
    assert reason is None
    assert control is not None
    assert (control.kind, control.passed, control.patients, control.inside) == ("planted", passed, 12, False)
    assert control.value == pytest.approx(value)


def test_the_attacks_own_shallowest_level_is_taken_first(tmp_path: Path) -> None:
    found = controls(tmp_path, score({"level0": 0.6, "level1": 0.05}))
    assert found.wanted() == []
    control, reason = found.of(DEFENDED, "at-level1 fidelity")
    assert reason is None
    assert control is not None
    assert control.passed is True


UNRESOLVED = {"evidence": [*score({"level1": 0.05})["evidence"], *score({"level0": 0.5}, room=0.1)["evidence"]]}


@pytest.mark.parametrize(
    ("cell", "planted", "reason"),
    [
        (score({"level1": 0.05}, n=8), (), "with fewer than 10 patients it would decide nothing"),
        (score({"level0": 0.05}), (), "the evidence already comes from the shallowest level that the channel carries"),
        (score({None: 0.05}), (), "the evidence comes from no level of a cut, and is not about membership"),
        (score({"level1": 0.05}), (PLANTED,), "The cell failed: no decoder"),
        (UNRESOLVED, (), "fidelity cannot be judged on level0 either"),
    ],
)
def test_none_and_why(tmp_path: Path, cell: dict[str, Any], planted: tuple[Planted, ...], reason: str) -> None:
    found = controls(tmp_path, cell, *planted)
    name = next(f"{piece['name']} fidelity" for piece in cell["evidence"])
    assert found.of(DEFENDED, name) == (None, reason)
    assert found.wanted() == []


def test_evidence_of_another_kind_is_no_control(tmp_path: Path) -> None:
    keep(tmp_path, score({"level1": 0.9}))
    found = controls(tmp_path, score({"level1": 0.05}), PLANTED)
    assert found.of(DEFENDED, "at-level1 fidelity") == (
        None,
        "the attack returned nothing about fidelity from level0 that can be judged",
    )
