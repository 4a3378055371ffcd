"""`model-inversion`: recovers undefended images, sees through noise it knows, and finds nothing in shuffled messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_inversion.attack import ModelInversion
from leakaudit_inversion.losses import reconstruction_loss
from leakaudit_inversion.params import ModelInversionParams
from leakaudit_inversion.source import Auxiliary

from leakaudit.attacks import Evidence, Images
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import CentralizedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires, Tap
from leakaudit.wire import Seat, Secret

COHORT = CohortFacts(modalities=("t1", "t2"), shape=(32, 32), members=16, auxiliary=48, sites=("site-0",), records=16)
FAST: dict[str, Any] = {"clients": ["client-0"], "iterations": 100, "loss": "mse"}


def attack(**params: Any) -> ModelInversion:
    seat = Seat(SeatFacts(id="server", role="server"), Secret.from_seed(0))
    return ModelInversion(ModelInversionParams.model_validate({**FAST, **params}), seat)


def correlation(images: dict[str, np.ndarray] | Evidence, world: Any, channel: int = 0) -> float:
    """Mean over targets of the correlation inside the brain."""
    guesses = images if isinstance(images, dict) else dict(zip(images.about, images.array, strict=True))
    values = []
    for token, guess in guesses.items():
        brain = world.brain[token]
        values.append(np.corrcoef(guess[0][brain], world.truth[token][channel][brain])[0, 1])
    return float(np.mean(values))


def chance(world: Any, channel: int = 0) -> float:
    mean = world.view().auxiliary.images[:, channel : channel + 1].mean(axis=0)
    return correlation(dict.fromkeys(world.truth, mean), world, channel)


@pytest.fixture(scope="module")
def plain(build: Any, tmp_path_factory: Any) -> Any:
    return build(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def noisy(build: Any, tmp_path_factory: Any) -> Any:
    return build(tmp_path_factory.mktemp("noisy"), sigma=1.5, rounds=6, tapped=Tap(channel="activation", rounds=(-1, -2, -3, -4)))


@pytest.fixture(scope="module")
def fitted(plain: Any) -> ModelInversion:
    inversion = attack(levels="each-and-joint")
    inversion.fit(plain.blind())
    return inversion


def test_undefended_images_are_recovered_at_every_level_far_above_the_mean_image(plain: Any, fitted: ModelInversion) -> None:
    found = {e.level: correlation(e, plain) for e in fitted.run(plain.view())}
    base = chance(plain)
    assert base < 0.6
    assert found["level0"] > 0.95
    assert found["joint"] > 0.9
    assert found["level1"] > base + 0.2
    assert found["level2"] > base + 0.1
    assert found["level0"] > found["level1"] > found["level2"]


def test_evidence_names_endpoint_seat_level_and_modality(plain: Any, fitted: ModelInversion) -> None:
    evidence = fitted.run(plain.view())
    assert [e.name for e in evidence] == ["client-0/level0", "client-0/level1", "client-0/level2", "client-0/joint"]
    for e in evidence:
        assert isinstance(e, Images)
        assert (e.seat, e.channel, e.modalities, e.ordered) == ("client-0", "activation", ("t1",), True)
        assert e.images.shape == (16, 1, 32, 32)
        assert e.about == tuple(t.token for t in plain.view().targets)


def test_shuffled_messages_match_nobody(plain: Any, fitted: ModelInversion, shuffle: Any, tmp_path: Path) -> None:
    broken = shuffle(plain, tmp_path / "view")
    (level0, *_) = fitted.run(broken.view())
    assert isinstance(level0, Images)
    assert correlation(level0, broken) < chance(plain) + 0.05


def test_knowing_the_noise_beats_not_knowing_it(noisy: Any, tmp_path: Path) -> None:
    naive = tmp_path / "naive"
    shutil.copytree(noisy.folder, naive / "view")
    shutil.copytree(noisy.folder.parent / "blind", naive / "blind")
    for name in ("view", "blind"):
        path = naive / name / "view.json"
        data = json.loads(path.read_text())
        for entry in data["replicas"].values():
            entry["defenses"] = []
        path.write_text(json.dumps(data))
    blindfolded = replace(noisy, folder=naive / "view")
    found = {}
    for name, world in (("adaptive", noisy), ("naive", blindfolded)):
        inversion = attack(levels=["level0"])
        inversion.fit(world.blind())
        (images,) = inversion.run(world.view())
        assert isinstance(images, Images)
        brain = np.stack([noisy.brain[t] for t in images.about])
        truth = np.stack([noisy.truth[t][:1] for t in images.about])
        found[name] = float((((images.images - truth) ** 2)[:, 0])[brain].mean())
    assert found["adaptive"] < 0.8 * found["naive"]


def error(images: Evidence, world: Any) -> float:
    """Mean over targets of the squared error inside the brain."""
    pairs = [(g[0][world.brain[t]], world.truth[t][0][world.brain[t]]) for t, g in zip(images.about, images.array, strict=True)]
    return float(np.mean([((a - b) ** 2).mean() for a, b in pairs]))


def found(world: Any, **params: Any) -> list[Evidence]:
    inversion = attack(**params)
    inversion.fit(world.blind())
    return list(inversion.run(world.view()))


def test_a_decoder_of_averages_undoes_part_of_the_noise(noisy: Any) -> None:
    (one,), (four,) = (found(noisy, levels=["level0"], observations=k) for k in (1, 4))
    assert error(four, noisy) < 0.8 * error(one, noisy)


def test_averages_of_dropped_activations_are_taken_over_what_was_kept(
    build: Any, toys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    world = build(tmp_path, defense=toys("Dropper", rate=0.75), rounds=6, tapped=Tap(channel="activation", rounds=(-1, -2, -3, -4)))
    (aware,) = found(world, levels=["level0"], observations=4)
    monkeypatch.setattr("leakaudit_inversion.pooling._VISIBLE", 2.0)  # zeros are taken for values
    (unaware,) = found(world, levels=["level0"], observations=4)
    assert error(aware, world) < 0.95 * error(unaware, world)


def test_each_round_has_its_own_decoders_and_leaks_more_than_the_untrained_start_at_depth(build: Any, tmp_path: Path) -> None:
    world = build(tmp_path, rounds=5, tapped=Tap(channel="activation", rounds=None))
    evidence = found(world, levels=["level0"], rounds=[-1, 0, 4], iterations=60)
    assert [e.name for e in evidence] == ["client-0/level0@0", "client-0/level0@4"]
    assert [e.level for e in evidence] == ["level0", "level0"]
    for e in evidence:
        assert correlation(e, world) > 0.85


def test_messages_of_the_wrong_round_are_not_what_its_decoder_learned(build: Any, tmp_path: Path) -> None:
    steep = {"batch_size": 4, "learning_rate": 2e-2}
    world = build(tmp_path, rounds=4, tapped=Tap(channel="activation", rounds=None), training=steep)
    inversion = attack(levels=["level1"], rounds=[3])
    inversion.fit(world.blind())
    (right,) = inversion.run(world.view())
    view = world.view()
    every = view.messages
    view.messages = lambda **where: every(**{**where, "round": 0})
    (wrong,) = inversion.run(view)
    assert error(right, world) < 0.7 * error(wrong, world)


def test_what_a_colluding_client_holds_of_the_same_patients_helps_at_depth(build: Any, plain: Any, tmp_path: Path) -> None:
    world = build(tmp_path, plays=("server", "client-1"))
    (fused,) = found(world, levels=["level2"], position="collusion:client-1")
    (alone,) = found(plain, levels=["level2"])
    assert fused.name == "client-0/level2"
    assert error(fused, world) < 0.6 * error(alone, plain)


def test_noise_images_teach_less_than_patients_and_no_brain_mask_is_used(build: Any, brains: Any, tmp_path: Path) -> None:
    noise = brains([f"a{i}" for i in range(48)], seed=2)
    noise = replace(noise, images=np.random.default_rng(0).standard_normal(noise.images.shape).astype(np.float32))
    world = build(tmp_path, auxiliary=noise, owns="noise")
    (taught_by_noise,) = found(world, levels=["level1"], auxiliary="noise")
    view = world.blind()
    images = Auxiliary.of(view.auxiliary, ("t1",), noise=True)
    assert images.brain.min() == 1
    assert Auxiliary.of(view.auxiliary, ("t1",)).brain.min() == 0
    assert correlation(taught_by_noise, world) < 0.9


def test_training_stops_when_held_out_patients_gain_nothing(plain: Any) -> None:
    steps = {}
    for patience in (None, 1):
        view = plain.blind()
        source_calls = []
        inversion = attack(levels=["level0"], iterations=60, learning_rate=1e-9, patience=patience)
        train = "leakaudit_inversion.training.reconstruction_loss"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, lambda *a, calls=source_calls: (calls.append(1), reconstruction_loss(*a))[1])
            inversion.fit(view)
        steps[patience] = len(source_calls)
    assert steps[1] < steps[None] - 40


def test_patience_without_held_out_patients_is_refused() -> None:
    with pytest.raises(ValueError, match="validation share"):
        ModelInversionParams(patience=2, validation=0)


def test_a_randomized_replica_is_asked_anew_at_every_step_and_a_fixed_one_only_once(plain: Any, noisy: Any) -> None:
    calls = {}
    for name, world in (("plain", plain), ("noisy", noisy)):
        view = world.blind()
        attack(levels=["level2"], iterations=40).fit(view)
        calls[name] = sum(replica.calls for _, replica in view.replicas_given)
    assert calls["noisy"] >= 40
    assert calls["plain"] < 20


def test_two_runs_give_the_same_numbers_whatever_the_global_stream(noisy: Any) -> None:
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        inversion = attack(levels=["level1"], iterations=10)
        inversion.fit(noisy.blind())
        (images,) = inversion.run(noisy.view())
        results.append(images.array)
    np.testing.assert_array_equal(results[0], results[1])


def test_volumes_and_clients_with_two_modalities(build: Any, brains: Any, tmp_path: Path) -> None:
    world = build(
        tmp_path, dims=3, side=16, rounds=1, clients=[["t2", "t1"]], cut=1,
        victims=brains([f"v{i}" for i in range(4)], 3, 16, 1), auxiliary=brains([f"a{i}" for i in range(12)], 3, 16, 2),
    )  # fmt: skip
    inversion = attack(clients=None, batch_size=4, iterations=60, learning_rate=8e-3)
    inversion.fit(world.blind())
    evidence = inversion.run(world.view())
    assert [e.name for e in evidence] == ["client-0/level0", "client-0/level1"]
    shallow = evidence[0]
    assert isinstance(shallow, Images)
    assert shallow.modalities == ("t2", "t1")
    assert shallow.images.shape == (4, 2, 16, 16, 16)
    assert correlation(shallow, world, channel=1) > 0.6


def test_without_auxiliary_patients_it_says_what_is_missing(plain: Any, tmp_path: Path) -> None:
    shutil.copytree(plain.folder.parent / "blind", tmp_path / "view")
    shutil.rmtree(tmp_path / "view" / "auxiliary")
    with pytest.raises(UserError, match="auxiliary patients"):
        attack().fit(replace(plain, folder=tmp_path / "view").view())


def test_it_asks_for_a_curious_server_that_knows_network_weights_and_defense() -> None:
    needs = ModelInversionParams(observations=3, levels=("level1",)).requires(SplitParams().facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.passive
    assert needs.threat.plays == ("server",)
    assert needs.threat.knows == ("architecture", "weights", "defense", "defense-state", "sample-ids")
    assert needs.taps[0] == Tap(channel="activation", rounds=(-1, -2, -3), names=("level1",))


def test_by_default_every_level_that_crosses_is_tapped_and_nothing_else() -> None:
    needs = ModelInversionParams().requires(SplitParams(labels="u-shaped").facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.taps[0] == Tap(channel="activation", names=("level0", "level1"))


def test_the_weights_before_each_round_are_asked_for_without_its_messages() -> None:
    def weights(**params: Any) -> tuple[int, ...] | None:
        needs = ModelInversionParams.model_validate(params).requires(SplitParams(rounds=6).facts(COHORT))
        assert isinstance(needs, Requires)
        more = needs.taps[1:]
        assert all(tap.steps == () for tap in more)
        return more[0].rounds if more else None

    assert weights() == (4,)
    assert weights(observations=3) == (2,)
    assert weights(rounds=[0, 3, -1]) == (2, 4)
    assert weights(rounds=[0]) is None
    assert weights(rounds=[0, 1, 2]) is None


def test_a_colluding_client_is_played_and_not_attacked() -> None:
    needs = ModelInversionParams(position="collusion").requires(SplitParams().facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.plays == ("server", "client-0")
    surface = ModelInversionParams(position="collusion:client-1").surface(SplitParams().facts(COHORT))
    assert not isinstance(surface, NotApplicable)
    assert [seat.id for seat in surface.clients] == ["client-0"]


@pytest.mark.parametrize("owns", ["same", "shifted", "noise"])
def test_what_the_adversary_owns_is_part_of_its_threat_model(owns: str) -> None:
    needs = ModelInversionParams.model_validate({"auxiliary": owns}).requires(SplitParams().facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.auxiliary == owns


@pytest.mark.parametrize(
    ("params", "facts", "words"),
    [
        ({}, CentralizedParams().facts(COHORT), "sends no activations"),
        ({"clients": ["client-9"]}, SplitParams().facts(COHORT), "there are client-0, client-1"),
        ({"levels": ["level7"]}, SplitParams().facts(COHORT), "what crosses is level0, level1"),
        ({"auxiliary": "none"}, SplitParams().facts(COHORT), "likelihood-inversion and unsplit need none"),
        ({"position": "client:client-1"}, SplitParams().facts(COHORT), "receives cut-gradient and no activation of another client"),
        ({"position": "client:client-5"}, SplitParams().facts(COHORT), "no client client-5"),
        ({"position": "client:client-1"}, CentralizedParams().facts(COHORT), "sends no activations"),
        ({"position": "collusion:client-9"}, SplitParams().facts(COHORT), "no client client-9"),
        ({"position": "collusion", "clients": ["client-0"]}, SplitParams().facts(COHORT), "no client is left to attack"),
        ({"rounds": [0, 20]}, SplitParams(rounds=20).facts(COHORT), "there is no round 20: training has rounds 0 to 19"),
    ],
)
def test_where_it_has_no_meaning_it_says_why(params: Any, facts: Any, words: str) -> None:
    answer = ModelInversionParams(**params).requires(facts)
    assert isinstance(answer, NotApplicable)
    assert words in answer.reason


def test_rounds_and_observations_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either rounds or observations"):
        ModelInversionParams(rounds=(0, 5), observations=2)


def test_the_descriptors_are_listed_without_torch() -> None:
    code = (
        "import sys; from leakaudit_inversion.plugin import leakaudit_attacks as a; names = [i.name for i in a()]; "
        "assert 'torch' not in sys.modules; print(*names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"model-inversion", "likelihood-inversion", "unsplit", "gradient-inversion"} <= set(done.stdout.split())
