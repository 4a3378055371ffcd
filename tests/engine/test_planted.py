"""Planted controls as cells: which training, which attack, which patients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from leakaudit.cohorts.cohort import Cohort, Split
from leakaudit.engine.cells.attack import candidates_of
from leakaudit.engine.jobs import Job
from leakaudit.engine.plan import Plan, Planted
from leakaudit.engine.planner import Planner
from leakaudit.engine.planting import COPIES, PLANTED, Wanted, repeated, shallowest
from leakaudit.engine.training import Training
from leakaudit.facts import Flow, ProtocolFacts, SeatFacts
from leakaudit.plugins import AttackInfo, AttackParams
from leakaudit.plugins.targets import import_target
from leakaudit.recipes.loading import load_recipe
from leakaudit.recipes.resolved import AttackChoice
from leakaudit.threats import Canaries, NotApplicable, Requires, Tap, ThreatModel

RECIPE: dict[str, Any] = {
    "version": 1, "name": "planted",
    "data": {
        "use": "phantom", "params": {"patients": 20, "size": 32, "visits": 1, "slices": 2},
        "split": {"members": 6, "validation": 2, "test": 2, "non_members": 4, "auxiliary": 4, "attacked": 4},
    },
    "protocols": [
        {"use": "split", "params": {"rounds": 1, "cut": 1, "network": {"channels": [4, 8]}, "clients": [["flair"], ["t1"]]}},
        {"use": "centralized", "params": {"rounds": 1, "network": {"channels": [4, 8]}}},
    ],
    "defenses": ["gaussian-noise"], "attacks": ["membership-loss"], "run": {"device": "cpu"},
}  # fmt: skip


class Levels(AttackParams):
    level: str = Field("level1", description="A level.")
    many: tuple[str, ...] = Field(("level1", "level0", "all"), description="Levels and other words.")
    deep: dict[str, list[str]] = Field({"names": ["level1"]}, description="Levels further down.")
    names: tuple[str, ...] | None = Field(("level1",), description="What its taps name.")
    strict: bool = Field(False, description="Whether it refuses the shallowest level.")
    alters: bool = Field(False, description="Whether it alters the cohort.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        if self.strict and self.level == "level0":
            raise ValueError("level0 is beneath me")
        threat = ThreatModel(plays=("server", "outsider"), channels=("activation", "output"), knows=("candidates",))
        if self.alters:
            return Requires(threat=replace(threat, alters=("cohort",)), canaries=Canaries(count=4))
        taps = (Tap(channel="activation", names=self.names), Tap(channel="output"), Tap(channel="activation", names=("features",)))
        return Requires(threat=threat, taps=taps)


def planned(tmp_path: Path, **params: Any) -> tuple[Planner, Plan]:
    """Return a planner with the plan of an attack that names levels in every way it can."""
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(RECIPE))
    recipe = load_recipe(path)
    info = AttackInfo(
        name="toy", summary="A toy.", params=Levels, target="toys:Toy", api_version="1.0", family="reconstruction",
        evidence=("images", "scores"), channels=("activation", "output"),
    )  # fmt: skip
    plugin = replace(recipe.attacks[0].plugin, info=info)
    choice = AttackChoice(label="toy", plugin=plugin, params=Levels(**params), seeds=3)
    planner = Planner(replace(recipe, attacks=(choice,)))
    return planner, planner.plan()


def plant(tmp_path: Path, way: str, level: str = "", **params: Any) -> tuple[Plan, Planted, dict[str, Job]]:
    """Return the plan with one planted control, the control, and the jobs that came with it by kind."""
    planner, plan = planned(tmp_path, **params)
    channel = "activation" if level else ""
    after = planner.plant(plan, [Wanted(protocol="split", attack="toy", way=way, channel=channel, level=level)])  # type: ignore[arg-type]
    assert after.jobs[: len(plan.jobs)] == plan.jobs
    (entry,) = after.planted
    return plan, entry, {job.kind: job for job in after.jobs[len(plan.jobs) :]}


def test_the_shallowest_level_is_the_first_that_the_channel_carries() -> None:
    seats = (SeatFacts(id="client-0", role="client"), SeatFacts(id="server", role="server"), SeatFacts(id="y", role="labels"))
    flows = (
        Flow(channel="activation", sender="client", receiver="server", names=("level2", "level1")),
        Flow(channel="activation", sender="server", receiver="labels", names=("features",)),
        Flow(channel="update", sender="client", receiver="server"),
    )
    facts = ProtocolFacts(
        protocol="x", seats=seats, flows=flows, rounds=1, spatial_dims=2, normalization="none",
        levels=("level0", "level1", "level2"),
    )  # fmt: skip
    assert shallowest(facts, "activation", "client-0") == "level1"
    assert shallowest(facts, "activation", None) == "level1"
    assert shallowest(facts, "activation", "y") is None
    assert shallowest(facts, "update", "client-0") == "level0", "a flow without names may carry any level"
    assert shallowest(facts, "output", None) is None


def test_levels_in_parameters_and_taps_become_the_shallowest(tmp_path: Path) -> None:
    plan, entry, more = plant(tmp_path, "level", "level0")
    assert set(more) == {"record", "attack", "score"}
    assert (entry.train, entry.cell, entry.score) == (plan.baselines[0].trains[0], more["attack"].key, more["score"].key)
    spec = more["attack"].spec["attacker"]
    assert spec["params"]["level"] == "level0"
    assert spec["params"]["many"] == ["level0", "all"]
    assert spec["params"]["deep"] == {"names": ["level0"]}
    assert [tap["names"] for tap in more["record"].spec["taps"]] == [["level0"], None, ["features"]]
    assert more["attack"].spec["train_key"] == entry.train
    assert "planted" not in more["attack"].spec
    assert more["attack"].label == "split/none by toy planted on level0"


def test_a_tap_on_everything_is_narrowed(tmp_path: Path) -> None:
    _, _, more = plant(tmp_path, "level", "level0", names=None)
    assert more["record"].spec["taps"][0]["names"] == ["level0"]


def test_an_attack_that_refuses_says_why(tmp_path: Path) -> None:
    _, entry, more = plant(tmp_path, "level", "level0", strict=True)
    assert more == {}
    assert entry.reason is not None
    assert "level0 is beneath me" in entry.reason
    assert (entry.cell, entry.score) == ("", "")


def test_patients_are_repeated_in_a_training_of_its_own_under_the_same_seeds(tmp_path: Path) -> None:
    plan, entry, more = plant(tmp_path, "repeat")
    assert set(more) == {"train", "record", "attack", "score"}
    assert entry.train == more["train"].key
    assert more["train"].label == "split/none planted"
    before = next(job for job in plan.jobs if job.key == plan.baselines[0].trains[0])
    changed = {k for k in before.spec if before.spec[k] != more["train"].spec[k]} - {"also_record"}
    assert changed == {"cohort_facts"}
    assert more["train"].spec["planted"] == {"repeat": COPIES, "patients": PLANTED}
    facts = [job.spec["cohort_facts"]["records"] for job in (before, more["train"])]
    assert facts == [12, 12 + 9 * 8]
    assert more["train"].spec["also_record"][0]["key"] == more["record"].key, "written while training"


def test_canaries_are_the_ones_that_are_repeated_where_an_attack_crafts_them(tmp_path: Path) -> None:
    plan, _, more = plant(tmp_path, "repeat", alters=True)
    altered = next(job for job in plan.jobs if job.kind == "train" and "with toy" in job.label)
    assert more["train"].spec["prepare"] == altered.spec["prepare"], "the same canaries, with the same coins"
    assert more["train"].spec["cohort_facts"] == altered.spec["cohort_facts"]


def training(plan: Plan, job: Job, canaries: Cohort | None = None) -> Training:
    data = plan.recipe.data
    everybody = [e.patient for e in plan.inventory.patients]
    cohort = import_target(data.plugin.info.target)(data.params, plan.recipe.seed).load(everybody)
    return Training(job.spec, cohort, plan.split, canaries, salt="x")


def test_a_planted_training_has_every_attacked_patient_ten_times(tmp_path: Path) -> None:
    plan, _, more = plant(tmp_path, "repeat")
    before, after = (training(plan, job) for job in (plan.jobs[1], more["train"]))
    assert before.original == list(range(12))
    count = {p: sum(s.patient == p for s in after.members.samples) for p in plan.split.members}
    assert count == {p: 20 if p in plan.split.attacked else 2 for p in plan.split.members}
    assert after.members.samples[:12] == before.members.samples
    assert after.tokens[:12] == before.tokens
    assert len(set(after.tokens)) == len(after.tokens) == len(after.original)
    assert [after.members.samples[r] for r in after.original] == list(after.members.samples)
    assert max(after.original) < 12
    assert len(set(after.units)) == 6, "the copies of a patient are one patient"
    batches = [after.schedule().batches(0), before.schedule().batches(0)]
    assert [sum(map(len, b)) for b in batches] == [12 + 9 * 8, 12]


def test_only_the_repeated_patients_are_compared_with_those_never_seen(tmp_path: Path) -> None:
    plan, _, more = plant(tmp_path, "repeat")
    for job, inside in ((more["train"], plan.split.attacked), (plan.jobs[1], plan.split.members)):
        cohort, coins = candidates_of(job.spec, None, training(plan, job))  # type: ignore[arg-type]
        assert coins == dict.fromkeys(inside, True) | dict.fromkeys(plan.split.non_members, False)
        assert cohort is not None
        assert sorted(cohort.patients) == sorted(coins)
        assert len(cohort) == 2 * len(coins)


def test_canaries_that_training_includes_are_the_planted_ones(tmp_path: Path) -> None:
    plan, _, more = plant(tmp_path, "repeat")
    plain = training(plan, plan.jobs[1])
    crafted = plain.cohort.of_patients(plan.split.auxiliary[:1])
    crafted = replace(crafted, samples=tuple(replace(s, patient="canary-0000") for s in crafted.samples))
    planted = training(plan, more["train"], crafted)
    count = {p: sum(s.patient == p for s in planted.members.samples) for p in planted.members.patients}
    assert count == {**dict.fromkeys(plan.split.members, 2), "canary-0000": 20}


@pytest.mark.parametrize("way", ["level", "repeat"])
def test_one_run_of_the_attack_is_enough(tmp_path: Path, way: str) -> None:
    plan, _, more = plant(tmp_path, way, "level0" if way == "level" else "")
    assert "attack_seed" not in more["attack"].spec
    seeds = [job.spec.get("attack_seed", 0) for job in plan.jobs if job.kind == "attack" and "split/none" in job.label]
    assert seeds == [0, 1, 2]


def test_planted_patients_are_few_and_spread_over_all_that_are_attacked():
    names = tuple(f"p{i:03}" for i in range(60))
    split = Split(members=names, validation=(), test=(), non_members=(), auxiliary=(), attacked=names)
    assert repeated(split, 15) == names[::4]
    assert len(set(repeated(split, 16))) == 16
    assert repeated(replace(split, attacked=names[:10]), 16) == names[:10]
    assert len(set(repeated(replace(split, attacked=names[:17]), 16))) == 16
    assert repeated(replace(split, attacked=()), 16) == ()
