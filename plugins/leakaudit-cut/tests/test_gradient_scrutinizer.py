"""The scrutinizer tells a server whose gradients differ from sample to sample from one that pulls all of them one way."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from leakaudit_cut.params_watching import GradientScrutinizerParams
from leakaudit_cut.scrutinizer import GradientScrutinizer, Pairs, Sketch, own_share, separation
from pydantic import ValidationError

from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.plugins import ShadowTraining, Victim
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.testing import checks
from leakaudit.threats import Needs, NotApplicable
from leakaudit.wire import Alarm, Message, Seat, Secret

COHORT = CohortFacts(modalities=("t1", "t2"), shape=(16, 16), members=8, auxiliary=0, sites=("site-0",), records=8)
WATCH = GradientScrutinizerParams(warm_up=2, window=32)
"""Small trainings have 2 batches of 8 in a pass: scores from the seventh batch on."""
HIJACK: dict[str, Any] = {
    "preset": "quick", "pilot_iterations": 20, "decoder_width": 8, "critic_width": 8, "critic_blocks": 1, "critic_steps": 2,
}  # fmt: skip


def seat() -> Seat:
    return Seat(SeatFacts(id="client-0", role="client"), Secret.from_seed(0, "client-0"))


def watcher(**params: Any) -> GradientScrutinizer:
    return GradientScrutinizer(GradientScrutinizerParams.model_validate({"warm_up": 0, "window": 2, **params}), seat())


def vectors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).reshape(len(rows), -1, 1, 1)


def pairs(same: list[float], different: list[float]) -> Pairs:
    return Pairs(same=torch.tensor(same), different=torch.tensor(different))


def test_own_share_is_one_minus_the_ratio_of_the_means() -> None:
    assert own_share(pairs([0.9, 0.7], [0.1, 0.3])) == pytest.approx(1 - 0.2 / 0.8)
    assert own_share(pairs([0.5, 0.5], [0.6, 0.6])) == 0
    assert own_share(pairs([0.5, 0.5], [-0.4, 0.1])) == 1
    # Noise around zero, as at the end of an honest training: similarities below 0.1 count as 0.1.
    assert own_share(pairs([0.0, -0.02], [0.01, 0.03])) == pytest.approx(1 - 0.02 / 0.1)


def test_separation_is_the_distance_of_the_means_in_pooled_standard_deviations() -> None:
    spread = math.sqrt((0.02 + 0.08) / 2)  # variances of (.8, .6) and (.1, .5)
    assert separation(pairs([0.8, 0.6], [0.1, 0.5])) == pytest.approx((0.7 - 0.3) / spread)


def test_pairs_are_those_of_a_pass_and_the_pass_before(gradients: Any) -> None:
    guard = watcher(threshold=1e-9)
    half = math.sqrt(0.5)
    guard.incoming(gradients(0, ("a", "b"), level0=vectors([1.0, 0.0], [0.0, 2.0])))
    assert guard.scores == []
    guard.incoming(gradients(1, ("b", "a"), level0=vectors([3.0, 3.0], [5.0, 0.0])))
    # a with itself 1, b with itself .71; b now with a then .71, a now with b then 0.
    assert guard.scores == [pytest.approx(1 - (half / 2) / ((1 + half) / 2))]


def test_batches_of_one_sample_are_compared_with_the_sample_before(gradients: Any) -> None:
    guard = watcher(threshold=1e-9)
    for step, (token, vector) in enumerate([("a", [1.0, 0.0]), ("b", [0.6, 0.8]), ("a", [1.0, 0.0]), ("b", [0.6, 0.8])]):
        guard.incoming(gradients(step, (token,), level0=vectors(vector)))
    # In the second pass: a with itself 1 and with nobody, b with itself 1 and with a of the first pass .6.
    assert guard.scores == [pytest.approx(0.4)]


def test_the_worst_level_counts_and_empty_ones_do_not(gradients: Any) -> None:
    apart, alike = vectors([1.0, 0.0], [0.0, 1.0]), vectors([1.0, 0.0], [1.0, 0.001])
    guard = watcher(threshold=0.5)
    guard.incoming(gradients(0, level0=apart, level1=alike, level2=torch.zeros(2, 2, 1, 1)))
    with pytest.raises(Alarm, match="level1") as caught:
        guard.incoming(gradients(1, level0=apart, level1=alike, level2=torch.zeros(2, 2, 1, 1)))
    assert (caught.value.detector, caught.value.score) == ("gradient-scrutinizer", pytest.approx(0, abs=1e-5))
    quiet = watcher(threshold=0.5)
    for step in range(3):
        quiet.incoming(gradients(step, level0=apart, level2=torch.zeros(2, 2, 1, 1)))
    assert quiet.scores == [1, 1]


def test_warm_up_and_window_hold_the_first_score_back(gradients: Any) -> None:
    alike = vectors([1.0, 0.0], [1.0, 0.0])
    guard = watcher(warm_up=3, window=4)
    for step in range(4):  # batch 4 is the first with pairs that count, two of the four
        guard.incoming(gradients(step, level0=alike))
    with pytest.raises(Alarm, match="after 5 batches"):
        guard.incoming(gradients(4, level0=alike))


def test_old_pairs_leave_the_window(gradients: Any) -> None:
    guard = watcher(window=2, threshold=1e-9)
    for step in range(2):
        guard.incoming(gradients(step, level0=vectors([1.0, 0.0], [0.8, 0.6])))
    for step in range(2, 4):
        guard.incoming(gradients(step, level0=vectors([1.0, 0.0], [0.0, 1.0])))
    # The third batch has pairs of old and new: a with itself 1, b with itself .6; a with b then .8, b with a then 0.
    assert guard.scores == [pytest.approx(0.2), pytest.approx(1 - 0.4 / 0.8), pytest.approx(1)]


def test_a_message_passes_unchanged_and_others_are_not_looked_at(gradients: Any) -> None:
    guard = watcher()
    message = gradients(0, level0=vectors([1.0, 0.0], [0.0, 1.0]))
    assert guard.incoming(message) is message
    sent = Message(channel="activation", sender="client-0", receiver="server", round=0, step=0, tensors={}, samples=("a",))
    assert guard.outgoing(sent) is sent


def test_long_gradients_keep_their_cosines_and_short_ones_are_exact() -> None:
    draw = torch.Generator().manual_seed(0)
    common, own = torch.randn(1, 60_000, generator=draw), torch.randn(4, 60_000, generator=draw)
    given = (common + own).reshape(4, 6, 100, 100)
    sketched = Sketch(seat().rng("sketch"))(given)
    assert sketched.shape == (4, 4096)
    exact = torch.nn.functional.normalize(given.flatten(1), dim=1)
    torch.testing.assert_close(sketched @ sketched.T, exact @ exact.T, atol=0.06, rtol=0)
    torch.testing.assert_close(Sketch(seat().rng("sketch"))(given[:, :1, :4, :4]).norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("scale", [1e-7, 1e4])
def test_gradients_in_half_precision_keep_their_directions(scale: float) -> None:
    small = Sketch(seat().rng("sketch"))((vectors([3.0, 4.0], [0.0, 0.0]) * scale).half())
    torch.testing.assert_close(small, torch.tensor([[0.6, 0.8], [0.0, 0.0]]), atol=0.2 if scale < 1 else 1e-3, rtol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("labels", ["sent", "u-shaped"])
def test_an_honest_server_raises_no_alarm(collaboration: Any, seed: int, labels: str) -> None:
    training = collaboration(guards=clients(WATCH), seed=seed, rounds=12, protocol={"labels": labels})
    assert training.run() is None
    for guard in training.defenses.values():
        assert len(guard.scores) > 10
        assert min(guard.scores) > 0.6


@pytest.mark.parametrize("task_weight", [0, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_hijacking_server_is_caught_also_if_it_mixes_in_the_task(collaboration: Any, seed: int, task_weight: float) -> None:
    training = collaboration(guards=clients(WATCH), seed=seed, rounds=12, hijack=HIJACK | {"task_weight": task_weight})
    alarm = training.run()
    assert alarm is not None
    assert alarm.detector == "gradient-scrutinizer"
    assert alarm.score < 0.5
    assert training.batches < 24


def test_watching_changes_nothing(collaboration: Any) -> None:
    watched, alone = collaboration(guards=clients(WATCH), rounds=3), collaboration(rounds=3)
    watched.run()
    alone.run()
    for client in ("client-0", "client-1"):
        one, other = watched.parties[client].state(), alone.parties[client].state()
        assert all(torch.equal(one[k], other[k]) for k in one)


def clients(params: GradientScrutinizerParams) -> Any:
    return lambda seat: GradientScrutinizer(params, seat) if seat.role == "client" else None


def test_it_needs_gradients_that_come_back_twice() -> None:
    for labels in ("server", "sent", "u-shaped"):
        assert GradientScrutinizerParams().needs(SplitParams(labels=labels).facts(COHORT)) == Needs(
            seats=("client",), channels=("cut-gradient",)
        )
    for params, why in (
        (FederatedParams(), "come back"),
        (CentralizedParams(), "come back"),
        (SplitParams(rounds=1), "two passes"),
    ):
        answer = GradientScrutinizerParams().needs(params.facts(COHORT))
        assert isinstance(answer, NotApplicable)
        assert why in answer.reason


@pytest.mark.parametrize(
    ("given", "what"),
    [({"threshold": 1.0}, "every server"), ({"threshold": 0}, "greater than 0"), ({"window": 1}, "greater than or equal to 2"),
     ({"warm_up": -1}, "greater than or equal to 0"), ({"statistic": "overlap"}, "own-share"), ({"windows": 3}, "Extra inputs")],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_refused(given: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        GradientScrutinizerParams.model_validate(given)
    assert GradientScrutinizerParams(statistic="separation", threshold=1.5).threshold == 1.5


CHECKS = list(checks("defense", "leakaudit-cut/gradient-scrutinizer"))


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_the_contract(check: Any) -> None:
    check()


def test_shadow_models_learn_as_if_nobody_watched() -> None:
    facts = SplitParams(rounds=2).facts(
        CohortFacts(modalities=("flair", "t1"), shape=(16, 16), members=4, auxiliary=4, sites=("site-0",), records=4)
    )
    victim = Victim(facts=facts, role="client", rate=0.5, steps=4)
    assert GradientScrutinizerParams().shadow(victim) == ShadowTraining(clip=None)
