"""Noise and dropout do to activations what they say, and to nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from leakaudit_cut.dropout import Dropout
from leakaudit_cut.noise import GaussianNoise
from leakaudit_cut.params import DropoutParams, GaussianNoiseParams
from leakaudit_cut.plugin import leakaudit_defenses
from pydantic import ValidationError

from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.protocols.split import Split
from leakaudit.threats import Needs, NotApplicable
from leakaudit.wire import Message, Seat, Secret

COHORT = CohortFacts(
    modalities=("flair", "t1", "t1ce", "t2"), shape=(16, 16), members=8, auxiliary=0, sites=("site-0", "site-1"), records=8
)


def seat(seed: int = 0) -> Seat:
    return Seat(SeatFacts(id="client-0", role="client"), Secret.from_seed(seed, "client-0"))


def message(channel: str = "activation", n: int = 6, scale: float = 3.0, **extra: torch.Tensor) -> Message:
    draw = torch.Generator().manual_seed(1)
    tensors = {
        "level0": scale * torch.randn(n, 8, 32, 32, generator=draw) + 5, "level1": torch.randn(n, 16, 16, 16, generator=draw),
    }  # fmt: skip
    return Message(channel=channel, sender="client-0", receiver="server", round=0, step=0, tensors={**tensors, **extra})


def added(params: GaussianNoiseParams, given: Message) -> dict[str, torch.Tensor]:
    sent = GaussianNoise(params, seat()).outgoing(given)
    return {name: sent.tensors[name] - t for name, t in given.tensors.items()}


def test_relative_noise_has_the_stated_share_of_each_level_s_spread() -> None:
    given = message()
    for name, noise in added(GaussianNoiseParams(sigma=0.5), given).items():
        assert noise.std().item() == pytest.approx(0.5 * given.tensors[name].std().item(), rel=0.02)
        assert abs(noise.mean().item()) < 4 * noise.std().item() / noise.numel() ** 0.5
        # Kurtosis 3: normal, not merely of the right spread.
        assert ((noise / noise.std()) ** 4).mean().item() == pytest.approx(3.0, abs=0.15)


def test_absolute_noise_ignores_the_activations_size() -> None:
    for scale in (0.1, 10.0):
        for noise in added(GaussianNoiseParams(sigma=0.5, scale="absolute"), message(scale=scale)).values():
            assert noise.std().item() == pytest.approx(0.5, rel=0.02)


def test_a_constant_level_is_still_noised() -> None:
    noise = added(GaussianNoiseParams(sigma=1.0), message(flat=torch.zeros(6, 4, 8, 8)))["flat"]
    assert noise.std().item() == pytest.approx(1e-6, rel=0.2)


def test_without_sigma_what_came_is_sent() -> None:
    for noise in added(GaussianNoiseParams(sigma=0), message()).values():
        assert not noise.any()


def test_clipping_bounds_each_sample_over_all_levels_together() -> None:
    given = message(small=torch.full((6, 1, 2, 2), 1e-3))
    given.tensors["level0"][0] = 0.0
    given.tensors["level1"][0] = 0.0
    sent = GaussianNoise(GaussianNoiseParams(sigma=0, scale="absolute", clip=2.0), seat()).outgoing(given)
    norms = torch.cat([t.flatten(1) for t in sent.tensors.values()], dim=1).norm(dim=1)
    torch.testing.assert_close(norms[1:], torch.full((5,), 2.0))
    torch.testing.assert_close(sent.tensors["small"][0], given.tensors["small"][0])  # below the bound: unchanged


def test_a_sample_of_zeros_has_a_finite_gradient_through_the_clip() -> None:
    x = torch.zeros(2, 4, 8, 8, requires_grad=True)
    defense = GaussianNoise(GaussianNoiseParams(sigma=0.1, scale="absolute", clip=1.0), seat())
    defense.outgoing(message().carrying({"level0": x})).tensors["level0"].sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_noise_passes_gradients_as_they_are() -> None:
    x = torch.randn(3, 4, 8, 8, requires_grad=True)
    GaussianNoise(GaussianNoiseParams(), seat()).outgoing(message().carrying({"level0": x})).tensors["level0"].sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))  # the scale is detached


def test_only_the_chosen_levels_of_activations_change() -> None:
    given = message()
    for defense in (
        GaussianNoise(GaussianNoiseParams(levels=["level1"]), seat()),
        Dropout(DropoutParams(levels=["level1"]), seat()),
    ):
        sent = defense.outgoing(given)
        assert torch.equal(sent.tensors["level0"], given.tensors["level0"])
        assert not torch.equal(sent.tensors["level1"], given.tensors["level1"])
        other = message(channel="model")
        assert defense.outgoing(other) is other


@pytest.mark.parametrize("defense", [lambda s: GaussianNoise(GaussianNoiseParams(), s), lambda s: Dropout(DropoutParams(), s)])
def test_randomness_is_the_seat_s_own_and_fresh_each_time(defense) -> None:
    def draws(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(torch.randint(10**6, (1,)).item())  # the global stream must not matter
        torch.rand(3)
        one = defense(seat(seed))
        return [one.outgoing(message()).tensors["level0"] for _ in range(2)]

    before = torch.get_rng_state()
    defense(seat()).outgoing(message())
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = draws(0), draws(0), draws(1)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("mode", ["element", "channel"])
@pytest.mark.parametrize("rate", [0.25, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(mode: str, rate: float) -> None:
    ones = torch.ones(500, 64, 4, 4)
    sent = Dropout(DropoutParams(rate=rate, mode=mode), seat()).outgoing(message().carrying({"level0": ones})).tensors["level0"]
    dropped = (sent == 0).float()
    assert dropped.mean().item() == pytest.approx(rate, abs=0.01)
    assert sent.mean().item() == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(sent[sent != 0], torch.full_like(sent[sent != 0], 1 / (1 - rate)))
    whole = dropped.flatten(2).mean(dim=2)  # of a channel, all or nothing
    assert bool(((whole == 0) | (whole == 1)).all()) == (mode == "channel")


def test_dropout_at_rate_zero_is_the_identity() -> None:
    given = message()
    sent = Dropout(DropoutParams(rate=0), seat()).outgoing(given)
    assert torch.equal(sent.tensors["level0"], given.tensors["level0"])


def test_needs_name_the_seats_or_say_why_not() -> None:
    split, u_shaped = SplitParams().facts(COHORT), SplitParams(labels="u-shaped").facts(COHORT)
    needs = DropoutParams().needs(split)
    assert needs == Needs(seats=("client",), channels=("activation",))
    assert DropoutParams(roles=["client", "server"]).needs(u_shaped) == Needs(seats=("client", "server"), channels=("activation",))
    for facts, params, word in [
        (FederatedParams().facts(COHORT), DropoutParams(), "federated"),
        (CentralizedParams().facts(COHORT), GaussianNoiseParams(), "centralized"),
        (split, DropoutParams(roles=["server"]), "server"),
        (split, DropoutParams(levels=["level0", "level7"]), "level7"),
    ]:
        answer = params.needs(facts)
        assert isinstance(answer, NotApplicable)
        assert word in answer.reason


def test_relative_noise_says_that_it_couples_the_samples_of_a_batch() -> None:
    facts = SplitParams().facts(COHORT)
    coupled = {
        (scale, sigma): GaussianNoiseParams(scale=scale, sigma=sigma).needs(facts).adds_coupled_loss
        for scale in ("relative", "absolute") for sigma in (0, 1)
    }  # fmt: skip
    assert coupled == {("relative", 0): False, ("relative", 1): True, ("absolute", 0): False, ("absolute", 1): False}


@pytest.mark.parametrize("bad", [{"sigma": -1}, {"clip": 1.0}, {"clip": 0, "scale": "absolute"}, {"sigm": 1}, {"levels": []}])
def test_impossible_noise_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GaussianNoiseParams.model_validate(bad)


@pytest.mark.parametrize("bad", [{"rate": 1.0}, {"rate": -0.1}, {"mode": "voxel"}])
def test_impossible_dropout_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DropoutParams.model_validate(bad)


def test_the_defense_is_part_of_replica_and_prediction() -> None:
    params = SplitParams(network=NetworkParams(channels=[4, 8]), training=TrainingParams(batch_size=4))
    protocol = Split(params, COHORT)
    task = load_task(protocol.task())
    torch.manual_seed(0)
    network = task.build()
    x = torch.randn(2, 1, 16, 16)
    clean = protocol.replica(
        protocol.facts.seat("client-0"), task, network.encoders[0].state_dict(), Dropout(DropoutParams(rate=0), seat())
    )
    defended = protocol.replica(
        protocol.facts.seat("client-0"), task, network.encoders[0].state_dict(), Dropout(DropoutParams(rate=0.5), seat())
    )
    sent = defended.send(x=x)["level0"]
    kept = sent != 0
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(sent[kept], 2 * clean.send(x=x)["level0"][kept])
    states = {f"client-{i}": e.state_dict() for i, e in enumerate(network.encoders)}
    states["server"] = {k: v for k, v in network.state_dict().items() if not k.startswith("encoders")}
    guards = {f"client-{i}": Dropout(DropoutParams(rate=0.5), seat(i)) for i in range(4)}
    predictor = protocol.predictor(states, task, guards)
    images = torch.randn(2, 4, 16, 16)
    assert not torch.equal(predictor(images), predictor(images))


def test_the_plugin_describes_itself_without_torch() -> None:
    names = {info.name: info for info in leakaudit_defenses()}
    random = {"gaussian-noise", "dropout", "laplace-noise", "shredder", "random-projection"}
    assert set(names) == random | {"quantization", "nopeek", "bottleneck", "attacker-aware", "splitguard", "gradient-scrutinizer"}
    assert all(info.claim == "none" and info.stochastic == (name in random) for name, info in names.items())
    code = "import sys, leakaudit_cut.plugin as p; list(p.leakaudit_defenses()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
