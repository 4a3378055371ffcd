from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakaudit.scoring.controls import ControlResult
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.results import ClaimResult, EndpointResult, PairingResult
from leakaudit.scoring.verdicts import limit_of, pairing_verdict, patients_needed

POLICY = Policy()


def control(kind="positive", value=0.6, low=0.5, passed=True):
    return ControlResult(kind=kind, value=value, low=low, high=0.7, criterion="x", passed=passed)


MISSED = control(value=0.05, low=0.01, passed=False)
QUIET = EndpointResult(
    name="ssim",
    channel="activation",
    family="reconstruction",
    value=0.02,
    interval=Interval(0.01, 0.04, "x"),
    fail_low=0.005,
    pass_high=0.05,
    per_patient=tuple(np.linspace(0.0, 0.04, 40)),
    patients=40,
    repeats=3,
    positive=control(),
    negative=control("negative", value=0.0, low=-0.1),
)
MEMBER = replace(QUIET, name="membership", channel="model", family="membership", kind="membership", per_patient=())
CLAIM = ClaimResult(outcome="NOT REFUTED", claimed=8, bound=1, ceiling=9, covers="update, patient")


def pairing(*endpoints, **changes):
    base = {"protocol": "split", "defense": "noise", "attack": "inverter", "adaptive": True, "endpoints": endpoints or (QUIET,)}
    return PairingResult(**{**base, **changes})


def judge(*endpoints, **changes):
    return pairing_verdict(pairing(*endpoints, **changes), POLICY)


def tail(n, above, **changes):
    return replace(QUIET, patients=n, per_patient=(0.5,) * above + (0.0,) * (n - above), **changes)


def test_pass_says_what_it_does_not_say():
    verdict = judge()
    assert verdict.status == "PASS"
    assert verdict.reasons[0] == "These attacks, on these patients, stayed below the limit. A stronger attack may not."
    assert "worst of 40 was 0.040; up to 7 % of such patients may be worse" in verdict.reasons[1]
    assert verdict.covers == {("activation", "reconstruction")}


DOUBTS = {
    "few patients": (tail(35, 0), "35 patients are too few to pass; 36 are needed"),
    "indicative": (tail(9, 0), "The interval is indicative"),
    "values only": (tail(4, 0, interval=None), "4 patients give values only"),
    "few repeats": (replace(QUIET, repeats=2), "2 training runs: another may leak more"),
    "one repeat": (replace(QUIET, repeats=1), "One training run: another may leak more"),
    "upper bound": (replace(QUIET, pass_high=0.101), "upper bound 0.101 is above the limit 0.1"),
    "no upper bound": (replace(QUIET, pass_high=None), "no upper bound"),
    "one patient": (tail(40, 1), "1 of 40 patients are above 0.3"),
    "worse than guessing": (replace(QUIET, interval=Interval(-0.2, -0.06, "x"), pass_high=-0.05), "worse than guessing"),
    "unresolvable": (replace(QUIET, value=None, resolvable=False), "cannot resolve"),
    "unstable": (replace(QUIET, stable=False), "unstable"),
    "confounded": (replace(QUIET, confounded=True), "confounded: site, scanner or intensity alone tell members apart."),
    "confounded by": (
        replace(MEMBER, confounded=True, blind=(0.41, Interval(0.2, 0.6, "x"))),
        "alone tell members apart (they reach 0.410)",
    ),
    "smoke test": (replace(MEMBER, patients=9), "a smoke test"),
    "others' evidence": (
        replace(tail(40, 1), patient_bar=0.56, above_bar=0),
        "Evidence about somebody else reaches 0.560, and 0 of 40 patients are above that.",
    ),
    "control missed": (
        replace(QUIET, positive=MISSED),
        "the attack recovered 0.050 undefended (lower bound 0.010); below 3 times",
    ),
    "no control": (replace(QUIET, positive=None), "was not run without defense"),
    "quiet channel": (
        replace(QUIET, positive=MISSED, planted=control("planted")),
        "cannot tell a safe channel from a weak attack",
    ),
    "planted undecided": (
        replace(QUIET, positive=MISSED, planted=control("planted", 0.4, 0.2, passed=None)),
        "A planted leak, of which it found 0.400 (lower bound 0.200), decides nothing.",
    ),
    "nothing planted": (
        replace(QUIET, positive=MISSED, no_planted="the attack cannot do that"),
        "its failure means nothing. No planted control: the attack cannot do that.",
    ),
    "no shuffle": (replace(QUIET, negative=None), "no control with shuffled messages"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_every_doubt_is_a_review_with_its_reason(name):
    endpoint, words = DOUBTS[name]
    verdict = judge(endpoint)
    assert verdict.status == "REVIEW"
    assert len(verdict.reasons) == 2
    assert words in verdict.reasons[0]
    assert verdict.reasons[-1] == "REVIEW is not a mild PASS: the evidence cannot decide."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adaptive": False}, "not adaptive"),
        ({"converged": False}, "did not converge"),
        ({"claim": replace(CLAIM, outcome="UNTESTABLE")}, "could have shown at most epsilon = 9.00"),
    ],
)
def test_doubts_of_the_pairing(changes, words):
    verdict = judge(**changes)
    assert verdict.status == "REVIEW"
    assert words in verdict.reasons[0]


