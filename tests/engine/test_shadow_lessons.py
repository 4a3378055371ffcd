"""Shadow models learn as the victim does: on its patients, with its weights to begin with, they end where it ends."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
import pytest
import torch

from leakaudit.attacks import View
from leakaudit.engine.shadow_lessons import Lessons, Pool
from leakaudit.engine.shadow_recipes import recipe_of
from leakaudit.engine.training import Training
from leakaudit.models.stacked import Stack
from leakaudit.protocols.sending import send_through
from leakaudit.protocols.split import SegmentationNet
from leakaudit.protocols.training import initial_network
from leakaudit.testing.stage import Stage

# One batch holds everybody, so that the order in which patients are drawn does not matter.
WHOLE: dict[str, Any] = {
    "rounds": 3, "network": {"channels": [4, 8]}, "training": {"batch_size": 512, "optimizer": "sgd", "learning_rate": 0.5},
}  # fmt: skip
LIRA = {"use": "membership-lira", "name": "lira", "params": {"shadows": 4}}
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("leakaudit_membership", "leakaudit_updates", "leakaudit_cut")),
    reason="needs leakaudit-membership, leakaudit-updates and leakaudit-cut",
)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


def trainings(stage: Stage, protocol: str, *defenses: dict[str, Any], **more: Any) -> dict[str, Training]:
    """Return the training under each defense, by label."""
    plan = stage.plan(protocols=[{"use": protocol, "params": WHOLE | more}], attacks=[LIRA], defenses=list(defenses))
    return {b.defense: stage.training(plan, b.trains[0]) for b in plan.baselines}


def victim(training: Training) -> tuple[State, State]:
    """Return the whole network's weights before and after a training."""
    seat = training.seat(training.protocol.facts.seats[0])
    before = {k: v.detach().clone() for k, v in initial_network(seat, training.task).named_parameters()}
    states = training.run().states
    if "aggregator" in states:
        return before, dict(states["aggregator"])
    clients = [s.id for s in training.protocol.facts.seats_of("client")]
    after = {f"encoders.{i}.{k}": v for i, c in enumerate(clients) for k, v in states[c].items()}
    return before, after | dict(states["server"])


def taught(training: Training, start: State, monkeypatch: pytest.MonkeyPatch, models: int = 1) -> list[State]:
    """Return shadow models that begin with the victim's weights and learn from all of its patients."""
    monkeypatch.setattr(Lessons, "_initial", lambda self, branch: start)
    lessons = Lessons(training, Pool(cohort=training.members), recipe_of(training, defended=True), training.secret.branch("test"))
    return lessons.learn(range(models), [training.members.patients] * models)


def apart(a: State, b: State) -> float:
    return float(torch.cat([(a[k] - b[k]).flatten() for k in b]).norm())


