"""What a plan refuses of the order of a chain: nothing may act on what a defense sends that must be the last."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from leakaudit.engine.planner import Planner
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.protocols.params import FederatedParams
from leakaudit.threats import Channel, Needs, NotApplicable

COHORT = CohortFacts(modalities=("flair",), shape=(16, 16), members=4, auxiliary=0, sites=("site-0", "site-1"), records=4)
FACTS: ProtocolFacts = FederatedParams.model_validate({"network": {"channels": [4, 8]}}).facts(COHORT)
MASK = Needs(seats=("site", "aggregator"), channels=("update",), last=True)


def link(label: str, needs: Needs | NotApplicable, channels: tuple[Channel, ...] = ("update",)) -> Any:
    info = SimpleNamespace(channels=channels)
    return SimpleNamespace(label=label, params=SimpleNamespace(needs=lambda facts: needs), plugin=SimpleNamespace(info=info))


def checked(*links: Any) -> tuple[list[Needs], str | None]:
    defense: Any = SimpleNamespace(label="both", links=links)
    planner: Any = Planner.__new__(Planner)
    return planner._needs(FACTS, defense)


def test_what_comes_after_at_the_same_seats_is_refused() -> None:
    noise = Needs(seats=("site",), channels=("update", "model"))
    with pytest.raises(UserError, match=r"both: 'noise' stands after 'mask'.*'update'.*Put 'mask' last"):
        checked(link("mask", MASK), link("noise", noise))
    assert checked(link("noise", noise), link("mask", MASK)) == ([noise, MASK], None)


def test_what_says_nothing_of_its_channels_counts_by_its_descriptor() -> None:
    silent = Needs(seats=("site",))
    with pytest.raises(UserError, match="'silent' stands after 'mask'"):
        checked(link("mask", MASK), link("silent", silent))
    assert checked(link("mask", MASK), link("other", silent, ("model",)))[1] is None


def test_what_acts_where_masked_updates_arrive_is_refused_too() -> None:
    median = Needs(seats=("aggregator",), channels=("update",))
    with pytest.raises(UserError, match=r"both: 'median' acts at the aggregator on the channel 'update'.*'mask'"):
        checked(link("median", median), link("mask", MASK))


def test_other_channels_and_other_defenses_stand_where_they_like() -> None:
    model = Needs(seats=("site", "aggregator"), channels=("model",))
    plain = Needs(seats=("site",), channels=("update",))
    assert checked(link("mask", MASK), link("model", model))[1] is None
    assert checked(link("plain", plain), link("plain again", plain))[1] is None
