"""Shadow models under the defenses at the cut learn as a victim does that begins with the same draws: they end where it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from leakaudit_cut.learned import Bottleneck, Shredder
from leakaudit_cut.nopeek import NoPeek
from leakaudit_cut.params import GaussianNoiseParams, QuantizationParams, RandomProjectionParams
from leakaudit_cut.params_learned import AttackerAwareParams, BottleneckParams, NoPeekParams, ShredderParams

from leakaudit.engine.places import guard_of
from leakaudit.engine.shadow_lessons import Lessons, Pool
from leakaudit.engine.shadow_recipes import recipe_of
from leakaudit.engine.training import Training
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import SegmentationTask
from leakaudit.plugins import DefenseParams, ShadowTraining, Victim
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.sending import learned_state, restored, send_through
from leakaudit.protocols.training import initial_network
from leakaudit.testing import checks
from leakaudit.testing.stage import Stage
from leakaudit.wire import Seat, Secret

# One batch holds everybody, so that the order in which patients are drawn does not matter.
WHOLE: dict[str, Any] = {
    "rounds": 3, "network": {"channels": [4, 8]}, "training": {"batch_size": 512, "optimizer": "sgd", "learning_rate": 0.5},
}  # fmt: skip
DEFENSES = {
    "random-projection": {"keep": 0.5},
    "bottleneck": {"channels": 1},
    # Hardly any noise, which falls on other rows where these come in another order; its scale is learned all the same.
    "shredder": {"strength": 0.2, "start": 1e-4},
    "nopeek": {"weight": 2.0},
    "attacker-aware": {"strength": 2.0, "threshold": 0.0, "steps": 2, "width": 4},
}
ALONE = ("random-projection", "nopeek", "attacker-aware")
DP = {"use": "dp-sgd", "params": {"noise_multiplier": 1e-9, "clip": 0.5, "unit": "patient", "delta": 0.01}}
COHORT = CohortFacts(modalities=("flair",), shape=(16, 16), members=4, auxiliary=4, sites=("a",), records=4)
VICTIM = Victim(facts=SplitParams().facts(COHORT), role="client", rate=0.25, steps=40)
ELSEWHERE = Seat(SeatFacts(id="client-0", role="client"), Secret.from_seed(0), device="meta")
TASK = SegmentationTask(network={"channels": [4, 8]}, training={}, dims=2, groups=[[0]], levels=[0, 1])
State = dict[str, torch.Tensor]
Trained = tuple[Training, State]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Every defended training, and the undefended one, with the weights that the victim ends with."""
    stage = Stage(tmp_path_factory.mktemp("stage"))
    defenses = [{"use": name, "params": params} for name, params in DEFENSES.items()]
    plan = stage.plan(protocols=[{"use": "split", "params": WHOLE}], defenses=defenses)
    found = {b.defense: stage.training(plan, b.trains[0]) for b in plan.baselines}
    return {name: (training, victim(training)) for name, training in found.items()}


def victim(training: Training) -> State:
    states = training.run().states
    clients = [s.id for s in training.protocol.facts.seats_of("client")]
    weights = {f"encoders.{i}.{k}": v for i, c in enumerate(clients) for k, v in states[c].items()}
    return weights | dict(states["server"])


def twins(training: Training, monkeypatch: pytest.MonkeyPatch, models: int = 1) -> list[State]:
    """Return shadow models of the victim's patients that begin with the victim's weights, and whose defenses draw as its do."""
    first = training.seat(training.protocol.facts.seats[0])
    monkeypatch.setattr(Lessons, "_built", lambda self, branch: initial_network(first, training.task))
    monkeypatch.setattr(Lessons, "guard", lambda self, facts, secret: guard_of(self.recipe.sends, training.seat(facts)))
    return taught(training, models)


def taught(training: Training, models: int = 1) -> list[State]:
    lessons = Lessons(training, Pool(cohort=training.members), recipe_of(training, defended=True), training.secret.branch("test"))
    return lessons.learn(range(models), [training.members.patients] * models)


def weights(state: State) -> State:
    return {k: v for k, v in state.items() if not k.startswith("defense:")}


