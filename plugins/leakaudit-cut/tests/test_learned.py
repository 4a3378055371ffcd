"""Defenses that learn: distance correlation, bottleneck, learned noise, and the inner attacker."""

from __future__ import annotations

import math

import pytest
import torch
from leakaudit_cut.attacker_aware import AttackerAware, ssim
from leakaudit_cut.learned import Bottleneck, Shredder
from leakaudit_cut.nopeek import NoPeek, distance_correlation
from leakaudit_cut.params_learned import AttackerAwareParams, BottleneckParams, NoPeekParams, ShredderParams
from pydantic import ValidationError

from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols.params import FederatedParams, SplitParams
from leakaudit.protocols.split import Split
from leakaudit.threats import NotApplicable
from leakaudit.wire import Message, Seat, Secret

COHORT = CohortFacts(modalities=("flair", "t1"), shape=(16, 16), members=8, auxiliary=0, sites=("site-0",), records=8)


def seat(seed: int = 0) -> Seat:
    return Seat(SeatFacts(id="client-0", role="client"), Secret.from_seed(seed, "client-0"))


def message(**tensors: torch.Tensor) -> Message:
    return Message(channel="activation", sender="client-0", receiver="server", round=0, step=0, tensors=tensors)


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_definition(x: torch.Tensor, z: torch.Tensor) -> float:
    """Distance correlation with loops, as Szekely, Rizzo and Bakirov 2007 write it."""
    n = len(x)

    def centered(points: torch.Tensor) -> list[list[float]]:
        a = [[math.dist(p.tolist(), q.tolist()) for q in points] for p in points]
        rows = [sum(r) / n for r in a]
        return [[a[k][m] - rows[k] - rows[m] + sum(rows) / n for m in range(n)] for k in range(n)]

    left, right = centered(x), centered(z)

    def product(a: list[list[float]], b: list[list[float]]) -> float:
        return sum(a[k][m] * b[k][m] for k in range(n) for m in range(n)) / n**2

    return math.sqrt(product(left, right) / math.sqrt(product(left, left) * product(right, right)))


def test_distance_correlation_is_that_of_its_definition() -> None:
    x, z = draw(7, 3), draw(7, 5, seed=2)
    assert distance_correlation(x, z).item() == pytest.approx(by_definition(x, z), abs=1e-5)


def test_distance_correlation_is_one_for_a_similarity_and_falls_with_independence() -> None:
    x = draw(200, 4)
    turned = 3 * x @ torch.linalg.qr(draw(4, 4, seed=3))[0] + 5
    assert distance_correlation(x, turned).item() == pytest.approx(1.0, abs=1e-4)
    assert distance_correlation(x, draw(200, 4, seed=4)).item() < 0.3
    assert distance_correlation(x, torch.zeros(200, 4)).item() < 1e-2
    assert distance_correlation(x, turned, squared=True).item() == pytest.approx(1.0, abs=1e-4)


def test_nopeek_adds_its_weight_times_the_mean_over_levels() -> None:
    x, a, b = draw(6, 1, 8, 8), draw(6, 2, 8, 8, seed=2), draw(6, 2, 4, 4, seed=3)
    penalty = NoPeek(NoPeekParams(weight=2.0), seat()).penalty(x, message(level0=a, level1=b))
    assert penalty is not None
    expected = distance_correlation(x, a) + distance_correlation(x, b)
    torch.testing.assert_close(penalty, expected)
    assert NoPeek(NoPeekParams(), seat()).penalty(x[:1], message(level0=a[:1])) is None


