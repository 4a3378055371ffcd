"""Attack seeds: several runs of one attack on the same recording, and what the report makes of their spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .conftest import TOYS, Audit, Machine, tiny


def recipe(name: str, **seeds: int) -> dict[str, Any]:
    """Return a recipe with an attack that draws how well it does."""
    # What the defense lets through would be a FAIL, whatever the spread.
    plain = tiny(name, repeats=2, defenses=["toy-noise"], policy={"patient_max": 0.99, "tail_fail": 0.98})
    entry = {"use": "toy-reader", "params": {"levels": ["level0"], "jitter": 0.6}}
    plain["attacks"] = [{**entry, "name": label, "seeds": count} for label, count in seeds.items()]
    return plain


@pytest.fixture(scope="module")
def place(machine: Machine) -> Machine:
    if "leakaudit-depths" not in machine.allowed:
        machine.install("leakaudit_depths", TOYS / "leakaudit_depths")
        machine.allowed.append("leakaudit-depths")
    return machine


@pytest.fixture(scope="module")
def audit(place: Machine) -> Audit:
    return place.run(place.write(recipe("seeds", thrice=3, once=1)), place.root / "seeds")


def leakage(audit: Audit, attack: str, defense: str = "none") -> dict[str, Any]:
    (found,) = [e for e in audit.pairing(attack, defense)["endpoints"] if e["name"] == "client-0/level0 fidelity"]
    return dict(found["leakage"])


def values(audit: Audit, repeat: int, defense: str = "none") -> list[float]:
    """Return the leakage of each run of the attack on one training."""
    found = []
    for seed in (1, 2, 3):
        score = audit.data("score", f"split/{defense} (repeat {repeat}) by thrice (seed {seed})", "score.json")
        (fidelity,) = [e for e in score["evidence"][0]["endpoints"] if e["name"] == "fidelity"]
        s, c, a = (np.array(fidelity[k]) for k in ("score", "chance", "anchor"))
        found.append(float((s - c).sum() / (a - c).sum()))
    return found


def test_runs_differ_and_the_report_has_their_mean_and_spread(audit: Audit) -> None:
    by_repeat = [values(audit, 1), values(audit, 2)]
    assert all(len(set(found)) == 3 for found in by_repeat)
    shown = leakage(audit, "thrice")
    assert shown["attack_seeds"] == 3
    assert shown["seed_spread"] == pytest.approx(max(max(v) - min(v) for v in by_repeat))
    assert shown["value"] == pytest.approx(np.mean(by_repeat), abs=0.02)  # the room above chance is the same in all runs
    assert audit.pairing("thrice")["repeats"] == 2
    assert (leakage(audit, "once")["attack_seeds"], leakage(audit, "once")["seed_spread"]) == (1, None)


def test_runs_that_differ_by_more_than_the_limit_are_unstable(audit: Audit) -> None:
    assert leakage(audit, "thrice", "toy-noise")["seed_spread"] > 0.1
    assert any("unstable: attack seeds differ" in r for r in audit.pairing("thrice", "toy-noise")["reasons"])
    assert not any("unstable" in r for r in audit.pairing("once", "toy-noise")["reasons"])


def test_the_first_run_has_the_key_that_it_has_alone(place: Machine, audit: Audit) -> None:
    alone = place.cells(place.write(recipe("seeds-alone", thrice=1)))
    before, now = ({(c["kind"], c["label"]): c["key"] for c in cells} for cells in (alone, audit.cells))
    for repeat in (1, 2):
        for kind in ("attack", "score"):
            place_ = f"split/none (repeat {repeat}) by thrice"
            assert before[kind, place_] == now[kind, f"{place_} (seed 1)"]
    records = {c["key"] for c in audit.cells if c["kind"] == "record"}
    assert len(records) == 4, "one recording of each training serves all runs"


def test_more_than_ten_runs_are_refused(place: Machine) -> None:
    code, output = place.call("validate", place.write(recipe("seeds-many", thrice=11)))
    assert code == 2
    assert "seeds" in output
    assert "10" in output