def apart(a: State, b: State) -> float:
    """Return the distance over the weights that both have."""
    return float(torch.cat([(a[k] - b[k]).flatten() for k in b if k in a]).norm())


@pytest.mark.parametrize("name", list(DEFENSES))
def test_a_shadow_model_learns_under_the_defense_as_the_victim_does(
    name: str, trainings: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, after = trainings[name]
    recipe = recipe_of(training, defended=True)
    assert (recipe.without, recipe.alone, [d["name"] for d in recipe.sends]) == ((), name in ALONE, [name])
    states = twins(training, monkeypatch, models=2)
    _, undefended = trainings["none"]
    plain = {k.replace(".inner.", "."): v for k, v in after.items()}
    changed = apart(plain, undefended) + (float(after["encoders.0.layers.level0.log_scale"].norm()) if name == "shredder" else 0)
    assert changed > 0.02, f"{name} changes something"
    for state in states:
        assert weights(state).keys() == after.keys()
        assert apart(state, after) < 0.02 * changed


def test_shredder_s_scale_is_learned_along_and_of_each_shadow_its_own(
    trainings: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, after = trainings["shredder"]
    (state,) = twins(training, monkeypatch)
    for name in [k for k in after if "log_scale" in k]:
        grown = after[name] - torch.tensor(1e-4).log()
        assert grown.mean() > 0.01, "more noise is rewarded"
        torch.testing.assert_close(state[name], after[name], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", list(DEFENSES))
def test_what_the_defense_draws_is_of_each_shadow_model_its_own(name: str, trainings: dict[str, Trained]) -> None:
    training, after = trainings[name]
    one, two = taught(training, models=2)
    assert apart(weights(one), weights(two)) > 0.1
    if name == "bottleneck":
        assert all(apart(a, b) > 0.1 for a, b in ((one, two), (one, after), (two, after)))
    if name != "random-projection":
        assert weights(one) == one
        return
    seats = training.protocol.facts.seats_of("client")
    drawn = [{k: v for k, v in s.items() if k.startswith("defense:")} for s in (one, two)]
    assert {k.split(":")[1] for k in drawn[0]} == {s.id for s in seats}
    assert all(v.shape == (v.shape[1] // 2, v.shape[1]) for v in drawn[0].values())
    secret = {k: v for s in seats for k, v in learned_state([(s.id, carried(training, s))]).items()}
    assert secret.keys() == drawn[0].keys()
    assert all(not torch.allclose(a[k], b[k]) for a, b in ((drawn[0], drawn[1]), (drawn[0], secret)) for k in secret)


def carried(training: Training, seat: SeatFacts) -> Any:
    """Return the defense of a victim's seat, as it stands after the training."""
    guard = guard_of(training.spec["defenses"], training.seat(seat))
    guard.adapt(initial_network(training.seat(seat), training.task).encoders[0])  # type: ignore[union-attr, index]
    return guard


@pytest.mark.parametrize("name", ["random-projection", "bottleneck", "shredder"])
def test_a_stored_shadow_model_answers_through_what_it_learned(name: str, trainings: dict[str, Trained]) -> None:
    training, _ = trainings[name]
    recipe = recipe_of(training, defended=True)
    (state,) = taught(training)
    x = torch.from_numpy(training.members.images[:2].copy())

    def clients(seed: int) -> list[tuple[str, Any]]:
        seats = [Seat(f, Secret.from_seed(seed, f.id), task=training.task) for f in training.protocol.facts.seats_of("client")]
        return [(s.id, guard_of(recipe.sends, s)) for s in seats]

    networks = [restored(training.task.build(), state, clients(seed)).eval() for seed in (1, 2)]
    with torch.no_grad():
        first, second = (n(x) for n in networks)
        other = send_through(training.task.build(), clients(3)).eval()
        other.load_state_dict(weights(state))
        assert not torch.equal(first, other(x)) or name == "bottleneck"
    assert torch.equal(first, second) is (name != "shredder"), "nothing but noise is fresh"
    if name != "random-projection":
        with pytest.raises(RuntimeError, match=r"Unexpected key.*layers"):
            training.task.build().load_state_dict(weights(state))


def test_beside_clipped_steps_layers_are_clipped_along_and_what_a_penalty_teaches_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("leakaudit_dp")
    stage = Stage(tmp_path)
    chains = [
        {"name": name, "chain": [{"use": name, "params": DEFENSES[name]}, DP]}
        for name in ("bottleneck", "random-projection", "shredder")
    ]
    plan = stage.plan(protocols=[{"use": "split", "params": WHOLE}], defenses=[DP, *chains])
    found = {b.defense: stage.training(plan, b.trains[0]) for b in plan.baselines}
    undefended = victim(found["dp-sgd"])
    for name in ("bottleneck", "random-projection"):
        recipe = recipe_of(found[name], defended=True)
        assert recipe.without == ()
        assert recipe.parts
        after = victim(found[name])
        with monkeypatch.context() as patch:
            (state,) = twins(found[name], patch)
        assert weights(state).keys() == after.keys()
        assert apart({k.replace(".inner.", "."): v for k, v in after.items()}, undefended) > 0.02
        assert apart(state, after) < 1e-3
    recipe = recipe_of(found["shredder"], defended=True)
    assert (recipe.without, recipe.sends) == (("shredder",), ())
    # The victim's scale learns nothing there: its reward is in nobody's gradient, and hardly any noise is added here.
    scales = [v for k, v in victim(found["shredder"]).items() if "log_scale" in k]
    assert all(torch.allclose(v, torch.tensor(1e-4).log(), atol=1e-6) for v in scales)


def test_a_batch_that_nobody_is_in_teaches_an_inner_attacker_nothing(
    trainings: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = trainings["nopeek"]
    asked: list[int] = []
    penalty = NoPeek.penalty

    def counted(self: NoPeek, x: torch.Tensor, sent: Any) -> torch.Tensor | None:
        asked.append(len(x))
        return penalty(self, x, sent)

    monkeypatch.setattr(NoPeek, "penalty", counted)
    steps = Lessons.steps
    monkeypatch.setattr(Lessons, "steps", lambda self, stack, _, rate=1.0: steps(self, stack, [[[], [0, 1, 2]]], rate))
    taught(training)
    clients = len(training.protocol.facts.seats_of("client"))
    assert asked == [3] * clients * WHOLE["rounds"]


@pytest.mark.parametrize(
    ("params", "alone"),
    [
        (RandomProjectionParams(), True), (NoPeekParams(), True), (NoPeekParams(weight=0), False), (AttackerAwareParams(), True),
        (BottleneckParams(), False), (ShredderParams(), False), (GaussianNoiseParams(), False), (QuantizationParams(), False),
    ],
)  # fmt: skip
def test_recipes(params: DefenseParams, alone: bool) -> None:
    assert params.shadow(VICTIM) == ShadowTraining(sends=True, alone=alone)


def test_a_server_s_features_have_no_recipe() -> None:
    server = Victim(facts=VICTIM.facts, role="server", rate=0.25, steps=40)
    assert RandomProjectionParams(roles=["client", "server"]).shadow(server) is None


@pytest.mark.parametrize("name", list(DEFENSES))
def test_the_recipe_keeps_the_contract(name: str) -> None:
    found = checks("defense", f"leakaudit-cut/{name}", examples=[DEFENSES[name]])
    (shadow,) = [check for check in found if check.name == "shadow"]
    assert shadow().status == "passed"


@pytest.mark.parametrize("defense", [Bottleneck(BottleneckParams(channels=1), ELSEWHERE), Shredder(ShredderParams(), ELSEWHERE)])
def test_learned_layers_lie_where_the_seat_computes(defense: Bottleneck | Shredder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bottleneck, "_seed", lambda self: 0)  # drawn where this device can draw nothing
    encoder = initial_network(Seat(ELSEWHERE.facts, Secret.from_seed(0), shared=Secret.from_seed(1)), TASK).encoders[0]  # type: ignore[union-attr, index]
    layers = defense.adapt(encoder).layers
    assert {p.device.type for p in layers.parameters()} == {"meta"}  # type: ignore[union-attr]
