"""What `mask-inversion` asks for, and where it has no meaning."""

from __future__ import annotations

from typing import Any

import pytest
from leakaudit_inversion.params_masks import MaskInversionParams
from pydantic import ValidationError

from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires

COHORT = CohortFacts(modalities=("flair", "t1"), shape=(16, 16), members=8, auxiliary=4, sites=("site-0",), records=8)


def split(labels: str = "u-shaped", **more: Any) -> ProtocolFacts:
    return SplitParams.model_validate({"labels": labels, "rounds": 5, **more}).facts(COHORT)


def asked(facts: ProtocolFacts, **params: Any) -> Requires:
    needs = MaskInversionParams.model_validate(params).requires(facts)
    assert isinstance(needs, Requires), needs
    return needs


def test_the_server_of_a_u_shaped_split_knows_the_head_and_what_it_sent_itself() -> None:
    needs = asked(split())
    assert needs.threat.plays == ("server",)
    assert needs.threat.passive
    assert {"weights", "architecture", "defense", "sample-ids"} <= set(needs.threat.knows)
    assert [(tap.channel, tap.names, tap.rounds) for tap in needs.taps[:2]] == [
        ("cut-gradient", ("features",), (-1,)), ("activation", ("features",), (-1,)),
    ]  # fmt: skip
    before = needs.taps[2]
    assert (before.rounds, before.steps) == ((3,), ())


@pytest.mark.parametrize("method", ["norm", "direction"])
def test_scores_need_no_network(method: str) -> None:
    needs = asked(split(), method=method)
    assert needs.threat.knows == ("sample-ids",)
    assert all(tap.steps is None for tap in needs.taps)


@pytest.mark.parametrize("labels", ["server", "sent", "u-shaped"])
def test_a_client_sees_its_own_gradients_wherever_the_masks_are(labels: str) -> None:
    needs = asked(split(labels), position="client:client-1")
    assert needs.threat.plays == ("client-1",)
    assert needs.threat.channels == ("cut-gradient",)
    assert needs.threat.knows == ("sample-ids",)
    assert needs.taps[0].names == ("level0", "level1")


def test_rounds_and_observations_are_tapped() -> None:
    assert asked(split(), rounds=(0, -1)).taps[0].rounds == (0, 4)
    assert asked(split(), observations=3).taps[0].rounds == (-1, -2, -3)
    assert [s.suffix for s in MaskInversionParams(rounds=(-1, 0)).stages(5)] == ["@0", "@4"]
    assert MaskInversionParams(observations=9).stages(5)[0].rounds == (4, 3, 2, 1, 0)


@pytest.mark.parametrize(
    ("params", "facts", "words"),
    [
        ({}, split("sent"), "is sent the masks themselves"),
        ({}, split("server"), "holds the masks itself"),
        ({}, FederatedParams().facts(COHORT), "no label holder of 'federated'"),
        ({}, CentralizedParams().facts(COHORT), "no label holder of 'centralized'"),
        ({"position": "client:client-0"}, FederatedParams().facts(COHORT), "sends no cut gradients to a client"),
        ({"position": "client:client-9"}, split(), "no client client-9; there are client-0, client-1"),
        ({"rounds": (5,)}, split(), "there is no round 5: training has rounds 0 to 4"),
    ],
)
def test_where_it_has_no_meaning_it_says_why(params: dict[str, Any], facts: ProtocolFacts, words: str) -> None:
    needs = MaskInversionParams.model_validate(params).requires(facts)
    assert isinstance(needs, NotApplicable)
    assert words in needs.reason


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"rounds": [0], "observations": 2}, "either rounds or observations"),
        ({"position": "client:client-0", "method": "closed-form"}, "norm or direction"),
        ({"position": "labels"}, "position"),
        ({"auxiliary": "noise"}, "auxiliary"),
    ],
)
def test_contradictions_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MaskInversionParams.model_validate(params)


def test_auto_is_the_best_that_a_position_allows() -> None:
    assert MaskInversionParams().resolved == "closed-form"
    assert MaskInversionParams(position="client:client-0").resolved == "norm"
