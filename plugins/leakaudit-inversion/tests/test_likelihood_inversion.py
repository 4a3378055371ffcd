"""`likelihood-inversion`: recovers undefended images, sees through what it knows, and finds nothing in shuffled messages."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_inversion.likelihood import LikelihoodInversion
from leakaudit_inversion.params import LikelihoodInversionParams
from leakaudit_inversion.prior import Prior
from leakaudit_inversion.search import Search
from leakaudit_inversion.source import Auxiliary
from leakaudit_inversion.tuning import LADDER, choose_tv

from leakaudit.attacks import Evidence, Images
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import CentralizedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires, Tap
from leakaudit.wire import Seat, Secret

COHORT = CohortFacts(modalities=("t1", "t2"), shape=(32, 32), members=16, auxiliary=48, sites=("site-0",), records=16)
EVERY = Tap(channel="activation", rounds=None)


def attack(**params: Any) -> LikelihoodInversion:
    seat = Seat(SeatFacts(id="server", role="server"), Secret.from_seed(0))
    quick: dict[str, Any] = {"clients": ["client-0"], "levels": ["level0"], "iterations": 60, "tv": 0.01}
    return LikelihoodInversion(LikelihoodInversionParams.model_validate({**quick, **params}), seat)


def found(world: Any, **params: Any) -> list[Images]:
    inversion = attack(**params)
    inversion.fit(world.blind())
    evidence = inversion.run(world.view())
    assert all(isinstance(e, Images) for e in evidence)
    return [e for e in evidence if isinstance(e, Images)]


def correlation(images: Evidence | dict[str, np.ndarray], world: Any) -> float:
    guesses = images if isinstance(images, dict) else dict(zip(images.about, images.array, strict=True))
    pairs = [(g[0][world.brain[t]], world.truth[t][0][world.brain[t]]) for t, g in guesses.items()]
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def chance(world: Any) -> float:
    return correlation(dict.fromkeys(world.truth, world.view().auxiliary.images[:, :1].mean(axis=0)), world)


@pytest.fixture(scope="module")
def few(brains: Any) -> Any:
    return brains([f"v{i}" for i in range(6)], seed=1)


@pytest.fixture(scope="module")
def plain(build: Any, few: Any, tmp_path_factory: Any) -> Any:
    return build(tmp_path_factory.mktemp("plain"), victims=few, tapped=EVERY)


@pytest.fixture(scope="module")
def noisy(build: Any, few: Any, tmp_path_factory: Any) -> Any:
    return build(tmp_path_factory.mktemp("noisy"), victims=few, sigma=2.0, rounds=4, tapped=EVERY)


@pytest.fixture(scope="module")
def dropped(build: Any, few: Any, toys: Any, tmp_path_factory: Any) -> Any:
    return build(tmp_path_factory.mktemp("dropped"), victims=few, defense=toys("Dropper", rate=0.75), rounds=3, tapped=EVERY)


def test_undefended_images_are_recovered_the_better_the_shallower_the_level(plain: Any) -> None:
    level0, level1, level2 = found(plain, levels="each")
    assert correlation(level0, plain) > 0.98
    assert correlation(level0, plain) > correlation(level1, plain) > correlation(level2, plain)
    assert correlation(level1, plain) > chance(plain) + 0.1
    assert [e.name for e in (level0, level1, level2)] == ["client-0/level0", "client-0/level1", "client-0/level2"]
    assert (level0.seat, level0.channel, level0.modalities, level0.ordered) == ("client-0", "activation", ("t1",), True)
    assert level0.about == tuple(t.token for t in plain.view().targets)


def test_shuffled_messages_match_nobody(plain: Any, shuffle: Any, tmp_path: Path) -> None:
    broken = shuffle(plain, tmp_path / "view")
    inversion = attack()
    inversion.fit(plain.blind())
    (level0,) = inversion.run(broken.view())
    assert correlation(level0, broken) < chance(plain) + 0.05


def test_whoever_owns_no_image_finds_its_size_and_content_from_messages_alone(plain: Any, tmp_path: Path) -> None:
    for name in ("view", "blind"):
        shutil.copytree(plain.folder.parent / name, tmp_path / name, ignore=shutil.ignore_patterns("auxiliary"))
    alone = replace(plain, folder=tmp_path / "view")
    (joint,) = found(alone, levels="joint", auxiliary="none", tv="auto")
    assert joint.images.shape == (6, 1, 32, 32)
    assert correlation(joint, plain) > 0.9


def test_every_round_gets_evidence_of_its_own_with_the_weights_of_then(plain: Any) -> None:
    first, last = found(plain, rounds=[-1, 0])
    assert [first.name, last.name] == ["client-0/level0@0", "client-0/level0@2"]
    assert correlation(first, plain) > 0.9
    assert correlation(last, plain) > 0.9
    assert not np.allclose(first.images, last.images, atol=0.05)


def test_more_observations_undo_part_of_the_noise(noisy: Any) -> None:
    (one,), (three,) = (found(noisy, observations=k, tv=0.1, draws=1, iterations=40) for k in (1, 3))
    assert correlation(three, noisy) > correlation(one, noisy) + 0.02


def test_knowing_what_is_dropped_beats_not_knowing_it(dropped: Any, tmp_path: Path) -> None:
    for name in ("view", "blind"):
        shutil.copytree(dropped.folder.parent / name, tmp_path / name)
        data = json.loads((tmp_path / name / "view.json").read_text())
        for entry in data["replicas"].values():
            entry["defenses"] = []
        (tmp_path / name / "view.json").write_text(json.dumps(data))
    (adaptive,) = found(dropped, iterations=70)
    (naive,) = found(replace(dropped, folder=tmp_path / "view"), iterations=70)
    assert correlation(adaptive, dropped) > 0.85
    assert correlation(adaptive, dropped) > correlation(naive, dropped) + 0.05


def test_two_runs_give_the_same_numbers_whatever_the_global_stream(dropped: Any) -> None:
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        results.append(found(dropped, iterations=3, tv="auto")[0].images)
    np.testing.assert_array_equal(results[0], results[1])


def test_rough_images_of_the_adversary_call_for_a_weaker_prior_than_smooth_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy = SimpleNamespace(models=lambda place: [lambda x: {"z": x + torch.randn(x.shape, generator=generator)} for _ in place])
    rough = torch.randn(4, 1, 16, 16, generator=generator)
    smooth = torch.linspace(-1, 1, 16).expand(4, 1, 16, 16) * torch.tensor([1.0, 2.0, -1.0, -2.0]).reshape(4, 1, 1, 1)
    how, prior = Search(iterations=40, learning_rate=0.1, steady=False), Prior(tv=torch.zeros(1))
    habits: Any = SimpleNamespace(noise={"z": 0.5})
    chosen = {}
    for name, truth in (("rough", rough), ("smooth", smooth)):
        samples, start = Auxiliary(truth.clone(), torch.ones_like(truth)), torch.zeros(1, 16, 16)
        track: Any = noisy
        chosen[name] = choose_tv(track, samples, start, prior, {"z": ("z",)}, 1, how, habits, 64, generator)["z"]
    assert set(chosen.values()) <= set(LADDER)
    assert chosen["smooth"] > chosen["rough"]


def test_volumes_and_clients_with_two_modalities(build: Any, brains: Any, tmp_path: Path) -> None:
    world = build(
        tmp_path, dims=3, side=16, rounds=1, clients=[["t2", "t1"]], cut=1,
        victims=brains([f"v{i}" for i in range(2)], 3, 16, 1), auxiliary=brains([f"a{i}" for i in range(4)], 3, 16, 2),
    )  # fmt: skip
    (level0,) = found(world, iterations=40)
    assert level0.modalities == ("t2", "t1")
    assert level0.images.shape == (2, 2, 16, 16, 16)
    scores = [
        np.corrcoef(level0.images[i, 1][world.brain[t]], world.truth[t][0][world.brain[t]])[0, 1]
        for i, t in enumerate(level0.about)
    ]
    assert np.mean(scores) > 0.6


def test_it_asks_for_weights_before_and_after_each_round_and_for_messages_of_the_round_alone() -> None:
    needs = LikelihoodInversionParams(rounds=(3,), levels=("level0",)).requires(SplitParams(rounds=6).facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.passive
    assert "weights" in needs.threat.knows
    messages, weights = needs.taps
    assert messages == Tap(channel="activation", rounds=(3,), names=("level0",))
    assert (weights.rounds, weights.steps) == ((2,), ())


@pytest.mark.parametrize(
    ("params", "facts", "words"),
    [
        ({}, CentralizedParams().facts(COHORT), "sends no activations"),
        ({"rounds": [9]}, SplitParams(rounds=6).facts(COHORT), "rounds 0 to 5"),
    ],
)
def test_where_it_has_no_meaning_it_says_why(params: Any, facts: Any, words: str) -> None:
    answer = LikelihoodInversionParams(**params).requires(facts)
    assert isinstance(answer, NotApplicable)
    assert words in answer.reason


def test_a_negative_prior_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        LikelihoodInversionParams(tv=-0.1)
