"""Attacks with shadow models that the engine trained, in a tiny audit of a memorizing model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_membership.lira import MembershipLira
from leakaudit_membership.loss_map import MembershipLossMap
from leakaudit_membership.params import MembershipLiraParams, MembershipLossMapParams, MembershipRmiaParams
from leakaudit_membership.rmia import MembershipRmia
from leakaudit_membership.shadows import membership

from leakaudit.attacks import View
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires
from leakaudit.wire import Seat, Secret

COHORT = CohortFacts(modalities=("flair", "t1"), shape=(16, 16), members=4, auxiliary=4, sites=("a", "b"), records=4)
RECIPE: dict[str, Any] = {
    "version": 1, "name": "shadows", "seed": 0, "run": {"device": "cpu"},
    "data": {
        "use": "leakaudit/phantom",
        "params": {"patients": 44, "size": 16, "slices": 1, "sites": 2, "visits": 1, "modalities": ["flair", "t1"]},
        "split": {"members": 12, "validation": 2, "test": 2, "non_members": 12, "auxiliary": 8, "attacked": 4},
    },
    "protocols": [{"use": "centralized", "params": {
        "rounds": 26, "clients": [["flair", "t1"]], "cut": 0, "network": {"channels": [8, 8]},
        "training": {"batch_size": 4, "learning_rate": 0.01},
    }}],
    "attacks": [
        {"use": "membership-loss", "name": "loss"},
        {"use": "membership-lira", "name": "lira", "params": {"shadows": 12}},
        {"use": "membership-rmia", "name": "rmia", "params": {"shadows": 12}},
        {"use": "membership-loss-map", "name": "loss-map", "params": {"shadows": 12}},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def audited(audit_of: Callable[[dict[str, Any]], Any]) -> Any:
    return audit_of(RECIPE)


def test_on_a_memorizing_model_they_find_at_least_what_the_loss_finds(audited: Any) -> None:
    loss = audited.auc("loss")
    assert 0.8 < loss < 1
    assert audited.auc("lira") > loss
    assert audited.auc("rmia") > loss
    assert audited.auc("loss-map") > loss


@pytest.mark.parametrize("attack", ["lira", "rmia", "loss-map"])
def test_shuffled_answers_tell_little(audited: Any, attack: str) -> None:
    assert abs(audited.auc(attack, "shuffled") - 0.5) < 0.25


def test_all_share_one_set_of_shadow_models(audited: Any) -> None:
    assert [j.kind for j in audited.plan.jobs].count("shadows") == 1
    for attack in ("lira", "rmia", "loss-map"):
        found = audited.json(audited.pairing(attack).attacks[0], "attack.json")["shadows"]
        assert found["used"] == 12
        assert found["defended"] is True


def test_the_view_tells_which_candidates_each_shadow_learned_from_and_no_more(audited: Any) -> None:
    view = audited.view("lira")
    tokens = {t.token for t in view.targets}
    assert len(view.shadows) == 12
    assert all(set(s.members) <= tokens for s in view.shadows)
    # Everybody is dealt into half of them: who was a member of the victim's training cannot be read from it.
    count = {t: sum(t in s.members for s in view.shadows) for t in tokens}
    assert set(count.values()) == {6}
    folder = audited.stage.views[audited.pairing("lira").attacks[0]]
    data = json.loads((folder / "view" / "view.json").read_text())
    assert all(set(entry) == {"file", "members", "own"} for entry in data["shadows"])
    assert not list(folder.rglob("shadows.json"))


def test_a_shadow_knows_its_own_patients_and_the_next_one_the_others(audited: Any) -> None:
    view = audited.view("lira")
    attack = MembershipLira(MembershipLiraParams(shadows=12), _seat())
    attack.fit(view)
    assert attack._shadows is not None
    inside = np.array([[t.token in s.members for t in view.targets if t.kind == "candidate"] for s in view.shadows])
    assert attack._shadows[inside].mean() > attack._shadows[~inside].mean() + 0.5


def test_the_model_answers_for_the_adversary_s_own_patients_too_and_the_shuffle_leaves_them(audited: Any) -> None:
    real, shuffled = (View(audited.view("rmia")._folder, name) for name in ("messages", "messages-shuffled"))
    assert real.auxiliary is not None
    own = set(real.auxiliary.patients)
    found = [{m.samples[0]: m.tensors["logits"] for m in v.messages(channel="output")} for v in (real, shuffled)]
    assert own < found[0].keys()
    assert all(torch.equal(found[0][t], found[1][t]) for t in own)
    assert any(not torch.equal(found[0][t], found[1][t]) for t in found[0].keys() - own)
    assert not any(m.samples[0] in audited.view("loss").auxiliary.patients for m in audited.view("loss").messages(channel="output"))


def test_offline_scores_rank_members_too_without_reading_who_was_in(audited: Any) -> None:
    view = audited.view("lira")
    member = audited.json(audited.pairing("lira").attacks[0], "attack.json")
    inside = [member["coins"][member["truth"]["candidates"][t.token]] for t in view.targets if t.kind == "candidate"]
    for attack in (
        MembershipLira(MembershipLiraParams(shadows=12, mode="offline"), _seat()),
        MembershipRmia(MembershipRmiaParams(shadows=12, mode="offline"), _seat()),
    ):
        scores = attack.run(view).scores
        assert scores[inside].mean() > scores[~np.array(inside)].mean()


@pytest.mark.parametrize("difficulty", ["remove", "keep"])
def test_loss_maps_tell_members_whether_or_not_difficulty_is_removed(audited: Any, difficulty: str) -> None:
    view = audited.view("loss-map")
    recorded = audited.json(audited.pairing("loss-map").attacks[0], "attack.json")
    params = MembershipLossMapParams.model_validate({"shadows": 12, "difficulty": difficulty, "confidence": False})
    evidence = MembershipLossMap(params, _seat()).run(view)
    inside = np.array([recorded["coins"][recorded["truth"]["candidates"][token]] for token in evidence.about])
    assert evidence.scores[inside].mean() > 0 > evidence.scores[~inside].mean()


def test_a_loss_map_classifier_taught_shuffled_memberships_is_at_chance(audited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, view = audited.json(audited.pairing("loss-map").attacks[0], "attack.json"), audited.view("loss-map")
    real, found, spreads = MembershipLossMap(MembershipLossMapParams(shadows=12), _seat()).run(view), [], []
    inside = np.array([recorded["coins"][recorded["truth"]["candidates"][token]] for token in real.about])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(
            "leakaudit_membership.loss_map.membership", lambda v, t, rng=rng: rng.permuted(membership(v, t), axis=0)
        )
        scores = MembershipLossMap(MembershipLossMapParams(shadows=12), _seat()).run(view).scores
        found.append(np.mean(scores[inside][:, None] > scores[~inside]))
        spreads.append(scores.std())
    # One shuffle may by chance point along what tells members, or against it; twenty of them do neither, and are unsure.
    assert abs(np.mean(found) - 0.5) < 0.15
    assert np.mean(spreads) < real.scores.std() / 10


def test_without_shadow_models_they_say_so(audited: Any) -> None:
    with pytest.raises(UserError, match="shadow models"):
        MembershipLira(MembershipLiraParams(), _seat()).run(audited.view("loss"))
    with pytest.raises(UserError, match="shadow models"):
        MembershipLossMap(MembershipLossMapParams(), _seat()).run(audited.view("loss"))


@pytest.mark.parametrize("params", [CentralizedParams(), SplitParams(), FederatedParams()])
def test_they_apply_to_every_protocol_that_deploys_a_model(params: Any) -> None:
    for attack, pool in (("online", "auxiliary+candidates"), ("offline", "auxiliary")):
        for model in (MembershipLiraParams, MembershipRmiaParams):
            needs = model.model_validate({"mode": attack, "shadows": 8}).requires(params.facts(COHORT))
            assert isinstance(needs, Requires)
            assert needs.shadows is not None
            assert (needs.shadows.count, needs.shadows.pool) == (8, pool)
            assert {"architecture", "defense"} <= set(needs.threat.knows)
            assert not isinstance(needs, NotApplicable)


def _seat() -> Seat:
    return Seat(SeatFacts(id="outsider", role="outsider"), Secret.from_seed(0))
