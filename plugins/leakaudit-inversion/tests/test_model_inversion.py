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
from leakaudit_inversion.params import ModelInversionParams

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


def test_averaging_observations_undoes_part_of_the_noise(noisy: Any) -> None:
    inversion = attack(levels=["level0"], draws=4)
    inversion.fit(noisy.blind())
    (four,) = inversion.run(noisy.view())
    view = noisy.view()
    last = max(m.round for m in view.messages())
    every = view.messages
    view.messages = lambda **where: every(round=last, **where)
    (one,) = inversion.run(view)
    assert correlation(four, noisy) > correlation(one, noisy) + 0.03


def test_a_randomized_replica_is_asked_anew_at_every_step_and_a_fixed_one_only_once(plain: Any, noisy: Any) -> None:
    calls = {}
    for name, world in (("plain", plain), ("noisy", noisy)):
        view = world.blind()
        attack(levels=["level2"], iterations=40).fit(view)
        ((_, replica),) = view.replicas_given
        calls[name] = replica.calls
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
    needs = ModelInversionParams(draws=3, levels=("level1",)).requires(SplitParams().facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.passive
    assert needs.threat.plays == ("server",)
    assert needs.threat.knows == ("architecture", "weights", "defense", "sample-ids")
    assert needs.taps == (Tap(channel="activation", rounds=(-1, -2, -3), names=("level1",)),)


def test_by_default_every_level_that_crosses_is_tapped_and_nothing_else() -> None:
    needs = ModelInversionParams().requires(SplitParams(labels="u-shaped").facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.taps == (Tap(channel="activation", names=("level0", "level1")),)


@pytest.mark.parametrize(
    ("params", "facts", "words"),
    [
        ({}, CentralizedParams().facts(COHORT), "sends no activations"),
        ({"clients": ["client-9"]}, SplitParams().facts(COHORT), "there are client-0, client-1"),
        ({"levels": ["level7"]}, SplitParams().facts(COHORT), "what crosses is level0, level1"),
    ],
)
def test_where_it_has_no_meaning_it_says_why(params: Any, facts: Any, words: str) -> None:
    answer = ModelInversionParams(**params).requires(facts)
    assert isinstance(answer, NotApplicable)
    assert words in answer.reason


def test_rounds_and_draws_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either rounds or draws"):
        ModelInversionParams(rounds=(0, 5), draws=2)


def test_the_descriptor_is_listed_without_torch() -> None:
    code = (
        "import sys; from leakaudit_inversion.plugin import leakaudit_attacks as a; (i,) = a(); "
        "assert 'torch' not in sys.modules; print(i.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "model-inversion"