@pytest.mark.parametrize("more", [{}, {"local_steps": 2, "weighting": "uniform"}, {"optimizer_state": "keep", "local_epochs": 2}])
def test_a_federated_shadow_is_averaged_over_sites_as_the_victim_is(
    stage: Stage, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainings(stage, "federated", **more)["none"]
    before, after = victim(training)
    found = taught(training, before, monkeypatch, models=2)
    assert apart(before, after) > 0.05
    assert all(apart(state, after) < 1e-4 for state in found)


UPDATES = [
    {"use": "update-clipping", "params": {"norm": 0.02}}, {"use": "update-pruning", "params": {"rate": 0.8}},
    {"use": "percentile-sharing", "params": {"percentile": 50, "gamma": 0.001}},
    {"use": "selective-sharing", "params": {"fraction": 0.2}},
]  # fmt: skip


def test_each_update_of_a_shadow_s_sites_passes_through_the_defense(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trainings(stage, "federated", *UPDATES)
    _, undefended = victim(found["none"])
    for name, training in found.items():
        if name == "none":
            continue
        before, after = victim(training)
        assert apart(after, undefended) > 0.01, f"{name} changes something"
        (state,) = taught(training, before, monkeypatch)
        assert apart(state, after) < 0.05 * apart(after, undefended), name


def test_the_noise_of_updates_is_as_large_as_the_victim_s_and_of_each_shadow_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = {"use": "update-noise", "params": {"sigma": 0.01, "scale": "absolute"}}
    found = trainings(stage, "federated", noise, rounds=1)
    _, undefended = victim(found["none"])
    before, after = victim(found["update-noise"])
    one, two = taught(found["update-noise"], before, monkeypatch, models=2)
    sizes = [apart(state, undefended) for state in (after, one, two)]
    # Independent draws of many entries: their norms agree within some percent, and their difference is sqrt(2) as long.
    assert max(sizes) < 1.15 * min(sizes)
    assert apart(one, two) == pytest.approx(2**0.5 * sizes[0], rel=0.15)


def test_sites_that_left_are_left_out_and_homeless_patients_learn_somewhere(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = [s.id for s in trainings(stage, "federated")["none"].protocol.facts.seats_of("site")]
    training = trainings(stage, "federated", dropouts=[{"site": sites[0], "round": 1}])["none"]
    before, after = victim(training)
    (state,) = taught(training, before, monkeypatch)
    assert apart(state, after) < 1e-4
    whole = trainings(stage, "federated")["none"]
    cohort = whole.cohort.of_patients(whole.split.auxiliary)
    elsewhere = type(cohort)(**{
        f: getattr(cohort, f) for f in ("images", "labels", "brain", "modalities", "origin")
    }, samples=tuple(type(s)(patient=s.patient, site="nowhere") for s in cohort.samples))  # fmt: skip
    lessons = Lessons(whole, Pool(cohort=elsewhere), recipe_of(whole, defended=True), whole.secret.branch("test"))
    (learned,) = lessons.learn([0], [elsewhere.patients])
    assert apart(learned, before) > 0.01


CUTS = [{"use": "quantization", "params": {"bits": 1}}, {"use": "gaussian-noise", "params": {"sigma": 0}}, {"use": "dropout"}]


def test_a_shadow_s_clients_send_through_the_defense(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trainings(stage, "split", *CUTS)
    _, undefended = victim(found["none"])
    (plain,) = taught(found["none"], victim(found["none"])[0], monkeypatch)
    assert apart(plain, undefended) < 1e-4
    for name, exact in (("quantization", True), ("gaussian-noise", True), ("dropout", False)):
        before, after = victim(found[name])
        assert recipe_of(found[name], defended=True).without == ()
        states = taught(found[name], before, monkeypatch, models=2)
        if exact:
            assert all(apart(s, after) < 0.05 * apart(before, after) for s in states), name
            assert (apart(after, undefended) > 0.02) is (name == "quantization")
        else:
            assert apart(states[0], states[1]) > 1e-3, "each model of a stack has masks of its own"
            assert apart(states[0], undefended) > 1e-3


def test_the_noise_that_shadow_models_learn_under_has_the_defense_s_scale() -> None:
    from leakaudit_cut.noise import GaussianNoise, LaplaceNoise
    from leakaudit_cut.params import GaussianNoiseParams, LaplaceNoiseParams

    from leakaudit.facts import SeatFacts
    from leakaudit.models import SegmentationTask
    from leakaudit.wire import Seat, Secret

    task = SegmentationTask(network={"channels": [4, 8]}, training={}, dims=2, groups=[[0]], levels=[0, 1])
    seat = Seat(SeatFacts(id="client-0", role="client"), Secret.from_seed(0))
    x = torch.zeros(2, 1, 16, 16)
    for guard in (
        GaussianNoise(GaussianNoiseParams(sigma=0.5, scale="absolute"), seat), LaplaceNoise(LaplaceNoiseParams(scale=0.3535), seat),
    ):  # fmt: skip
        network = task.build()
        assert isinstance(network, SegmentationNet)
        clean = [t.clone() for t in network.encoders[0](x)]
        noised = send_through(network, [("client-0", guard)]).encoders[0](x)  # type: ignore[union-attr, index, operator]
        for a, b in zip(clean, noised, strict=True):
            assert (b - a).std().item() == pytest.approx(0.5, rel=0.1)
    with pytest.raises(TypeError, match="no encoder for each"):
        send_through(task.build(), [("client-0", guard), ("client-1", guard)])
    whole = task.build()
    assert send_through(whole, []) is whole


def test_a_stack_takes_up_moments_and_leaves_others_alone() -> None:
    from leakaudit.models import SegmentationTask

    task = SegmentationTask(network={"channels": [4, 8]}, training={"learning_rate": 0.01}, dims=2, groups=[[0]], levels=[0, 1])
    x, y = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 3, 16, 16)
    start = {k: v.detach() for k, v in task.build().named_parameters()}
    stack = Stack(task, task.training, [start])
    stack.step(x, y, [[0, 1]])
    kept, values = stack.moments(), dict(stack.values)
    stack.step(x, y, [[0, 1]])
    after = stack.states()[0]
    stack.values = dict(values)
    stack.resume(kept)
    stack.step(x, y, [[0, 1]])
    assert apart(stack.states()[0], after) == 0
    stack.values = dict(values)
    stack.restart()
    stack.step(x, y, [[0, 1]])
    assert apart(stack.states()[0], after) > 0


LEARNING = [
    {"use": "random-projection"}, {"use": "bottleneck", "params": {"channels": 1}}, {"use": "shredder"},
    {"use": "nopeek", "params": {"weight": 2.0}},
]  # fmt: skip


def test_a_view_asks_shadow_models_through_what_their_defenses_learned(stage: Stage) -> None:
    plan = stage.plan(protocols=[{"use": "split", "params": WHOLE | {"rounds": 1}}], attacks=[LIRA], defenses=LEARNING)
    stage.run(plan, "cohort", "train", "record", "shadows", "attack")
    assert len(plan.pairings) == 5
    for pairing in plan.pairings:
        job = next(j for j in plan.jobs if j.key == pairing.attacks[0])
        entry, kept = stage.store.get(job.spec["shadows_key"]), stage.store.get(job.key)
        assert entry is not None
        assert kept is not None
        told = json.loads((entry.folder / "shadows.json").read_text())
        assert (told["defended"], told["without"]) == (True, [])
        assert not any("Trained without" in n for n in told["notes"])
        alone = pairing.defense in ("random-projection", "nopeek")
        assert any("trained alone" in n for n in told["notes"]) is alone
        assert told["at_once"] == 1 or not alone
        view = View(stage.views[pairing.attacks[0]] / "view")
        assert view.auxiliary is not None
        shadow, images = view.shadows[0], torch.from_numpy(np.array(view.auxiliary.images[:2]))
        with torch.no_grad():
            first, second = (view.predictor(shadow)(images) for _ in range(2))
        assert torch.equal(first, second) is (pairing.defense != "shredder"), "but for noise, nothing is drawn anew"
        sent = [t for name, t in shadow.state.items() if name.startswith("defense:")]
        layers = [t for name, t in shadow.state.items() if ".layers." in name]
        assert bool(sent) is (pairing.defense == "random-projection")
        assert bool(layers) is (pairing.defense in ("bottleneck", "shredder"))
        for tensor in sent + (layers if pairing.defense == "bottleneck" else []):
            tensor.zero_()
        with torch.no_grad():
            emptied = view.predictor(shadow)(images)
        assert torch.equal(emptied, first) is (pairing.defense in ("none", "nopeek")), "the answer depends on what it learned"


def test_the_view_says_whom_of_its_own_each_shadow_learned_from_and_asks_it_through_the_defense(stage: Stage) -> None:
    plan = stage.plan(protocols=[{"use": "split", "params": WHOLE | {"rounds": 1}}], attacks=[LIRA], defenses=[CUTS[2]])
    stage.run(plan, "cohort", "train", "record", "shadows", "attack")
    for pairing in plan.pairings:
        folder = stage.views[pairing.attacks[0]]
        view = View(folder / "view")
        assert view.auxiliary is not None
        owned = set(view.auxiliary.patients)
        assert all(set(s.own) <= owned and len(set(s.own)) == len(s.own) for s in view.shadows)
        assert {sum(p in s.own for s in view.shadows) for p in owned} == {2}
        assert not owned & {p for s in view.shadows for p in s.members}
        images = torch.from_numpy(np.array(view.auxiliary.images[:2]))
        with torch.no_grad():
            answers = [view.predictor(view.shadows[0])(images) for _ in range(2)]
        assert torch.equal(*answers) is (pairing.defense == "none")
        entry = stage.store.get(next(j for j in plan.jobs if j.key == pairing.attacks[0]).spec["shadows_key"])
        assert entry is not None
        told = json.loads((entry.folder / "shadows.json").read_text())
        assert told["defended"] is True
        assert [d["name"] for d in told["sends"]] == ([] if pairing.defense == "none" else ["dropout"])
        assert any("dropout" in n for n in told["notes"]) is (pairing.defense == "dropout")
        # The names under which shadow models' patients are stored are not those that an attack sees.
        assert not owned & {p for hand in told["own"] for p in hand}