def test_a_shown_leak_fails_without_adaptivity_control_or_repeats():
    leaking = replace(QUIET, value=0.5, fail_low=0.11, pass_high=0.9, repeats=1, positive=None, negative=None)
    verdict = judge(leaking, adaptive=False, converged=False)
    assert verdict.status == "FAIL"
    assert "corrected for the number of endpoints, is 0.110" in verdict.reasons[0]
    assert judge(replace(leaking, fail_low=0.10)).status == "REVIEW"


def test_the_mean_cannot_fail_below_ten_patients_but_the_tail_can_from_five_on():
    loud = {"value": 0.5, "fail_low": 0.2, "pass_high": 0.9}
    assert judge(tail(9, 0, **loud)).status == "REVIEW"
    assert judge(tail(10, 0, **loud)).status == "FAIL"
    assert judge(tail(5, 5)).status == "FAIL"
    assert judge(tail(4, 4)).status == "REVIEW"


@pytest.mark.parametrize(("n", "k"), [(10, 3), (20, 4), (30, 5), (50, 7), (100, 11)])
def test_tail_rule(n, k):
    assert judge(tail(n, k)).status == "FAIL"
    assert judge(tail(n, k - 1)).status == "REVIEW"


def test_a_refuted_claim_fails_and_epsilon_alone_never_passes():
    verdict = judge(claim=replace(CLAIM, outcome="REFUTED", bound=8.5))
    assert verdict.status == "FAIL"
    assert "epsilon 8 for update, patient is refuted: at least 8.50" in verdict.reasons[0]
    epsilon = replace(MEMBER, name="epsilon", kind="epsilon", value=0.1, pass_high=1.0, interval=Interval(0.1, 1.0, "x"))
    assert judge(epsilon, claim=CLAIM).status == "REVIEW"
    assert judge(claim=CLAIM).status == "PASS"
    assert judge(QUIET, epsilon, claim=CLAIM).status == "PASS"
    assert judge(QUIET, replace(epsilon, fail_low=0.21)).status == "FAIL"


