"""Planted controls: where an attack finds little undefended, the engine finds out whether it is broken or the channel quiet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import TOYS, Audit, Machine, tiny

BOTH = ("none", "toy-noise")
RECIPE = tiny("planted", defenses=["toy-noise"])
RECIPE["data"]["params"]["patients"] = 46
RECIPE["data"]["split"] = {"members": 12, "validation": 4, "test": 2, "non_members": 12, "auxiliary": 16, "attacked": 12}
RECIPE["protocols"][0]["params"] |= {"cut": 1, "rounds": 6, "training": {"batch_size": 4, "learning_rate": 0.01}}
# The bars are .5 for both: what 12 patients can show.
RECIPE["policy"] = {"membership_max": 0.1, "control_factor": 5}
RECIPE["attacks"] = [
    {"use": "toy-reader", "name": "deep"},
    {"use": "toy-reader", "name": "both", "params": {"levels": ["level0", "level1"]}, "only": {"defenses": ["none"]}},
    {"use": "toy-reader", "name": "blind", "params": {"works": False}},
    {"use": "toy-reader", "name": "shallow", "params": {"levels": ["level0"], "works": False}},
    {"use": "toy-tapper", "name": "tapper", "only": {"defenses": ["none"]}},
    {"use": "toy-tapper", "name": "stubborn", "params": {"stubborn": True}},
    {"use": "toy-asker", "name": "asker"},
    {"use": "toy-asker", "name": "mute", "params": {"way": "nothing"}},
]


@pytest.fixture(scope="module")
def place(machine: Machine) -> Machine:
    if "leakaudit-depths" not in machine.allowed:
        machine.install("leakaudit_depths", TOYS / "leakaudit_depths")
        machine.allowed.append("leakaudit-depths")
    return machine


@pytest.fixture(scope="module")
def audit(place: Machine) -> Audit:
    return place.run(place.write(RECIPE), place.root / "planted")


def planted(audit: Audit, attack: str, endpoint: str, defense: str = "none") -> dict[str, Any] | None:
    found = [e for e in audit.pairing(attack, defense)["endpoints"] if e["name"] == endpoint]
    assert len(found) == 1
    return found[0]["controls"]["planted"]


def labels(audit: Audit) -> list[str]:
    kept = json.loads((audit.store.root / "run.json").read_text())
    return [f"{kind} {label}" for kind, label in kept["cells"].values() if "planted" in label]


def test_the_same_attack_on_the_shallowest_level_tells_a_quiet_channel_from_a_broken_attack(audit: Audit) -> None:
    works = planted(audit, "deep", "client-0/level1 fidelity")
    assert works is not None
    assert works["passed"] is True
    assert works["value"] > 0.5
    assert works["n"] == 12
    assert "level0, on one undefended training" in works["criterion"]
    assert planted(audit, "deep", "client-0/level1 identity", "toy-noise")["passed"] is True
    assert audit.pairing("deep")["status"] == "control"
    assert audit.pairing("deep", "toy-noise")["status"] == "REVIEW"
    assert any("cannot tell a safe channel from a weak attack" in r for r in audit.pairing("deep", "toy-noise")["reasons"])
    assert planted(audit, "blind", "client-0/level1 fidelity")["passed"] is False
    for defense in BOTH:
        broken = audit.pairing("blind", defense)
        assert broken["status"] == "ERROR"
        assert "attack broken" in broken["reasons"][0]


def test_what_the_attack_reports_of_the_shallowest_level_anyway_is_the_control(audit: Audit) -> None:
    level0 = next(e for e in audit.pairing("both")["endpoints"] if e["name"] == "client-0/level0 fidelity")
    assert level0["controls"]["planted"] is None
    own = planted(audit, "both", "client-0/level1 fidelity")
    assert (own["value"], own["ci"]) == (level0["leakage"]["value"], level0["leakage"]["ci"])
    assert not [label for label in labels(audit) if "by both" in label]


def test_an_endpoint_of_the_shallowest_level_is_not_its_own_control(audit: Audit) -> None:
    """A cut so deep that nothing is found on its only level would be called a broken attack."""
    missing = planted(audit, "shallow", "client-0/level0 fidelity")
    assert missing["value"] is None
    assert "already comes from the shallowest level" in missing["reason"]
    assert audit.pairing("shallow", "toy-noise")["status"] == "REVIEW"
    assert not [label for label in labels(audit) if "by shallow" in label]


def test_taps_alone_move_an_attack_and_one_that_cannot_move_has_no_control(audit: Audit) -> None:
    assert planted(audit, "tapper", "client-0/level1 fidelity")["passed"] is True
    missing = planted(audit, "stubborn", "client-0/level1 fidelity", "toy-noise")
    assert (missing["value"], missing["passed"]) == (None, None)
    assert "written for level1" in missing["reason"]
    assert audit.pairing("stubborn")["status"] == "control"
    assert audit.pairing("stubborn", "toy-noise")["status"] == "REVIEW"
    assert any("No planted control: " in r for r in audit.pairing("stubborn", "toy-noise")["reasons"])


def test_membership_is_tried_on_patients_who_are_ten_times_in_the_training(audit: Audit) -> None:
    works = planted(audit, "asker", "candidates", "toy-noise")
    assert works["passed"] is True
    assert works["value"] > audit.pairing("asker")["endpoints"][0]["leakage"]["value"]
    assert "10 times in one undefended training" in works["criterion"]
    review = audit.pairing("asker", "toy-noise")
    assert review["status"] == "REVIEW"
    assert any("cannot tell a safe channel from a weak attack" in r for r in review["reasons"])
    assert audit.pairing("mute", "toy-noise")["status"] == "ERROR"


def test_what_is_planted_is_computed_once_in_the_first_training_and_called_so(audit: Audit) -> None:
    found = labels(audit)
    assert found.count("train split/none planted") == 1
    assert {"attack split/none planted by asker", "attack split/none planted by mute"} <= set(found)
    assert "attack split/none by deep planted on level0" in found
    assert "score split/none by tapper planted on level0" in found
    assert not [label for label in found if "toy-noise" in label or "repeat" in label]
    assert all(label in audit.output for label in found), "progress shows the second phase too"


def test_a_second_run_and_another_policy_use_what_is_stored(place: Machine, audit: Audit, tmp_path: Path) -> None:
    again = place.run(audit.recipe, audit.out)
    assert again.report["cells"]["computed"] == 0
    # What cannot be had is tried again: an attack that is blocked or fails has no result.
    assert again.report["cells"]["failed"] == 2
    assert planted(again, "asker", "candidates") == planted(audit, "asker", "candidates")
    lax = tmp_path / "lax.yaml"
    lax.write_text(yaml.safe_dump({"membership_max": 0.1, "control_factor": 2, "min_repeats": 1}))
    code, output = place.call("report", audit.out, "--policy", lax)
    assert code == 0, output
    assert planted(audit, "asker", "candidates")["passed"] is True
    assert "2 x 0.1" in planted(audit, "asker", "candidates")["criterion"]


def test_too_few_patients_ask_for_nothing(place: Machine) -> None:
    few = tiny("planted-few", attacks=["toy-asker", "toy-reader"])
    few["protocols"][0]["params"]["cut"] = 1
    audit = place.run(place.write(few), place.root / "planted-few")
    assert labels(audit) == []
    missing = planted(audit, "toy-reader", "client-0/level1 fidelity")
    assert "fewer than 10 patients" in missing["reason"]