def test_a_client_under_nopeek_turns_to_what_says_least_of_the_image() -> None:
    x = draw(64, 2) * torch.tensor([3.0, 0.3])
    weight = torch.tensor([[1.0], [0.2]], requires_grad=True)
    defense = NoPeek(NoPeekParams(weight=1.0), seat())
    optimizer = torch.optim.Adam([weight], lr=0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        penalty = defense.penalty(x, message(level0=x @ weight))
        assert penalty is not None
        penalty.backward()
        optimizer.step()
        values.append(penalty.item())
    assert values[0] > 0.9
    assert values[-1] < 0.4
    assert abs(weight[0]) < abs(weight[1])


def split() -> tuple[Split, object]:
    params = SplitParams(network=NetworkParams(channels=[4, 8]), training=TrainingParams(batch_size=4))
    protocol = Split(params, COHORT)
    return protocol, load_task(protocol.task())


def test_a_bottleneck_sends_few_channels_and_is_part_of_the_replica() -> None:
    protocol, task = split()
    x = draw(3, 1, 16, 16)
    made = Bottleneck(BottleneckParams(channels=2), seat())
    sent = protocol.replica(protocol.facts.seat("client-0"), task, None, made).send(x=x)
    assert [t.shape[1] for t in sent.values()] == [4, 8]
    assert all(not t[:, 2:].any() and t[:, :2].any() for t in sent.values())
    flat = sent["level1"][:, :2].permute(1, 0, 2, 3).flatten(1)
    assert torch.linalg.matrix_rank(flat) == 2


def test_a_bottleneck_refuses_an_encoder_that_hides_its_channels() -> None:
    with pytest.raises(UserError, match="channels"):
        Bottleneck(BottleneckParams(), seat()).adapt(torch.nn.Linear(2, 2))


def test_shredder_learns_more_noise_when_only_noise_is_rewarded() -> None:
    protocol, task = split()
    defense = Shredder(ShredderParams(strength=1.0, start=0.5), seat())
    replica = protocol.replica(protocol.facts.seat("client-0"), task, None, defense)
    assert replica.module is not None
    x = draw(3, 1, 16, 16)
    first, second = replica.send(x=x), replica.send(x=x)
    assert (first["level0"] - second["level0"]).abs().mean().item() == pytest.approx(0.75, rel=0.1)  # E|difference| = 1.5 b
    optimizer = torch.optim.SGD(replica.module.parameters(), lr=0.5)
    sent = message(**replica.send(x=x))
    penalty = defense.penalty(x, sent)
    assert penalty is not None
    assert penalty.item() == pytest.approx(-math.log(0.5))
    penalty.backward()
    optimizer.step()
    after = replica.send(x=x)["level0"] - replica.send(x=x)["level0"]
    assert after.abs().mean().item() > 0.78


def test_learned_layers_are_stored_and_loaded_with_the_client() -> None:
    protocol, task = split()
    states = []
    for defense in (Bottleneck(BottleneckParams(channels=2), seat()), Shredder(ShredderParams(), seat())):
        replica = protocol.replica(protocol.facts.seat("client-0"), task, None, defense)
        assert replica.module is not None
        state = replica.module.state_dict()
        states.append(state)
        again = type(defense)(defense.params, seat(5))
        loaded = protocol.replica(protocol.facts.seat("client-0"), task, state, again)
        assert loaded.module is not None
        assert all(torch.equal(a, b) for a, b in zip(loaded.module.state_dict().values(), state.values(), strict=True))
    assert any(name.startswith("layers.level0") for name in states[0])


def test_ssim_is_one_for_equals_and_falls_with_noise() -> None:
    x = draw(2, 1, 16, 16)
    assert ssim(x, x).item() == pytest.approx(1.0)
    assert ssim(x, x + draw(2, 1, 16, 16, seed=9)).item() < 0.9
    volume = draw(1, 1, 8, 8, 8)
    assert ssim(volume, volume).item() == pytest.approx(1.0)


def test_the_inner_attacker_learns_and_its_success_is_the_penalty() -> None:
    x = torch.nn.functional.avg_pool2d(draw(8, 1, 20, 20), 5, 1)
    defense = AttackerAware(AttackerAwareParams(strength=2.0, threshold=0.0, steps=3), seat())
    z = x.repeat(1, 3, 1, 1).requires_grad_()
    values = []
    for _ in range(60):
        penalty = defense.penalty(x, message(level0=z))
        assert penalty is not None
        values.append(penalty.item())
    assert values[-1] > 2 * 0.7
    assert values[-1] > values[0]
    (gradient,) = torch.autograd.grad(penalty, z)
    assert gradient.abs().sum() > 0


def test_an_attacker_below_the_threshold_is_not_fought() -> None:
    penalty = AttackerAware(AttackerAwareParams(threshold=0.99), seat()).penalty(
        draw(4, 1, 16, 16), message(level0=draw(4, 2, 16, 16))
    )
    assert penalty is not None
    assert penalty.item() == 0.0


def test_what_couples_patients_says_so() -> None:
    facts = SplitParams().facts(COHORT)
    for params, couples in (
        (NoPeekParams(), True), (NoPeekParams(weight=0), False), (AttackerAwareParams(), True), (BottleneckParams(), False),
        (ShredderParams(), False),
    ):  # fmt: skip
        assert params.needs(facts).adds_coupled_loss == couples
    assert isinstance(NoPeekParams().needs(FederatedParams().facts(COHORT)), NotApplicable)


def test_servers_do_not_learn_to_send_less() -> None:
    with pytest.raises(ValidationError):
        NoPeekParams.model_validate({"roles": ["server"]})
