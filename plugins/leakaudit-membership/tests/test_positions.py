"""Who attacks in federated learning: an outsider, the aggregator, or another site; each sees something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_membership.attack import MembershipLoss
from leakaudit_membership.gauge import Gauge, in_order, models_seen
from leakaudit_membership.params import MembershipLiraParams, MembershipLossParams

from leakaudit.attacks import EvidenceError
from leakaudit.engine.cells.attack import without_held
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires, ThreatModel
from leakaudit.wire import Seat, Secret

COHORT = CohortFacts(modalities=("flair", "t1"), shape=(16, 16), members=8, auxiliary=4, sites=("a", "b"), records=8)
POSITIONS = ("aggregator", "site")
RECIPE: dict[str, Any] = {
    "version": 1, "name": "positions", "seed": 0, "run": {"device": "cpu"},
    "data": {
        "use": "leakaudit/phantom",
        "params": {"patients": 52, "size": 16, "slices": 1, "sites": 2, "visits": 1, "modalities": ["flair", "t1"]},
        "split": {"members": 16, "validation": 2, "test": 2, "non_members": 20, "auxiliary": 8, "attacked": 4},
    },
    "protocols": [{"use": "federated", "params": {
        "rounds": 44, "cut": 0, "network": {"channels": [8, 8]}, "training": {"batch_size": 4, "learning_rate": 0.01},
    }}],
    "attacks": [
        {"use": "membership-loss", "name": "loss-outsider"},
        {"use": "membership-lira", "name": "lira-outsider", "params": {"shadows": 8}},
        *({"use": "membership-loss", "name": f"loss-{p}", "params": {"position": p}} for p in POSITIONS),
        *({"use": "membership-lira", "name": f"lira-{p}", "params": {"position": p, "shadows": 8}} for p in POSITIONS),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def audited(audit_of: Callable[[dict[str, Any]], Any]) -> Any:
    return audit_of(RECIPE)


@pytest.mark.parametrize("attack", ["loss", "lira"])
def test_from_every_position_members_of_a_memorizing_model_are_found(audited: Any, attack: str) -> None:
    found = {p: audited.auc(f"{attack}-{p}") for p in ("outsider", *POSITIONS)}
    assert min(found.values()) > 0.8, found


def test_each_position_is_another_threat_model_on_its_own_channel(audited: Any) -> None:
    for position, channel in (("outsider", "output"), ("aggregator", "model"), ("site", "model")):
        pairing = audited.pairing(f"lira-{position}")
        assert (pairing.requires.threat.plays, pairing.requires.threat.channels) == ((position,), (channel,))
        (piece,) = audited.json(pairing.scores[0], "score.json")["evidence"]
        assert piece["channel"] == channel


@pytest.mark.parametrize("attack", ["loss", "lira"])
@pytest.mark.parametrize("position", POSITIONS)
def test_with_the_images_of_candidates_exchanged_little_is_told(audited: Any, attack: str, position: str) -> None:
    assert abs(audited.auc(f"{attack}-{position}", "shuffled") - 0.5) < (0.35 if position == "site" else 0.25)  # fewer candidates
    real, shuffled = (audited.view(f"{attack}-{position}", name).candidates for name in ("messages", "messages-shuffled"))
    assert real is not None
    assert shuffled is not None
    assert real.patients == shuffled.patients
    np.testing.assert_array_equal(real.labels, shuffled.labels)
    assert not any(np.array_equal(a, b) for a, b in zip(real.images, shuffled.images, strict=True))
    assert sorted(float(x.sum()) for x in real.images) == sorted(float(x.sum()) for x in shuffled.images)
    assert audited.view("loss-outsider", "messages-shuffled").candidates is not None
    assert not (audited.view("loss-outsider")._folder / "candidates-of-messages-shuffled").exists()


def test_a_site_decides_about_patients_of_others_alone(audited: Any) -> None:
    site = audited.plan.recipe  # the first site is played
    assert site is not None
    everybody, others = audited.endpoint("loss-aggregator"), audited.endpoint("loss-site")
    assert len(set(everybody["site"])) == 2
    assert len(set(others["site"])) == 1
    assert set(others["patients"]) < set(everybody["patients"])
    held = audited.view("loss-site").holdings
    assert held is not None
    candidates = audited.view("loss-site").candidates
    assert candidates is not None
    assert not {x.tobytes() for x in held.images} & {x.tobytes() for x in candidates.images}


def test_the_loss_is_averaged_over_the_last_models_that_were_seen(audited: Any) -> None:
    view = audited.view("loss-aggregator")
    assert view.candidates is not None
    steps = sorted({(m.round, m.step) for m in view.messages(channel="model")})
    assert steps == [(40, 0), (41, 0), (42, 0), (43, 0), (43, 1)]
    gauge, about = Gauge(view, view.candidates, "cross-entropy"), view.candidates.patients
    each = [in_order(gauge.predicted(network), about) for network in models_seen(view, 4)]
    evidence = _attack(position="aggregator").run(view)
    order = [evidence.about.index(token) for token in about]
    np.testing.assert_allclose(evidence.scores[order], -np.mean(each, axis=0), rtol=1e-5)
    assert len(list(models_seen(view, 100))) == 5
    final = audited.stage.training(audited.plan, audited.pairing("loss-aggregator").trains[0]).task.build()
    entry = audited.stage.store.get(audited.pairing("loss-aggregator").trains[0])
    assert entry is not None
    (*_, last) = models_seen(view, 1)
    final.load_state_dict(last.state_dict())
    deployed = in_order(Gauge(audited.view("loss-outsider"), view.candidates, "cross-entropy").predicted(final), about)
    np.testing.assert_allclose(each[-1], deployed, rtol=1e-5)
    # A site never sees the released model, but those that rounds begin with.
    assert {(m.round, m.step) for m in audited.view("loss-site").messages(channel="model")} == {(r, 0) for r in range(40, 44)}


def test_the_first_model_is_never_asked() -> None:
    facts = FederatedParams.model_validate({"rounds": 1}).facts(COHORT)
    needs = MembershipLossParams(position="aggregator").requires(facts)
    assert isinstance(needs, Requires)
    assert needs.taps[0].rounds == (-1,)
    assert isinstance(MembershipLossParams(position="site").requires(facts), NotApplicable)


@pytest.mark.parametrize("model", [MembershipLossParams, MembershipLiraParams])
def test_positions_are_for_federated_learning(model: Any) -> None:
    for params in (CentralizedParams(), SplitParams()):
        for position in POSITIONS:
            answer = model.model_validate({"position": position}).requires(params.facts(COHORT))
            assert isinstance(answer, NotApplicable)
            assert position in answer.reason
    for position in POSITIONS:
        needs = model.model_validate({"position": position}).requires(FederatedParams().facts(COHORT))
        assert isinstance(needs, Requires)
        assert needs.threat.plays == (position,)
        assert needs.threat.passive
        assert "architecture" in needs.threat.knows
    alone = FederatedParams().facts(
        CohortFacts(modalities=("t1",), shape=(16, 16), members=4, auxiliary=4, sites=("a",), records=4)
    )
    assert isinstance(model(position="site").requires(alone), NotApplicable)


def test_a_site_to_whom_everybody_belongs_has_nothing_to_decide(audited: Any) -> None:
    candidates = audited.view("loss-aggregator").candidates
    assert candidates is not None
    facts = FederatedParams().facts(COHORT)
    coins = {p: i % 2 == 0 for i, p in enumerate(candidates.patients)}
    here = type(candidates)(
        images=candidates.images, labels=candidates.labels, brain=candidates.brain, modalities=candidates.modalities,
        origin=candidates.origin, samples=tuple(type(s)(patient=s.patient, site="a") for s in candidates.samples),
    )  # fmt: skip
    with pytest.raises(EvidenceError, match="holds the patients of a"):
        without_held(here, coins, facts, ThreatModel(plays=("site",)))
    assert without_held(here, coins, facts, ThreatModel(plays=("aggregator",))) == (here, coins)


def _attack(**params: Any) -> MembershipLoss:
    seat = Seat(SeatFacts(id="aggregator", role="aggregator"), Secret.from_seed(0), device=torch.device("cpu"))
    return MembershipLoss(MembershipLossParams.model_validate(params), seat)