ERRORS = {
    "crash": ((), {"error": "The worker ran out of memory."}),
    "nothing": ((), {"endpoints": ()}),
    "nan": ((replace(QUIET, value=float("nan")),), {}),
    "nan patient": ((replace(QUIET, per_patient=(float("nan"), *QUIET.per_patient[1:])),), {}),
    "infinite": ((replace(QUIET, pass_high=float("inf")),), {}),
    "missing value": ((replace(QUIET, value=None),), {}),
    "missing patient": ((replace(QUIET, per_patient=QUIET.per_patient[1:]),), {}),
    "shuffle": ((replace(QUIET, negative=control("negative", 0.3, 0.2, passed=False)),), {}),
    "broken": ((replace(QUIET, positive=MISSED, planted=control("planted", 0.01, 0.0, passed=False)),), {}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_come_before_any_other_word(name):
    endpoints, changes = ERRORS[name]
    assert judge(*endpoints, **changes).status == "ERROR"
    loud = tuple(replace(e, fail_low=0.9) for e in endpoints)
    assert judge(*loud, **changes).status == "ERROR"
    assert judge(*endpoints, **changes, undefended=True).status == "ERROR"


def test_not_applicable_comes_first_and_undefended_pairings_never_gate():
    assert judge(not_applicable="This protocol sends no updates.", error="x").status == "N/A"
    assert judge(replace(QUIET, value=0.9, fail_low=0.8), undefended=True).status == "control"


def test_membership_has_its_own_limit_and_counts_what_is_planted_in_the_same_training():
    assert limit_of(MEMBER, POLICY) == 0.20
    inside = replace(control("planted"), inside=True)
    endpoint = replace(MEMBER, pass_high=0.19, positive=MISSED, planted=inside)
    assert judge(endpoint).status == "PASS"
    assert judge(replace(endpoint, kind="leakage", per_patient=QUIET.per_patient)).status == "REVIEW"
    assert judge(replace(endpoint, planted=replace(inside, passed=None))).status == "REVIEW"
    elsewhere = judge(replace(endpoint, planted=control("planted")))
    assert elsewhere.status == "REVIEW"
    assert "cannot tell a safe channel from a weak attack" in elsewhere.reasons[0]


def test_one_endpoint_is_enough_to_fail_or_to_doubt():
    assert judge(QUIET, replace(MEMBER, fail_low=0.3)).status == "FAIL"
    assert judge(QUIET, replace(MEMBER, repeats=1)).status == "REVIEW"


def test_only_controlled_adaptive_endpoints_cover():
    both = (QUIET, replace(MEMBER, positive=MISSED))
    assert judge(*both).covers == {("activation", "reconstruction")}
    assert judge(*both, adaptive=False).covers == frozenset()


def test_the_order_of_endpoints_and_patients_does_not_matter():
    rng = np.random.default_rng(0)
    endpoints = (tail(40, 3), replace(MEMBER, pass_high=0.5), replace(QUIET, name="identity", stable=False))
    first = judge(*endpoints)
    for _ in range(10):
        shuffled = [replace(e, per_patient=tuple(rng.permutation(e.per_patient))) for e in endpoints]
        assert judge(*(shuffled[i] for i in rng.permutation(3))) == first


def test_a_stricter_tail_needs_more_patients():
    assert patients_needed(POLICY) == 36
    strict = Policy.model_validate({"tail_share": 0.05})
    assert patients_needed(strict) == 72
    assert pairing_verdict(pairing(), strict).status == "REVIEW"


def test_what_cannot_be_resolved_cannot_fail():
    """Over hardly any room noise makes any leakage of a patient: neither the mean nor the tail shows anything."""
    noisy = replace(tail(40, 20), value=None, resolvable=False, fail_low=0.5)
    assert judge(noisy).status == "REVIEW"
    assert judge(replace(noisy, value=0.7, resolvable=True)).status == "FAIL"


def test_a_lucky_patient_of_a_coarse_endpoint_is_not_held_against_it():
    lucky = tail(50, 2, coarse=True)
    assert judge(replace(lucky, above_bar=0)).status == "PASS"
    assert judge(replace(lucky, coarse=False, above_bar=0)).status == "REVIEW"
    assert judge(lucky).status == "REVIEW"  # nothing was exchanged: luck cannot be told from a leak
    verdict = judge(replace(lucky, above_bar=1))
    assert verdict.status == "REVIEW"
    assert "1 of 50 patients are above 0.3 and above what evidence about others reaches" in verdict.reasons[0]


def test_many_patients_above_both_bars_of_a_coarse_endpoint_fail():
    assert judge(tail(50, 7, coarse=True, above_bar=7)).status == "FAIL"
    assert judge(tail(50, 7, coarse=True, above_bar=2)).status == "REVIEW"
