"""`imprint` from the altered task to the score, in tiny audits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from leakaudit_gradients.imprint_attack import ImprintAttack
from leakaudit_gradients.imprint_params import ImprintParams
from leakaudit_gradients.imprint_task import ImprintTask

from leakaudit.attacks import Images, Setup, View
from leakaudit.attacks.evidence import load_evidence
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, ProtocolFacts, SeatFacts
from leakaudit.models import TaskSpec, load_task
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.testing.stage import Stage
from leakaudit.threats import NotApplicable, Requires
from leakaudit.wire import Seat, Secret

SGD = {"optimizer": "sgd", "learning_rate": 0.05}
COHORT = CohortFacts(
    modalities=("flair", "t1", "t1ce", "t2"), shape=(32, 32), members=8, auxiliary=8, sites=("site-0", "site-1"), records=8
)


def attack(**params: Any) -> ImprintAttack:
    return ImprintAttack(
        ImprintParams(**params), Seat(SeatFacts(id="aggregator", role="aggregator"), Secret.from_seed(5))
    )  # fmt: skip


class Audited:
    """A tiny audit: two sites with four patients each, four of them attacked."""

    def __init__(self, folder: Path, training: dict[str, Any], **params: Any) -> None:
        self.stage = Stage(folder)
        protocol = {
            "use": "leakaudit/federated",
            "params": {"rounds": 2, "network": {"channels": [4, 8]}, "training": {"batch_size": 8, **training}},
        }
        plan = self.stage.plan(protocols=[protocol], attacks=[{"use": "leakaudit-gradients/imprint", "params": params}])
        self.stage.run(plan, "cohort", "prepare", "train", "record", "attack", "score")
        (self.pairing,) = plan.pairings
        entry = self.stage.store.get(self.pairing.scores[0])
        assert entry is not None
        (self.scored,) = json.loads((entry.folder / "score.json").read_text())["evidence"]

    def fidelity(self, of: str = "endpoints") -> dict[str, float]:
        found = next(e for e in self.scored[of] if e["name"] == "fidelity")
        return dict(zip(found["patients"], found["score"], strict=True))

    @property
    def view(self) -> Path:
        return self.stage.views[self.pairing.attacks[0]] / "view"

    def found(self) -> Images:
        entry = self.stage.store.get(self.pairing.attacks[0])
        assert entry is not None
        (piece,) = load_evidence(entry.folder / "out" / "messages")
        assert isinstance(piece, Images)
        return piece


@pytest.mark.parametrize(
    ("training", "params"),
    [(SGD, {}), (SGD | {"batch_size": 2}, {}), ({}, {}), ({"batch_size": 2}, {}), (SGD, {"rounds": [1]})],
    ids=["sgd", "sgd, two steps", "adam", "adam, two steps", "second round"],
)
def test_the_images_of_a_site_come_back_from_its_update(tmp_path: Path, training: dict[str, Any], params: dict[str, Any]) -> None:
    audit = Audited(tmp_path, training, **params)
    assert sum(score > 0.9 for score in audit.fidelity().values()) >= 3
    assert max(audit.fidelity("shuffled").values()) < 0.6
    found, view = audit.found(), View(audit.view)
    sizes = {t.token: t.size for t in view.targets}
    assert set(sizes.values()) == {4}
    assert sorted(found.about) == sorted(t for t, n in sizes.items() for _ in range(n))
    assert not found.ordered
    assert found.channel == "update"


@pytest.mark.parametrize("training", [SGD, {}], ids=["sgd", "adam"])
def test_the_average_of_all_sites_is_enough(tmp_path: Path, training: dict[str, Any]) -> None:
    audit = Audited(tmp_path, training, source="model", rounds=[-1])
    assert sum(score > 0.9 for score in audit.fidelity().values()) >= 3
    found = audit.found()
    assert found.channel == "model"
    # Nothing tells whose they are, so that both sites get all of them.
    assert [found.about.count(t) for t in sorted(set(found.about))] == [8, 8]
    halves = [found.images[[a == t for a in found.about]] for t in sorted(set(found.about))]
    assert np.array_equal(*halves)


def test_what_is_not_in_the_view_is_said(tmp_path: Path) -> None:
    audit = Audited(tmp_path, SGD)
    with pytest.raises(UserError, match="model after round 0 is not in the view"):
        attack(source="model").run(View(audit.view))
    listing = json.loads((audit.view / "view.json").read_text())
    task = dict(listing["task"]["params"])
    del task["imprint"]
    (audit.view / "view.json").write_text(
        json.dumps(listing | {"task": {"target": "leakaudit.models.task:SegmentationTask", "params": task}})
    )
    with pytest.raises(UserError, match="no imprint module"):
        attack().run(View(audit.view))


def setup(tools: Any, **training: Any) -> Setup:
    honest = tools.task(**training)
    params = {
        "network": honest.network.key(), "training": honest.training.key(), "dims": 2, "groups": [[0, 1]], "levels": [0, 1],
    }  # fmt: skip
    return Setup(task=TaskSpec(target="leakaudit.models.task:SegmentationTask", params=params), auxiliary=tools.brains(8))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_altered_task_is_plain_data_and_its_module_hardly_shows(tools: Any, optimizer: str) -> None:
    before = setup(tools, optimizer=optimizer)
    after = attack(bins=32).prepare(before)
    assert attack(bins=32).prepare(before) == after
    assert after.canaries is None
    spec = json.loads(json.dumps(after.task.params))
    task = load_task(TaskSpec(target=after.task.target, params=spec))
    assert isinstance(task, ImprintTask)
    assert {k: v for k, v in spec.items() if k != "imprint"} == before.task.params
    network, (x, _) = task.build(), tools.tensors(before.auxiliary)
    assert network.imprint.linear.weight.shape == (32, x[0].numel())
    # Auxiliary images fall into bins all over the module.
    places = (network.imprint.linear(x.flatten(1) / network.imprint.divisor) > 0).sum(dim=1)
    assert len(set(places.tolist())) >= 5
    assert 0 <= float((network.imprint(x) - x).abs().amax().detach()) < 0.3


def test_other_tasks_and_useless_queries_are_refused(tools: Any) -> None:
    before = setup(tools)
    with pytest.raises(UserError, match="the task here is other:Task"):
        attack().prepare(replace(before, task=replace(before.task, target="other:Task")))
    with pytest.raises(UserError, match="query: random"):
        attack(query="mean").prepare(before)


def test_what_it_asks_for() -> None:
    facts = FederatedParams(rounds=3).facts(COHORT)
    asked = ImprintParams().requires(facts)
    assert isinstance(asked, Requires)
    assert asked.threat.alters == ("task",)
    assert asked.threat.plays == ("aggregator",)
    assert {tap.channel: tap.rounds for tap in asked.taps} == {"update": (0,), "model": (0,)}
    later = ImprintParams(source="model", rounds=(0, -1)).requires(facts)
    assert isinstance(later, Requires)
    assert {tap.channel: tap.rounds for tap in later.taps} == {"update": (0, 2), "model": (0, 1, 2)}


@pytest.mark.parametrize(
    ("facts", "params", "reason"),
    [
        (CentralizedParams().facts(COHORT), {}, "sends no update"),
        (SplitParams().facts(COHORT), {}, "sends no update"),
        (FederatedParams(rounds=2).facts(COHORT), {"rounds": (2,)}, "there is no round 2"),
    ],
)
def test_where_it_does_not_apply(facts: ProtocolFacts, params: dict[str, Any], reason: str) -> None:
    answer = ImprintParams(**params).requires(facts)
    assert isinstance(answer, NotApplicable)
    assert reason in answer.reason
