"""Claims are held against what canaries show: of the same channel, unit and neighbors, and of every seat that holds some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from leakaudit.defenses import Guarantee
from leakaudit.engine.claims import examined_claims, worst_claim
from leakaudit.engine.merge import Merged, merge
from leakaudit.scoring.epsilon import leakage_of_epsilon, one_run_bound

COUNT = 80
CLAIM = Guarantee(
    mechanism="DP-SGD", unit="patient", neighbors="add-or-remove", releases=(("model", "trainer"), ("output", "model")),
    epsilon=1.0, delta=1e-6, accountant="a", conversion="c", sampling="s",
)  # fmt: skip


def endpoint(shift: float, *, channel="output", seats=("site-0",), repeats=1, units=("patient",)) -> Merged:
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(repeats):
        coins = rng.uniform(size=COUNT) < 0.5
        found = {
            "name": "epsilon", "patients": [f"canary-{i:04d}" for i in range(COUNT)], "units": list(units),
            "score": (rng.normal(size=COUNT) + shift * coins).tolist(), "member": coins.tolist(),
            "site": [seats[i % len(seats)] for i in range(COUNT)],
        }  # fmt: skip
        piece = {"name": "canaries", "channel": channel, "seat": None, "level": None, "endpoints": [found], "shuffled": None}
        scores.append({"evidence": [piece]})
    return merge(scores, "endpoints", 0)["canaries"]


def training(**claims: Guarantee) -> dict[str, Any]:
    return {"guarantees": {seat: [claim.to_json()] for seat, claim in claims.items()}}


def outcome(merged: Merged, *trainings: dict[str, Any], control: float | None = 50.0, significance: float = 0.05):
    undefended = {} if control is None else {"canaries": endpoint(control, channel=merged.channel)}
    return worst_claim(list(examined_claims({"canaries": merged}, trainings, undefended, significance=significance)))


def test_a_claim_smaller_than_what_canaries_show_is_refuted():
    found = outcome(endpoint(50.0), training(trainer=CLAIM))
    assert (found.outcome, found.claimed, found.delta, found.unit) == ("REFUTED", 1.0, 1e-6, "patient")
    assert found.bound == found.ceiling == pytest.approx(one_run_bound(20, 20, 80, delta=1e-6))


def test_an_honest_claim_stands_where_the_audit_could_have_shown_more():
    assert outcome(endpoint(0.0), training(trainer=CLAIM)).outcome == "NOT REFUTED"


@pytest.mark.parametrize(
    ("claim", "control", "words"),
    [
        (replace(CLAIM, epsilon=8.0), 50.0, "not even a perfect attack"),
        (CLAIM, None, "not run without defense"),
        (CLAIM, 0.0, "without any defense the same audit shows no more than 0.00"),
    ],
)
def test_what_the_audit_could_not_have_shown_is_untestable(claim, control, words):
    found = outcome(endpoint(0.0), training(trainer=claim), control=control)
    assert found.outcome == "UNTESTABLE"
    assert words in found.reason


@pytest.mark.parametrize(
    "claim",
    [
        replace(CLAIM, unit="site"),
        replace(CLAIM, neighbors="replace"),
        replace(CLAIM, releases=(("model", "trainer"),)),
    ],
)
def test_a_claim_about_something_else_is_not_tested(claim):
    assert outcome(endpoint(50.0), training(trainer=claim)) is None


def test_every_site_that_holds_canaries_must_make_the_claim_and_the_weakest_is_tested():
    seats = ("site-0", "site-1")
    claims = {seat: replace(CLAIM, releases=(("update", seat),), epsilon=e) for seat, e in zip(seats, (1.0, 2.0), strict=True)}
    merged = endpoint(50.0, channel="update", seats=seats)
    assert outcome(merged, training(**claims)).claimed == 2.0
    assert outcome(merged, training(**{"site-0": claims["site-0"]})) is None


def site_claims(*epsilons: float, delta: float = 1e-6) -> dict[str, Guarantee]:
    return {
        f"site-{i}": replace(CLAIM, releases=(("update", f"site-{i}"), ("output", "model")), epsilon=e, delta=delta)
        for i, e in enumerate(epsilons)
    }


def test_of_a_shared_model_every_site_with_canaries_must_claim_something():
    """The canaries of a site that claims nothing say nothing of another's claim."""
    merged = endpoint(50.0, seats=("site-0", "site-1"))
    assert outcome(merged, training(**site_claims(1.0, 1.5))).claimed == 1.5
    assert outcome(merged, training(**site_claims(1.0))) is None
    assert outcome(merged, training(aggregator=CLAIM, **site_claims(0.5))).claimed == 1.0, "the aggregator speaks for site-1"


def test_canaries_of_one_site_test_the_claim_of_that_site():
    assert outcome(endpoint(50.0, seats=("site-0",)), training(**site_claims(1.0, 8.0))).claimed == 1.0


def test_sites_together_have_the_largest_delta_of_any():
    claims = site_claims(1.5, 1.0) | {"site-1": replace(site_claims(1.5, 1.0)["site-1"], delta=1e-3)}
    found = outcome(endpoint(50.0, seats=("site-0", "site-1")), training(**claims))
    assert (found.claimed, found.delta) == (1.5, 1e-3)
    assert found.bound == pytest.approx(one_run_bound(20, 20, 80, delta=1e-3))


def test_the_weakest_of_several_trainings_is_tested_and_all_canaries_count():
    merged = endpoint(50.0, repeats=3)
    found = outcome(merged, training(trainer=CLAIM), training(trainer=replace(CLAIM, epsilon=3.0)), training(trainer=CLAIM))
    assert found.claimed == 3.0
    assert found.bound > outcome(endpoint(50.0), training(trainer=CLAIM)).bound


def test_risk_that_is_shared_among_audits_costs_ceiling():
    shared, alone = (outcome(endpoint(50.0), training(trainer=CLAIM), significance=s).bound for s in (0.01, 0.05))
    assert shared < alone


def test_the_endpoint_is_an_advantage_bounded_from_below_alone():
    merged = endpoint(50.0)
    bound = one_run_bound(20, 20, 80, delta=1e-5)
    assert merged.kind == "epsilon"
    assert merged.value == pytest.approx(leakage_of_epsilon(bound))
    assert (merged.interval().low, merged.interval().high) == (pytest.approx(merged.value), 1.0)
    assert merged.interval(0.99).low < merged.interval().low
    assert merged.raw["epsilon_lower_bound"].value == pytest.approx(bound)
    assert merged.raw["epsilon_if_gaussian"].value > bound
    assert merged.shuffle_test().p < 0.01


def test_a_canary_of_several_samples_is_no_record():
    claim = training(trainer=replace(CLAIM, unit="record"))
    assert outcome(endpoint(50.0, units=("patient",)), claim) is None
    assert outcome(endpoint(50.0, units=("record", "patient")), claim).outcome == "REFUTED"
