"""Formal claims of several seats, units and repeats: joined where they are one claim, and never else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leakaudit.defenses import Chain, Defense, Guarantee
from leakaudit.engine.assemble_guarantees import statements
from leakaudit.facts import SeatFacts
from leakaudit.plugins.params import DefenseParams
from leakaudit.wire import Seat, Secret

PATIENT = Guarantee(
    mechanism="DP-SGD: gradient of each patient clipped to 1, Gaussian noise 1.1 times that, 90 steps", unit="patient",
    neighbors="add-or-remove", releases=(("update", "site-0"), ("model", "aggregator")), epsilon=3.0, delta=1e-3,
    accountant="RDP", conversion="theorem 21", sampling="Poisson, rate 0.1", assumes=("numbers are public",),
)  # fmt: skip
OTHER = replace(
    PATIENT, mechanism="DP-SGD: gradient of each patient clipped to 1, Gaussian noise 1.3 times that, 60 steps", epsilon=2.0,
    releases=(("update", "site-1"), ("model", "aggregator")), assumes=("noise is secret",),
)  # fmt: skip
SITE = replace(PATIENT, mechanism="site-level DP (central): clipped", unit="site", epsilon=9.0, releases=(("model", "aggregator"),))


def training(**claims: list[Guarantee]) -> dict[str, Any]:
    return {"guarantees": {seat.replace("_", "-"): [c.to_json() for c in found] for seat, found in claims.items()}}


def test_claims_of_one_kind_become_one_statement_at_the_largest_epsilon() -> None:
    (found,) = statements([training(site_0=[PATIENT], site_1=[OTHER])])
    assert found.epsilon == 3.0
    assert "90 steps" in found.mechanism
    assert found.releases == [["update", "site-0"], ["model", "aggregator"], ["update", "site-1"]]
    assert found.assumes == ["numbers are public", "noise is secret"]


def test_claims_about_different_units_stand_apart() -> None:
    found = statements([training(site_0=[PATIENT], site_1=[OTHER], aggregator=[SITE])])
    assert [(s.unit, s.epsilon) for s in found] == [("patient", 3.0), ("site", 9.0)]
    assert ["update", "site-0"] not in found[1].releases


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "record"}, {"neighbors": "replace"}, {"delta": 1e-5}, {"mechanism": "sparse vector technique (correct): 3 rounds"},
        {"accountant": "PRV"}, {"releases": (("update", "site-1"),)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_is_not_one_claim_is_not_joined(change: dict[str, Any]) -> None:
    found = statements([training(site_0=[PATIENT], site_1=[replace(OTHER, **change)])])
    assert [s.epsilon for s in found] == [3.0, 2.0]


def test_of_several_repeats_the_worst_counts() -> None:
    worse = replace(PATIENT, epsilon=7.5, mechanism=PATIENT.mechanism.replace("90", "99"))
    found = statements([training(site_0=[PATIENT], site_1=[OTHER]), training(site_0=[worse], site_1=[OTHER])])
    assert [(s.epsilon, "99 steps" in s.mechanism) for s in found] == [(7.5, True)]


def test_what_is_not_claimed_of_every_repeat_is_not_claimed() -> None:
    assert statements([training(site_0=[PATIENT]), training()]) == []
    (found,) = statements([training(site_0=[PATIENT], site_1=[OTHER]), training(site_0=[PATIENT])])
    assert found.releases == [["update", "site-0"], ["model", "aggregator"]]
    assert statements([]) == []


class Claims(Defense[DefenseParams]):
    """Claims what it is given."""

    def __init__(self, claim: Guarantee | None, seat: Seat) -> None:
        super().__init__(DefenseParams(), seat)
        self.claim = claim

    def guarantee(self) -> Guarantee | None:
        return self.claim


def test_a_chain_hands_on_the_claims_of_all_its_parts() -> None:
    seat = Seat(SeatFacts(id="site-0", role="site"), Secret.from_seed(0))
    inner = Chain([Claims(SITE, seat), Claims(None, seat)], seat)
    both = Chain([Claims(PATIENT, seat), inner], seat)
    assert both.guarantees() == (PATIENT, SITE)
    assert both.guarantee() is None  # two claims are not one, and the smaller epsilon is not the claim of both
    assert inner.guarantee() == SITE
    assert Chain([], seat).guarantees() == ()
    assert Claims(SITE, seat).guarantees() == (SITE,)
