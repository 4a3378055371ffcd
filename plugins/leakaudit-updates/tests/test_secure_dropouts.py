"""Secure aggregation under a protocol's fault plan: the sum stays exact whoever leaves, and it must be the last of a chain."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from leakaudit_updates.secure_aggregation import SecureAggregation
from leakaudit_updates.secure_params import SecureAggregationParams

from leakaudit.defenses import Chain, Defense
from leakaudit.engine.api import plan
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols import Holdings, Schedule
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import FederatedParams
from leakaudit.recipes.loading import load_recipe
from leakaudit.threats import NotApplicable
from leakaudit.wire import Message, NotFiniteError, Seat, Secret, Wire

SITES = ("site-0", "site-1", "site-2", "site-3")
COHORT = CohortFacts(modalities=("flair",), shape=(8, 8), members=12, auxiliary=0, sites=SITES, records=12)
SECRET = Secret.from_seed(11)
ROUNDS = 3


def federation(*dropouts: dict[str, Any], **more: Any) -> FederatedParams:
    network, training = NetworkParams(channels=[4, 4]), TrainingParams(batch_size=2)
    return FederatedParams(network=network, training=training, rounds=ROUNDS, dropouts=list(dropouts), **more)


class Trained:
    """A tiny federated training of four sites under a fault plan, with or without secure aggregation.

    Args:
        dropouts: The fault plan.
        secure: Whether updates are masked.
        loud: A site whose images are so large that its training diverges.
        masks: Parameters of secure aggregation.
        more: Further parameters of the protocol.
    """

    def __init__(
        self, *dropouts: dict[str, Any], secure: bool, loud: str = "", masks: dict[str, int] | None = None, **more: Any
    ) -> None:
        params, masking = federation(*dropouts, **more), SecureAggregationParams(**(masks or {}))
        self.protocol, self.messages = Federated(params, COHORT), list[Message]()
        task = load_task(self.protocol.task())
        parties = {}
        for facts in self.protocol.facts.seats:
            seat = Seat(facts, SECRET.branch(facts.id), shared=SECRET.branch("shared"), protocol=self.protocol.facts)
            parts: list[Defense[Any]] = [SecureAggregation(masking, seat)] if secure else []
            holds = _holds(facts, 1e38 if facts.id == loud else 1.0)
            parties[facts.id] = self.protocol.party(seat, task, Chain(parts, seat), holds)
        self.start = dict(parties["aggregator"].state())
        self.wire = Wire(parties, SECRET.branch("wire"), [self])
        sampling = Holdings(tokens=(), units=torch.zeros(0)).sampling
        self.protocol.run(self.wire, Schedule(("row",), [0], ROUNDS, 2, sampling, SECRET))
        self.model = dict(parties["aggregator"].state())

    def record(self, message: Message) -> None:
        self.messages.append(message)

    def rounds(self, channel: str, sender: str) -> list[int]:
        return [m.round for m in self.messages if (m.channel, m.sender) == (channel, sender)]


def _holds(facts: SeatFacts, size: float) -> Holdings:
    if facts.role != "site":
        return Holdings(tokens=(), units=torch.zeros(0).long())
    n = 1 + int(facts.id[-1])
    draw = torch.Generator().manual_seed(n)
    return Holdings(
        tokens=tuple(f"{facts.id}-{i}" for i in range(n)), units=torch.arange(n),
        images=size * torch.randn(n, 1, 8, 8, generator=draw), regions=(torch.rand(n, 3, 8, 8, generator=draw) > 0.7).float(),
    )  # fmt: skip


def leaves(site: int, round_: int, when: str = "before", returns: int | None = None) -> dict[str, Any]:
    return {"site": SITES[site], "round": round_, "when": when, "returns": returns}


PLANS = [
    [leaves(1, 1)], [leaves(1, 1, "after")], [leaves(0, 0, returns=2)], [leaves(3, 0, "after", returns=1)],
    [leaves(0, 1), leaves(2, 0, "after", returns=1)], [leaves(i, 1, returns=2) for i in range(4)],
]  # fmt: skip


@pytest.mark.parametrize("faults", PLANS, ids=lambda faults: " ".join(f"{f['site']}-{f['when']}-{f['round']}" for f in faults))
def test_the_sum_is_that_of_the_plain_average_whoever_leaves(faults: list[dict[str, Any]]) -> None:
    plain, secure = Trained(*faults, secure=False), Trained(*faults, secure=True)
    for site in SITES:
        assert secure.rounds("update", site) == plain.rounds("update", site)
        gone = [f["round"] for f in faults if (f["site"], f["when"]) == (site, "after")]
        assert secure.rounds("control", site) == [r for r in secure.rounds("update", site) if r not in gone]
    assert {t.dtype for m in secure.messages if m.channel == "update" for t in m.tensors.values()} == {torch.int64}
    # A difference of the last bits grows a little in every round of training.
    for name, tensor in plain.model.items():
        torch.testing.assert_close(secure.model[name], tensor, atol=2e-5, rtol=1e-4)
    assert any(not torch.equal(secure.model[name], t) for name, t in secure.start.items())
    assert secure.wire.notes == plain.wire.notes


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_sum_of_the_round_is_exact_up_to_the_grid(when: str) -> None:
    """Whoever is there sends the same in the first round with and without masks."""
    faults = [leaves(2, 0, when)]
    plain, secure = (Trained(*faults, *[leaves(i, 1) for i in (0, 1, 3)], secure=s) for s in (False, True))
    assert secure.rounds("update", "site-2") == ([] if when == "before" else [0])
    for name, tensor in plain.model.items():
        torch.testing.assert_close(secure.model[name], tensor, atol=2.0**-22, rtol=0)


def test_a_site_that_diverges_under_masks_is_found_before_it_masks() -> None:
    with pytest.raises(NotFiniteError, match="'site-1' diverged in round 0"):
        Trained(secure=True, loud="site-1")
    plain, secure = (Trained(secure=s, loud="site-1", on_bad_update="drop") for s in (False, True))
    assert secure.rounds("update", "site-1") == []
    assert secure.wire.notes == {"the update of site 'site-1' was not finite and was left out": [0, 1, 2]}
    for name, tensor in plain.model.items():
        torch.testing.assert_close(secure.model[name], tensor, atol=2e-5, rtol=1e-4)


def test_too_few_that_are_left_end_the_training_with_what_is_needed() -> None:
    with pytest.raises(UserError, match=r"round 1: 2 of 4 sites sent an update, and 3 are needed.*dropouts"):
        Trained(leaves(0, 1), leaves(1, 1), secure=True)
    with pytest.raises(UserError, match="round 1: 2 of 4 sites handed out shares of the masks, and 3 are needed"):
        Trained(leaves(0, 1, "after"), leaves(1, 1, "after"), secure=True)


# What a plan knows before -----------------------------------------------------------------------------------------------


def refusal(*dropouts: dict[str, Any], masks: dict[str, int] | None = None, **more: Any) -> str | None:
    answer = SecureAggregationParams(**(masks or {})).needs(federation(*dropouts, **more).facts(COHORT))
    return answer.reason if isinstance(answer, NotApplicable) else None


@pytest.mark.parametrize(
    ("faults", "masks", "words"),
    [
        ([leaves(1, 1)], {}, None),
        ([leaves(1, 1, "after")], {}, None),
        ([leaves(1, 0, "after", returns=1), leaves(2, 1, "after", returns=2), leaves(3, 2)], {}, None),
        ([leaves(i, 1) for i in range(4)], {}, None),
        ([leaves(1, 1, "after")], {"min_sites": 4}, "round 2 .*3 of 4 sites can send an update .away: 'site-1'.*min_sites needs 4"),
        ([leaves(1, 2, "after")], {"min_sites": 4}, None),
        ([leaves(1, 2, "after")], {"threshold": 4}, "round 2 .*3 of 4 .* answer .*gone after the update: 'site-1'.*needs 4"),
        ([leaves(0, 1), leaves(1, 1)], {}, "round 1 .*2 of 4 sites can send .*away: 'site-0' and 'site-1'.*threshold needs 3"),
        ([leaves(0, 1, "after"), leaves(1, 1, "after")], {}, "round 1 .*2 of 4 .* answer .*gone after .*'site-0' and 'site-1'"),
        ([leaves(0, 1), leaves(1, 2, "after")], {}, "round 2 .*answer .*away: 'site-0'; gone after the update: 'site-1'.*needs 3"),
        ([leaves(0, 0, returns=2), leaves(1, 1, returns=2)], {}, "round 1 .*2 of 4"),
    ],
)
def test_what_a_plan_refuses_is_what_would_stop_the_training(faults: list[Any], masks: dict[str, int], words: str | None) -> None:
    reason = refusal(*faults, masks=masks)
    if words is None:
        assert reason is None
        trained = Trained(*faults, secure=True, masks=masks)
        assert any(not torch.equal(trained.model[name], t) for name, t in trained.start.items())
        return
    assert reason is not None
    assert re.match(words, reason), reason
    where = reason.partition(" would")[0]
    with pytest.raises(UserError, match=f"secure-aggregation, {where}: "):
        Trained(*faults, secure=True, masks=masks)


def test_lowering_is_proposed_where_it_can_be() -> None:
    """A majority cannot be lowered."""
    for masks, proposed in (({}, False), ({"threshold": 4}, True), ({"min_sites": 4}, True), ({"min_sites": 3}, False)):
        reason = refusal(leaves(0, 0), leaves(1, 0), masks=masks)
        assert reason is not None
        assert ("or lower" in reason) is proposed, reason


def test_a_plan_counts_the_sites_that_are_drawn() -> None:
    assert refusal(participation=0.75) is None
    Trained(secure=True, participation=0.75)
    reason = refusal(participation=0.5)
    assert reason is not None
    assert (
        "round 0 would stop the training: 2 of 4 sites can send an update (asked in each round: 2), and threshold needs 3" in reason
    )
    with pytest.raises(UserError, match="round 0: 2 of 4"):
        Trained(secure=True, participation=0.5)


def test_what_hangs_on_the_draw_is_left_to_the_training() -> None:
    """Three of four are asked; whether the one that left is among them, nobody knows before."""
    assert refusal(leaves(0, 0), participation=0.75) is None
    assert refusal(leaves(0, 0), leaves(1, 0), leaves(2, 0), participation=0.75) is None, "perhaps nobody that is drawn is there"
    assert refusal(leaves(0, 0), leaves(1, 0), participation=0.75) is not None


def test_a_plan_with_too_few_sites_trains_nothing(tmp_path: Path) -> None:
    faults = [{"site": "site-0", "round": 0, "when": "after"}, {"site": "site-1", "round": 0, "when": "after"}]
    for count, trains in ((1, 2), (2, 1)):
        found = plan(load_recipe(recipe(tmp_path, "secure-aggregation", dropouts=faults[:count])))
        assert sum(job.kind == "train" for job in found.plan.jobs) == trains
    assert "N/A  federated / both: round 0 would stop the training: 1 of 3 sites can answer" in "\n".join(found.lines())


def test_a_site_without_members_counts_as_none(tmp_path: Path) -> None:
    """Of three sites two have members, and a threshold of three can never be met."""
    file = recipe(tmp_path, {"use": "secure-aggregation", "params": {"threshold": 3}})
    assert [b.reason for b in plan(load_recipe(file)).plan.baselines] == [None, None]
    document = json.loads(file.read_text())
    document["data"]["split"] |= {"members": 2, "non_members": 2, "auxiliary": 1}
    file.write_text(json.dumps(document))
    reason = plan(load_recipe(file)).plan.baselines[1].reason
    assert reason == "threshold 3 is more than the 2 sites that send updates"


# Where it stands in a chain -------------------------------------------------------------------------------------------


def recipe(folder: Path, *chain: str | dict[str, Any], **more: Any) -> Path:
    document = {
        "version": 1, "name": "chain",
        "data": {
            "use": "phantom", "params": {"patients": 12, "size": 32, "sites": 3, "visits": 1},
            "split": {"members": 6, "validation": 2, "test": 2, "non_members": 1, "auxiliary": 1},
        },
        "protocols": [{"use": "federated", "params": {"rounds": 1, "network": {"channels": [4, 8]}, **more}}],
        "defenses": [{"name": "both", "chain": list(chain)}], "run": {"device": "cpu"},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("other", ["update-noise", "update-clipping", "svt", "secure-aggregation"])
def test_nothing_may_act_on_a_masked_update(tmp_path: Path, other: str) -> None:
    with pytest.raises(UserError, match=f"both: '{other}.*' stands after 'secure-aggregation'.*'update'.*Put .* last"):
        plan(load_recipe(recipe(tmp_path, "secure-aggregation", other)))


def test_as_the_last_of_a_chain_it_is_planned(tmp_path: Path) -> None:
    found = plan(load_recipe(recipe(tmp_path, "update-clipping", "secure-aggregation")))
    assert [b.reason for b in found.plan.baselines] == [None, None]
