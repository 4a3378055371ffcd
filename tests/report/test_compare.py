from __future__ import annotations

import copy
import math
from types import ModuleType
from typing import Any

import pytest

from leakaudit.report.base import Measured
from leakaudit.report.compare import Changes, compare_reports, difference
from leakaudit.report.model import Report

PLACE = ("split", "gaussian-noise", "model-inversion")


@pytest.fixture
def plain(factory: ModuleType) -> dict[str, Any]:
    """A report of eight pairings as plain data, to be changed by a test."""
    return factory.make_dict(8, images=False)


def compared(a: dict[str, Any], b: dict[str, Any]) -> Changes:
    return compare_reports(Report.model_validate(a), Report.model_validate(b))


def pairing(report: dict[str, Any], place: tuple[str, str, str] = PLACE) -> dict[str, Any]:
    return next(p for p in report["pairings"] if (p["protocol"], p["defense"], p["attack"]) == place)


def set_leakage(report: dict[str, Any], value: float | None, half: float | None, **more: Any) -> None:
    leakage = pairing(report)["endpoints"][0]["leakage"]
    leakage |= {"value": value, "ci": None if value is None or half is None else [value - half, value + half], **more}


def set_dice(report: dict[str, Any], value: float | None, half: float) -> None:
    utility = report["baselines"][0]["utility"]
    utility |= {"ci": None if value is None else [value - half, value + half]}
    utility["dice"]["mean"] = value


def test_difference_of_unequal_intervals() -> None:
    """Half-widths below and above cross over: what A may be above its estimate widens the difference downwards."""
    found = difference(Measured(value=0.2, ci=[0.19, 0.24]), Measured(value=0.5, ci=[0.47, 0.62]))
    assert found.value == pytest.approx(0.3)
    assert found.ci == pytest.approx([0.3 - math.hypot(0.03, 0.04), 0.3 + math.hypot(0.12, 0.01)])
    back = difference(Measured(value=0.5, ci=[0.47, 0.62]), Measured(value=0.2, ci=[0.19, 0.24]))
    assert back.ci == pytest.approx([-0.3 - math.hypot(0.12, 0.01), -0.3 + math.hypot(0.03, 0.04)])


def test_an_estimate_outside_its_interval_adds_nothing_on_the_wrong_side() -> None:
    found = difference(Measured(value=0.5, ci=[0.1, 0.2]), Measured(value=0.5, ci=[0.4, 0.6]))
    assert found.ci == pytest.approx([-0.1, math.hypot(0.1, 0.4)])


def test_what_is_missing_is_not_decidable(plain: dict[str, Any]) -> None:
    gone, bare = copy.deepcopy(plain), copy.deepcopy(plain)
    set_leakage(gone, None, None, reason="out of memory")
    set_leakage(bare, 0.9, None)
    (change,) = compared(plain, gone).leakage
    assert (change.outcome, change.after) == ("not decidable", None)
    assert change.difference.reason == "B has no value: out of memory"
    (change,) = compared(bare, plain).leakage
    assert (change.outcome, change.difference.reason) == ("not decidable", "no interval in A")
    assert not compared(bare, plain).worse()
    assert not compared(gone, gone).leakage


def test_equal_reports_have_no_changes(plain: dict[str, Any]) -> None:
    changes = compared(plain, copy.deepcopy(plain))
    assert changes.compared == len(plain["baselines"]) + sum(len(p["endpoints"]) for p in plain["pairings"])
    assert changes == Changes(compared=changes.compared)
    assert not changes.worse()


@pytest.mark.parametrize(
    ("after", "half", "outcome"),
    [(0.40, 0.05, "worse"), (0.36, 0.05, "not significant"), (0.20, 0.05, "better"), (0.40, 0.12, "not significant")],
)
def test_leakage_is_worse_when_it_rises(plain: dict[str, Any], after: float, half: float, outcome: str) -> None:
    other = copy.deepcopy(plain)
    set_leakage(plain, 0.30, 0.05)
    set_leakage(other, after, half)
    changes = compared(plain, other)
    (change,) = changes.leakage
    assert (change.protocol, change.defense, change.attack) == PLACE
    assert change.endpoint == "masked-ssim (activation, client-0, level0)"
    assert change.outcome == outcome
    assert changes.worse() is (outcome == "worse")


