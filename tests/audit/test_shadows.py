"""Shadow models in a whole audit: trained once for all attacks of a row, told apart by defense, and kept for the next run."""

from __future__ import annotations

import json

import pytest

from .conftest import TOYS, Audit, Machine, tiny

RECIPE = tiny("shades", defenses=["toy-steady", "toy-noise"])
RECIPE["attacks"] = [
    {"use": "toy-shades", "name": "looks"},
    {"use": "toy-shades", "name": "blind", "params": {"looks": False}},
]


@pytest.fixture(scope="module")
def audit(machine: Machine) -> Audit:
    if "leakaudit-shades" not in machine.allowed:
        machine.install("leakaudit_shades", TOYS / "leakaudit_shades")
        machine.allowed.append("leakaudit-shades")
    return machine.run(machine.write(RECIPE), machine.root / "shades")


def test_one_set_of_shadow_models_serves_all_attacks_of_a_row(audit: Audit) -> None:
    labels = [c["label"] for c in audit.cells if c["kind"] == "shadows"]
    assert sorted(labels) == [f"split/{d} on auxiliary+candidates" for d in ("none", "toy-noise", "toy-steady")]
    for defense in ("none", "toy-steady", "toy-noise"):
        told = audit.data("shadows", f"split/{defense} on auxiliary+candidates", "shadows.json")
        assert len(told["members"]) == 4
        assert {p["prefix"] for p in told["parts"]} == ({"encoders.0.", "encoders.1."} if defense == "toy-steady" else set())
        assert told["without"] == (["toy-noise"] if defense == "toy-noise" else [])


def test_adaptive_is_who_read_shadow_models_that_learned_under_the_defense(audit: Audit) -> None:
    found = {(d, a): audit.pairing(a, d)["adaptive"] for d in ("toy-steady", "toy-noise") for a in ("looks", "blind")}
    assert found == {
        ("toy-steady", "looks"): True, ("toy-steady", "blind"): False, ("toy-noise", "looks"): False, ("toy-noise", "blind"): False,
    }  # fmt: skip
    assert audit.pairing("looks")["status"] == "control"
    assert audit.pairing("looks", "toy-noise")["status"] == "REVIEW"


def test_a_wish_that_makes_no_sense_is_an_error_of_its_pairings_and_the_rest_goes_on(audit: Audit, machine: Machine) -> None:
    recipe = json.loads(json.dumps(RECIPE)) | {"name": "shades-broken"}
    recipe["attacks"] = [{"use": "toy-shades", "name": "none", "params": {"count": 0}}, *recipe["attacks"]]
    again = machine.run(machine.write(recipe), audit.out)
    broken = again.pairing("none", "toy-steady")
    assert broken["status"] == "ERROR"
    assert "0 shadow models" in " ".join(broken["reasons"])
    assert again.pairing("looks", "toy-steady")["adaptive"] is True
    # What the first run trained is used again.
    before = {c["key"] for c in audit.cells if c["kind"] == "shadows"}
    assert {c["key"] for c in again.cells if c["kind"] == "shadows"} == before
