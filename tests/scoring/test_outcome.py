from __future__ import annotations

from itertools import permutations, product

import pytest

from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.outcome import (
    candidate_verdict,
    defense_verdict,
    exit_code,
    protocol_verdict,
    run_verdict,
    uncovered,
    utility_verdict,
)
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.results import Verdict

POLICY = Policy()
CHANNELS = ("activation", "cut-gradient", "control")
COVERS = {"inverter": ("activation", "reconstruction"), "labels": ("cut-gradient", "label"), "extra": ("output", "identity")}


def verdict(status, *covers):
    return Verdict(status=status, reasons=("because",), covers=frozenset(covers))


def defense(required=None, **statuses):
    pairings = {name: verdict(status, COVERS[name]) for name, status in statuses.items()}
    return defense_verdict(pairings, CHANNELS, POLICY, required=required)


def test_defense_rules_in_order():
    assert defense(inverter="PASS", labels="PASS").status == "PASS"
    assert defense(inverter="FAIL", labels="ERROR").status == "FAIL"
    assert defense(inverter="PASS", labels="ERROR", extra="REVIEW").status == "ERROR"
    assert defense(inverter="PASS", labels="PASS", extra="REVIEW").status == "REVIEW"
    assert defense(inverter="PASS", labels="PASS", extra="N/A").status == "PASS"


def test_an_optional_error_is_still_no_pass():
    result = defense(required=["inverter", "labels"], inverter="PASS", labels="PASS", extra="ERROR")
    assert result.status == "REVIEW"
    assert "extra" in result.reasons[0]


def test_a_channel_without_a_valid_adaptive_attack_is_a_review_that_names_it():
    result = defense(inverter="PASS")
    assert result.status == "REVIEW"
    assert any("cut-gradient by label" in reason for reason in result.reasons)
    result = defense_verdict({"a": verdict("PASS")}, ["activation"], POLICY)
    assert result.status == "REVIEW"


def test_errors_and_absent_pairings_cover_nothing():
    for status in ("ERROR", "N/A"):
        assert uncovered([verdict(status, ("activation", "reconstruction"))], ["activation"], POLICY) == (
            ("activation", "reconstruction"),
        )


def test_a_defense_needs_at_least_one_pass():
    assert defense_verdict({}, [], POLICY).status == "REVIEW"
    assert defense_verdict({"a": verdict("N/A")}, [], POLICY).status == "REVIEW"


def test_defense_verdict_does_not_depend_on_the_order_of_attacks():
    statuses = {"inverter": "REVIEW", "labels": "ERROR", "extra": "PASS"}
    results = {defense(**{name: statuses[name] for name in order}) for order in permutations(statuses)}
    assert len(results) == 1


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(-0.05, 0.01, "PASS"), (-0.08, -0.051, "FAIL"), (-0.051, 0.1, "REVIEW"), (-0.1, -0.05, "REVIEW")],
)
def test_utility(low, high, status):
    assert utility_verdict(Interval(low, high, "x", 0.9), POLICY).status == status


def test_missing_dice_is_an_error():
    assert utility_verdict(None, POLICY).status == "ERROR"


def test_utility_never_offsets_privacy():
    for privacy, utility in product(("PASS", "FAIL", "REVIEW", "ERROR", "N/A"), repeat=2):
        result = candidate_verdict(verdict(privacy), verdict(utility)).status
        assert (result == "PASS") == (privacy == utility == "PASS")
        assert (result == "FAIL") == ("FAIL" in (privacy, utility))


def protocol(require, *statuses, candidates=()):
    policy = POLICY.model_copy(update={"require": require, "candidates": candidates})
    return protocol_verdict({f"d{i}": verdict(s) for i, s in enumerate(statuses)}, policy)


@pytest.mark.parametrize(
    ("statuses", "any_", "all_"),
    [
        (("PASS", "FAIL", "ERROR"), "PASS", "FAIL"),
        (("REVIEW", "FAIL"), "REVIEW", "FAIL"),
        (("ERROR", "FAIL"), "ERROR", "FAIL"),
        (("FAIL", "FAIL"), "FAIL", "FAIL"),
        (("PASS", "REVIEW", "ERROR"), "PASS", "ERROR"),
        (("PASS", "PASS"), "PASS", "PASS"),
        ((), "REVIEW", "REVIEW"),
        (("N/A",), "REVIEW", "REVIEW"),
    ],
)
def test_protocol_over_candidates(statuses, any_, all_):
    assert protocol("any", *statuses).status == any_
    assert protocol("all", *statuses).status == all_
    assert protocol("any", *reversed(statuses)).status == any_


def test_only_candidates_count_and_a_missing_one_is_an_error():
    assert protocol("all", "PASS", "FAIL", candidates=("d0",)).status == "PASS"
    assert protocol("all", "PASS", "FAIL", candidates=("d0", "d7")).status == "ERROR"
    assert "limits were tightened" in protocol("any", "PASS", "FAIL").reasons[-1]
    assert len(protocol("any", "PASS").reasons) == 1


def test_the_run_is_its_worst_protocol():
    for statuses, expected in (
        (("PASS", "FAIL", "ERROR"), "FAIL"), (("PASS", "ERROR", "REVIEW"), "ERROR"), (("PASS", "REVIEW"), "REVIEW"),
        (("PASS", "PASS"), "PASS"), ((), "REVIEW"), (("N/A", "PASS"), "PASS"), (("N/A",), "REVIEW"),
    ):  # fmt: skip
        for order in permutations(statuses):
            assert run_verdict({f"p{i}": verdict(s) for i, s in enumerate(order)}).status == expected


def test_synthetic_patients_are_said_to_be_synthetic():
    assert run_verdict({"p": verdict("PASS")}, synthetic=True).reasons[-1].startswith("Synthetic patients")
    assert not any("Synthetic" in r for r in run_verdict({"p": verdict("PASS")}).reasons)


@pytest.mark.parametrize(
    ("status", "never", "fail", "review"),
    [("PASS", 0, 0, 0), ("FAIL", 0, 3, 3), ("REVIEW", 0, 0, 4), ("ERROR", 0, 0, 4), ("N/A", 0, 0, 4)],
)
def test_exit_codes(status, never, fail, review):
    assert [exit_code(status, on) for on in ("never", "fail", "review")] == [never, fail, review]
    assert exit_code(status) == review