@pytest.mark.parametrize(("after", "outcome"), [(0.70, "worse"), (0.78, "not significant"), (0.90, "better")])
def test_dice_is_worse_when_it_falls(plain: dict[str, Any], after: float, outcome: str) -> None:
    other = copy.deepcopy(plain)
    set_dice(plain, 0.80, 0.02)
    set_dice(other, after, 0.02)
    changes = compared(plain, other)
    (change,) = changes.dice
    assert (change.quantity, change.attack, change.outcome) == ("Dice", None, outcome)
    assert changes.worse() is (outcome == "worse")
    set_dice(other, None, 0)
    (change,) = compared(plain, other).dice
    assert change.outcome == "not decidable"


@pytest.mark.parametrize(
    ("before", "after", "direction"),
    [
        ("PASS", "FAIL", "worse"), ("PASS", "REVIEW", "worse"), ("PASS", "N/A", "worse"), ("REVIEW", "FAIL", "worse"),
        ("REVIEW", "ERROR", "worse"), ("REVIEW", "PASS", "better"), ("FAIL", "REVIEW", "better"), ("FAIL", "ERROR", "other"),
    ],
)  # fmt: skip
def test_statuses(plain: dict[str, Any], before: str, after: str, direction: str) -> None:
    other = copy.deepcopy(plain)
    pairing(plain).update(status=before, reasons=["because"])
    pairing(other).update(status=after, reasons=["because"])
    changes = compared(plain, other)
    (change,) = changes.statuses
    assert (change.of, change.where, change.before, change.after) == ("pairing", " / ".join(PLACE), before, after)
    assert change.direction == direction
    assert changes.worse() is (direction == "worse")


def test_a_worse_verdict_and_utility_count(plain: dict[str, Any]) -> None:
    plain["verdict"] = {"status": "PASS", "exit_code": 0}
    other = copy.deepcopy(plain)
    other["verdict"] = {"status": "REVIEW", "exit_code": 4}
    changes = compared(plain, other)
    assert changes.worse()
    assert changes.verdict is not None
    assert changes.verdict.direction == "worse"
    assert not compared(other, plain).worse()
    other["verdict"] = plain["verdict"]
    plain["baselines"][1]["utility"]["status"] = "PASS"
    other["baselines"][1]["utility"]["status"] = "FAIL"
    assert [(s.of, s.direction) for s in compared(plain, other).statuses] == [("utility", "worse")]


def test_what_only_one_has(plain: dict[str, Any]) -> None:
    other = copy.deepcopy(plain)
    other["pairings"].remove(pairing(other))
    last = pairing(plain, ("federated", "none", "model-inversion"))["endpoints"].pop()
    first = plain["baselines"][0]
    other["baselines"] = [b for b in other["baselines"] if b["defense"] != first["defense"] or b["protocol"] != first["protocol"]]
    changes = compared(plain, other)
    assert changes.only_a == [f"baseline {first['protocol']} / {first['defense']}", f"pairing {' / '.join(PLACE)}"]
    assert changes.only_b == [f"endpoint federated / none / model-inversion / {last['name']} ({last['channel']}, client-0)"]
    assert not changes.worse()


def test_an_endpoint_that_occurs_twice_is_compared_twice(plain: dict[str, Any]) -> None:
    endpoints = pairing(plain)["endpoints"]
    endpoints.append(copy.deepcopy(endpoints[0]))
    other = copy.deepcopy(plain)
    pairing(other)["endpoints"][-1]["leakage"].update(value=5.0, ci=[4.9, 5.1])
    (change,) = compared(plain, other).leakage
    assert (change.after, change.outcome) == (5.0, "worse")


def test_warnings(plain: dict[str, Any]) -> None:
    other = copy.deepcopy(plain)
    other["leakaudit_version"] = "0.2.0"
    other["data"]["sha256"] = "cd" * 32
    other["policy"]["thresholds"][0]["value"] = 0.05
    other["policy"]["require"] = "all"
    set_leakage(other, 0.3, 0.1, scope="this trained model, 36 patients")
    version, data, policy, scope = compared(plain, other).warnings
    assert version == "The versions of leakaudit differ: 0.1.0 and 0.2.0."
    assert data.startswith("The data differ")
    assert policy.startswith("The policies differ in leakage_max, require:")
    assert scope.startswith("Some intervals speak of one trained model only")
    plain["data"]["sha256"] = None
    assert (
        "Whether both runs saw the same data is unknown: a report has no digest of its cohort." in compared(plain, other).warnings
    )
