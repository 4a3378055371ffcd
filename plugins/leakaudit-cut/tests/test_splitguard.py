"""SplitGuard tells a server that learns the task from one that follows a goal of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from leakaudit_cut.params_watching import SplitGuardParams
from leakaudit_cut.splitguard import Gradients, SplitGuard, direction_score, split_guard_score

from leakaudit.defenses import Chain
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.params import FederatedParams, SplitParams
from leakaudit.protocols.split import Split
from leakaudit.threats import Needs, NotApplicable
from leakaudit.wire import Alarm, Message, Party, Seat, Secret, Wire

ROWS = 24
COHORT = CohortFacts(modalities=("t1", "t2"), shape=(16, 16), members=ROWS, auxiliary=0, sites=("site-0",), records=ROWS)


class Hijacker(Party):
    """Teaches the clients to send nothing, whatever the masks say."""

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        return [
            Message(
                channel="cut-gradient", sender="server", receiver=m.sender, round=m.round, step=m.step, samples=m.samples,
                tensors={k: t / t.numel() for k, t in m.tensors.items()},
            )
            for m in inbox
            if m.channel == "activation"
        ]  # fmt: skip


class Training:
    def __init__(self, params: SplitGuardParams | None, rounds: int, hijacked: bool = False, seed: int = 0) -> None:
        protocol = Split(
            SplitParams(
                network=NetworkParams(channels=[8, 16]), training=TrainingParams(batch_size=4, learning_rate=5e-3),
                rounds=rounds, labels="sent",
            ),
            COHORT,
        )  # fmt: skip
        draw = torch.Generator().manual_seed(seed)
        masks = (torch.nn.functional.avg_pool2d(torch.randn(ROWS, 3, 20, 20, generator=draw), 5, 1) > 0.15).float()
        images = masks[:, :2] * 2 + 0.3 * torch.randn(ROWS, 2, 16, 16, generator=draw)
        tokens, units = tuple(f"row{i}" for i in range(ROWS)), torch.arange(ROWS)
        task, secret, sampling = load_task(protocol.task()), Secret.from_seed(seed), Sampling(kind="shuffle", unit="record")
        self.guards: dict[str, SplitGuard] = {}
        parties: dict[str, Party] = {}
        for facts in protocol.facts.seats:
            index = [COHORT.modalities.index(m) for m in facts.modalities]
            holds = Holdings(
                tokens=tokens, units=units, sampling=sampling, images=images[:, index] if index else None,
                regions=masks if facts.labels else None,
            )  # fmt: skip
            seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"))
            guard = Chain([], seat)
            if params is not None and facts.role in ("client", "label-holder"):
                self.guards[facts.id] = SplitGuard(params, seat)
                guard = Chain([self.guards[facts.id]], seat)
            parties[facts.id] = protocol.party(seat, task, guard, holds)
        if hijacked:
            parties["server"] = Hijacker()
        self.parties = parties
        schedule = Schedule(tokens, units.tolist(), rounds, 4, sampling, secret.branch("schedule"))
        self.run = lambda: protocol.run(Wire(parties, secret.branch("wire")), schedule)


WATCH = SplitGuardParams(fake_share=0.2, warm_up=6, window=5)


def gradients(*vectors: list[float]) -> Gradients:
    found = Gradients()
    for vector in vectors:
        found.add(torch.tensor(vector))
    return found


def test_the_published_score_is_its_formula() -> None:
    first, second, fake = gradients([1.0, 0.0]), gradients([1.0, 0.2]), gradients([0.0, 3.0])
    away = math.acos(0.1 / math.hypot(1, 0.1))  # the mean of all regular gradients is (1, .1)
    apart = 3 - (1 + math.hypot(1, 0.2)) / 2
    spread, jitter = math.atan2(0.2, 1), math.hypot(1, 0.2) - 1
    s = (away * apart - spread * jitter) / (apart + jitter)
    assert split_guard_score(fake, first, second) == pytest.approx((1 / (1 + math.exp(-5 * s))) ** 2, abs=1e-6)
    one = gradients([1.0, 1.0])
    assert split_guard_score(one, one, one) == pytest.approx(0.25)


def test_the_direction_score_runs_from_0_to_1() -> None:
    one = gradients([1.0, 2.0], [3.0, 2.0])
    assert direction_score(one, one) == pytest.approx(0, abs=1e-6)
    assert direction_score(gradients([-1.0, -1.0]), one) == pytest.approx(1, abs=1e-6)
    assert direction_score(gradients([1.0, -1.0]), one) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_honest_server_raises_no_alarm_and_scores_high(seed: int) -> None:
    training = Training(WATCH, rounds=20, seed=seed)
    training.run()
    for client in ("client-0", "client-1"):
        scores = training.guards[client].scores
        assert len(scores) > 10
        assert sum(scores[-5:]) / 5 > 0.4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_hijacking_server_is_caught(seed: int) -> None:
    with pytest.raises(Alarm, match="do not follow the masks") as caught:
        Training(WATCH, rounds=20, hijacked=True, seed=seed).run()
    assert caught.value.detector == "splitguard"
    assert caught.value.score < 0.35


def test_clients_do_not_learn_from_false_batches() -> None:
    guarded = Training(WATCH, rounds=3)
    steps: list[bool] = []
    judge = SplitGuard.judge
    for guard in guarded.guards.values():
        guard.judge = lambda g, guard=guard: steps.append(judge(guard, g)) or steps[-1]  # type: ignore[method-assign]
    before = [t.clone() for t in guarded.parties["client-0"].state().values()]
    guarded.run()
    assert steps.count(False) > 0
    assert steps.count(True) > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, guarded.parties["client-0"].state().values(), strict=True))


def test_it_needs_masks_that_are_sent() -> None:
    assert SplitGuardParams().needs(SplitParams(labels="sent").facts(COHORT)) == Needs(
        seats=("client", "label-holder"), channels=("label",)
    )
    for facts in (SplitParams().facts(COHORT), SplitParams(labels="u-shaped").facts(COHORT), FederatedParams().facts(COHORT)):
        answer = SplitGuardParams().needs(facts)
        assert isinstance(answer, NotApplicable)
        assert "masks" in answer.reason
