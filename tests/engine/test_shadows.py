"""Shadow models in the engine: how patients are dealt, how defenses take part, what a plan says, and what a view tells."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from leakaudit.cohorts.cohort import Split
from leakaudit.engine.cells.shadows import deal
from leakaudit.engine.planner import Planner
from leakaudit.engine.planting import Wanted
from leakaudit.engine.planview import PlanView
from leakaudit.engine.results import _adaptive
from leakaudit.engine.shadow_lessons import Lessons, Pool
from leakaudit.engine.shadow_recipes import recipe_of
from leakaudit.engine.shadowing import contradiction, obstacle
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task
from leakaudit.protocols.params import CentralizedParams
from leakaudit.recipes.loading import load_recipe
from leakaudit.testing.stage import Stage
from leakaudit.threats import Requires, Shadows, ThreatModel
from leakaudit.wire.recording import read_tensors

TINY = {"rounds": 2, "network": {"channels": [4, 8]}, "training": {"batch_size": 4}}
COHORT = CohortFacts(modalities=("t1",), shape=(16, 16), members=4, auxiliary=4, sites=("a",), records=4)


def asks(count: int = 4, pool: str = "auxiliary+candidates", **threat: Any) -> Requires:
    knows = threat.pop("knows", ("architecture", "candidates", "labels", "defense"))
    return Requires(
        threat=ThreatModel(plays=("outsider",), channels=("output",), knows=knows, **threat),
        shadows=Shadows(count=count, pool=pool),  # type: ignore[arg-type]
    )


def test_patients_are_dealt_evenly_and_in_complementary_halves() -> None:
    patients = [f"p{i}" for i in range(10)]
    hands = deal(patients, 6, 0.5, np.random.default_rng(0))
    assert {len(h) for h in hands} == {5}
    assert all(len(set(h)) == len(h) for h in hands)
    assert Counter(p for h in hands for p in h) == dict.fromkeys(patients, 3)
    assert all(not set(a) & set(b) for a, b in zip(hands[::2], hands[1::2], strict=True))
    odd = Counter(p for h in deal(patients[:7], 9, 0.4, np.random.default_rng(1)) for p in h)
    assert max(odd.values()) - min(odd.values()) <= 1
    assert deal(patients, 3, 1.0, np.random.default_rng(0)) == [sorted(patients)] * 3


@pytest.mark.parametrize(
    ("requires", "word"),
    [
        (asks(count=0), "0 shadow models"), (asks(auxiliary="none"), "owns no images"), (asks(auxiliary="noise"), "owns no images"),
        (asks(knows=("candidates", "labels")), "architecture"), (asks(knows=("architecture", "candidates")), "labels"),
    ],
)  # fmt: skip
def test_a_wish_for_shadows_that_the_threat_model_does_not_bear_is_said(requires: Requires, word: str) -> None:
    assert word in str(contradiction(requires))


def test_what_can_be_had_has_no_obstacle() -> None:
    assert contradiction(asks()) is None
    assert contradiction(asks(pool="auxiliary", knows=("architecture",))) is None
    spec = {"params_target": "leakaudit.protocols.params:CentralizedParams"}
    assert obstacle(CentralizedParams().facts(COHORT), spec) is None
    batch = CentralizedParams.model_validate({"network": {"normalization": "batch"}})
    assert "batch normalization" in str(obstacle(batch.facts(COHORT), spec))
    assert "TrainedParams" in str(
        obstacle(CentralizedParams().facts(COHORT), {"params_target": "leakaudit.plugins.params:ProtocolParams"})
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


LIRA = {"use": "membership-lira", "name": "lira", "params": {"shadows": 4}}
DP = {"use": "dp-sgd", "params": {"noise_multiplier": 0.8, "clip": 0.5, "unit": "patient", "delta": 0.01}}
# The plugins are our own; where they are not installed, these tests have nothing to plan with.
needs_plugins = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("leakaudit_membership", "leakaudit_dp", "leakaudit_cut")),
    reason="needs leakaudit-membership, leakaudit-dp and leakaudit-cut",
)


def protocol(name: str, **more: Any) -> dict[str, Any]:
    return {"use": name, "params": TINY | more}


SENT = protocol("split", labels="sent")
GUARD = {"use": "splitguard"}  # it has no recipe: nobody says which batches of a shadow model have inverted masks


def shadow_jobs(plan: Any) -> list[Any]:
    return [j for j in plan.jobs if j.kind == "shadows"]


def found(stage: Stage, key: str, name: str) -> Any:
    entry = stage.store.get(key)
    assert entry is not None
    return json.loads((entry.folder / name).read_text())


@needs_plugins
def test_the_key_holds_the_training_and_the_wish_but_no_attack(stage: Stage) -> None:
    attacks = [
        LIRA, {"use": "membership-rmia", "params": {"shadows": 4}}, {**LIRA, "name": "more", "params": {"shadows": 6}},
        {**LIRA, "name": "offline", "params": {"shadows": 4, "mode": "offline"}},
    ]  # fmt: skip
    plan = stage.plan(protocols=[protocol("centralized")], attacks=attacks, defenses=[DP])
    jobs = shadow_jobs(plan)
    assert len(jobs) == 2 * 3
    by_attack = {
        (p.defense, p.attack): next(j for j in plan.jobs if j.key == p.attacks[0]).spec["shadows_key"] for p in plan.pairings
    }
    assert by_attack["none", "lira"] == by_attack["none", "membership-rmia"]
    assert len(set(by_attack.values())) == 6
    assert all("attacker" not in j.spec for j in jobs)
    assert all(set(j.inputs) <= {k.key for k in plan.jobs if k.kind == "cohort"} for j in jobs)
    other = stage.plan(protocols=[protocol("centralized", rounds=3)], attacks=[LIRA])
    assert shadow_jobs(other)[0].key not in {j.key for j in jobs}


@needs_plugins
def test_the_plan_prints_shadow_models_and_under_which_defense_they_are_not_adaptive(stage: Stage) -> None:
    plan = stage.plan(protocols=[SENT], attacks=[LIRA], defenses=[{"use": "random-projection"}, GUARD])
    lines = [line for line in PlanView(plan).lines() if "shadow models" in line]
    assert len(lines) == 3
    assert all("4 shadow models, each on 50% of the patients" in line for line in lines)
    assert ["not adaptive" in line for line in lines] == [False, False, True]
    assert "trained without splitguard" in lines[2]


@needs_plugins
def test_batch_normalization_is_an_error_of_the_pairing(stage: Stage) -> None:
    params = {"rounds": 1, "network": {"channels": [4, 8], "normalization": "batch"}}
    plan = stage.plan(protocols=[{"use": "centralized", "params": params}], attacks=[LIRA])
    assert not shadow_jobs(plan)
    assert "batch normalization" in str(plan.pairings[0].error)


@needs_plugins
@pytest.mark.parametrize(
    ("name", "prefixes"),
    [("centralized", ["encoders.", "trunk.", "head."]), ("federated", ["encoders.", "trunk.", "head."]), ("split", ["encoders."])],
)
def test_under_dp_sgd_every_part_that_a_victim_noises_is_noised(stage: Stage, name: str, prefixes: list[str]) -> None:
    plan = stage.plan(protocols=[protocol(name)], attacks=[LIRA], defenses=[DP])
    train = next(b for b in plan.baselines if b.defense == "dp-sgd").trains[0]
    training = stage.training(plan, train)
    recipe = recipe_of(training, defended=True)
    assert recipe.without == ()
    assert recipe.by_patient
    assert {(p.clip, p.noise) for p in recipe.parts} == {(0.5, 0.8)}
    names = list(training.task.build().state_dict())
    private = [n for n in names if sum(n.startswith(p.prefix) for p in recipe.parts) == 1]
    assert {n.partition(".")[0] + "." for n in private} == set(prefixes)
    assert len(private) == sum(any(n.startswith(p) for p in prefixes) for n in names)
    unknown = recipe_of(training, defended=False)
    assert (unknown.parts, unknown.without) == ((), ("dp-sgd",))


@needs_plugins
def test_a_target_epsilon_gives_the_shadows_the_noise_of_the_victim(stage: Stage) -> None:
    wish = {"use": "dp-sgd", "params": {"target_epsilon": 8, "delta": 0.01}}
    plan = stage.plan(protocols=[protocol("centralized")], attacks=[LIRA], defenses=[wish])
    training = stage.training(plan, next(b for b in plan.baselines if b.defense == "dp-sgd").trains[0])
    trained = training.run()
    (part,) = recipe_of(training, defended=True).parts
    assert f"Gaussian noise {part.noise:.4g} times that" in trained.guarantees["trainer"][0].mechanism


@needs_plugins
def test_states_are_stored_and_the_attack_counts_as_adaptive_where_the_defense_took_part(stage: Stage) -> None:
    plan = stage.plan(protocols=[SENT], attacks=[LIRA], defenses=[DP, GUARD])
    stage.run(plan, "cohort", "train", "record", "shadows", "attack")
    defended = {}
    for pairing in plan.pairings:
        known = found(stage, pairing.attacks[0], "attack.json")
        defended[pairing.defense] = known["shadows"]["defended"]
        assert _adaptive(known, pairing) is (pairing.defense != "splitguard")
        assert not _adaptive({**known, "shadows": {**known["shadows"], "used": 0}}, pairing)
    assert defended == {"none": True, "dp-sgd": True, "splitguard": False}
    job = next(j for j in shadow_jobs(plan) if "/none" in j.label)
    entry = stage.store.get(job.key)
    assert entry is not None
    files = sorted(entry.folder.glob("shadow-*.safetensors"))
    assert len(files) == 4
    network = load_task(stage.training(plan, plan.baselines[0].trains[0]).task_spec).build()
    states = [read_tensors(f) for f in files]
    for state in states:
        network.load_state_dict(state)
    assert not torch.equal(states[0]["head.conv.conv.weight"], states[1]["head.conv.conv.weight"])
    told = found(stage, job.key, "shadows.json")
    split: Split = plan.split
    candidates = {*split.members, *split.non_members}
    assert Counter(p for hand in told["members"] for p in hand) == dict.fromkeys(candidates, 2)
    assert (told["patients"], told["of_pool"]) == (24, 12)
    assert any("split learning computes what centralized" in n for n in told["notes"])


@needs_plugins
def test_a_shadow_model_does_not_depend_on_how_many_are_trained_at_once(stage: Stage) -> None:
    plan = stage.plan(protocols=[protocol("federated")], attacks=[LIRA], defenses=[DP])
    training = stage.training(plan, next(b for b in plan.baselines if b.defense == "dp-sgd").trains[0])
    pool = Pool(cohort=training.cohort.of_patients(training.split.auxiliary))
    lessons = Lessons(training, pool, recipe_of(training, defended=True), training.secret.branch("test"))
    hands = deal(pool.cohort.patients, 3, 0.5, np.random.default_rng(0))
    together = lessons.learn(range(3), hands)
    for m in range(3):
        (alone,) = lessons.learn([m], [hands[m]])
        for name, value in alone.items():
            torch.testing.assert_close(together[m][name], value, atol=2e-4, rtol=1e-2)


@needs_plugins
def test_a_planted_training_has_shadow_models_of_its_own(stage: Stage) -> None:
    stage.plan(protocols=[protocol("centralized")], attacks=[LIRA])  # writes the recipe
    planner = Planner(load_recipe(stage.folder / "recipe.yaml"))
    plan = planner.plant(planner.plan(), [Wanted(protocol="centralized", attack="lira", way="repeat")])
    honest, planted = shadow_jobs(plan)
    assert planted.label.endswith(" planted")
    assert planted.spec["planted"]["repeat"] == 10
    stage.run(plan, "cohort", "train", "shadows")
    stage.run(plan, "record")
    stage.run(plan, "attack")
    stage.run(plan, "score")
    told = found(stage, planted.key, "shadows.json")
    attacked = len(plan.split.attacked)
    assert told["patients"] == len(plan.split.auxiliary) + attacked + len(plan.split.non_members)
    assert told["patients"] < found(stage, honest.key, "shadows.json")["patients"]
    assert found(stage, plan.planted[0].score, "score.json")["evidence"]


@needs_plugins
def test_planted_patients_are_as_often_in_a_shadow_s_training_set_as_in_the_victim_s(stage: Stage) -> None:
    plan = stage.plan(protocols=[protocol("centralized")], attacks=[LIRA])
    cohort = stage.training(plan, plan.baselines[0].trains[0]).cohort
    a, b = cohort.patients[:2]
    pool = Pool(cohort=cohort, candidates=frozenset([a]), copies=10)
    rows = Counter(cohort.samples[i].patient for i in pool.rows([a, b]))
    assert rows == {a: 10, b: 1}
