"""Secure aggregation: the sum is exact whoever drops out, one update is noise, and sites refuse what would unmask it."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from leakaudit_updates.secure_aggregation import ARRIVED, OWN, PAIRS, WEIGHT, SecureAggregation
from leakaudit_updates.secure_deal import Deal, stream
from leakaudit_updates.secure_params import SecureAggregationParams
from leakaudit_updates.secure_ring import CAPACITY, encode, scaled
from leakaudit_updates.secure_shares import PRIME, packed, recover, share, unpacked
from leakaudit_updates.secure_unmask import Shares, unmask
from pydantic import ValidationError

from leakaudit.defenses import Chain, Defense
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, ProtocolFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.plugins import ShadowTraining, Victim
from leakaudit.protocols import Holdings, Schedule
from leakaudit.protocols.federated import Federated, average
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import Needs, NotApplicable
from leakaudit.wire import Message, MessageLog, Recorder, Seat, Secret, Wire

SECRET = Secret.from_seed(5)


def cohort(sites: int) -> CohortFacts:
    names = tuple(f"site-{i}" for i in range(sites))
    return CohortFacts(modalities=("flair",), shape=(8, 8), members=12, auxiliary=0, sites=names, records=12)


def facts_of(sites: int) -> ProtocolFacts:
    return FederatedParams().facts(cohort(sites))


def update(site: int, round_: int = 0, entries: int = 40, seed: int = 0) -> Message:
    draw = torch.Generator().manual_seed(100 * seed + site)
    tensors = {
        "conv.weight": torch.randn(entries // 4, 4, generator=draw), "bias": torch.randn((), generator=draw),
        "norm.running_var": torch.randn(3, generator=draw), "norm.num_batches_tracked": torch.tensor(7 + site),
    }  # fmt: skip
    return Message(
        channel="update", sender=f"site-{site}", receiver="aggregator", round=round_, step=0, tensors=tensors, weight=3.0 + site
    )


class Sites:
    """All seats of a federation with the defense, outside of a training.

    Args:
        sites: How many.
        **params: Of the defense.
    """

    def __init__(self, sites: int = 5, **params: Any) -> None:
        self.n, self.params = sites, SecureAggregationParams(**params)
        self.facts = facts_of(sites)
        self.guards = [SecureAggregation(self.params, self.seat(i)) for i in range(sites)]
        # The aggregator's code gets along without anything that the sites share.
        self.aggregator = SecureAggregation(self.params, Seat(self.facts.seat("aggregator"), SECRET, protocol=self.facts))
        self.sums: list[torch.Tensor] = []
        honest = self.aggregator.total
        self.aggregator.total = lambda *args: self.sums.append(honest(*args)) or self.sums[-1]  # type: ignore[method-assign]

    def seat(self, site: int, *, shares: bool = True) -> Seat:
        facts, own = self.facts.seat(f"site-{site}"), SECRET.branch(str(site))
        return Seat(facts, own, shared=SECRET.branch("shared") if shares else None, protocol=self.facts)

    def masked(self, updates: Iterable[Message]) -> list[Message]:
        found = [self.guards[int(m.sender[-1])].outgoing(m) for m in updates]
        assert None not in found
        return [m for m in found if m is not None]

    def run(self, updates: Iterable[Message], silent: Iterable[int] = ()) -> Mapping[str, torch.Tensor]:
        """Aggregate these sites' updates, where some do not answer, and return the mean."""
        asking = self.aggregator.aggregate(self.masked(updates))
        questions = next(asking)
        asked = [(int(q.receiver[-1]), q) for q in questions]
        answers = [a for site, q in asked if site not in set(silent) and (a := self.guards[site].answer(q)) is not None]
        with pytest.raises(StopIteration) as done:
            asking.send(answers)
        return done.value.value

    def question(self, to: int, arrived: Iterable[int], round_: int = 0) -> Message:
        flags = torch.tensor([i in set(arrived) for i in range(self.n)])
        return Message(
            channel="control", sender="aggregator", receiver=f"site-{to}", round=round_, step=0, tensors={ARRIVED: flags}
        )

    def encoded(self, message: Message) -> torch.Tensor:
        """Return what a site encodes in its first round, tensors sorted by name: computed here, by the formula."""
        draw = self.seat(int(message.sender[-1])).rng("secure-aggregation rounding")
        scale = 2.0**self.params.scale_bits
        exact = {k: t.double() for k, t in message.tensors.items()}
        exact = {
            k: t.clamp(-self.params.clip, self.params.clip) if k != "norm.num_batches_tracked" else t for k, t in exact.items()
        }
        exact = {k: t * message.weight * scale for k, t in exact.items()} | {
            WEIGHT: torch.tensor([message.weight * scale]).double()
        }
        rows = []
        for name in sorted(exact):
            if name == "norm.running_var":
                rows.append(exact[name].ceil())
                continue
            up = torch.rand(exact[name].shape, generator=draw, dtype=torch.float64) < exact[name] - exact[name].floor()
            rows.append(exact[name].floor() + up)
        return torch.cat([r.flatten() for r in rows]).long()


# The sum --------------------------------------------------------------------------------------------------------------


def test_every_drop_out_that_leaves_a_threshold_is_exact_and_others_are_refused() -> None:
    """Five sites, each of which answers, leaves before masking, or leaves after it: all 243 patterns."""
    exact = refused = 0
    for pattern in itertools.product(("stays", "before", "after"), repeat=5):
        group = Sites(threshold=3)
        sent = [update(i) for i, what in enumerate(pattern) if what != "before"]
        silent = [i for i, what in enumerate(pattern) if what == "after"]
        if pattern.count("stays") < 3:
            with pytest.raises(UserError, match="needed"):
                group.run(sent, silent)
            refused += 1
            continue
        mean = group.run(sent, silent)
        assert torch.equal(group.sums[0], torch.stack([group.encoded(m) for m in sent]).sum(dim=0))
        for name, tensor in average(sent).items():
            torch.testing.assert_close(mean[name], tensor, atol=len(sent) * 2.0**-24, rtol=1e-6)
        exact += 1
    assert (exact, refused) == (51, 192)


def test_the_mean_is_the_sum_over_the_total_weight() -> None:
    group = Sites(scale_bits=6)
    sent = [update(i) for i in range(5)]
    mean = group.run(sent)
    names = sorted([*sent[0].tensors, WEIGHT])
    at = names.index("conv.weight")
    sizes = [1 if k == WEIGHT else sent[0].tensors[k].numel() for k in names]
    total = group.sums[0].split(sizes)
    expected = total[at].double() / 2**6 / sum(m.weight for m in sent)
    assert torch.equal(mean["conv.weight"].flatten(), expected.float())
    assert total[names.index(WEIGHT)].item() == 2**6 * sum(m.weight for m in sent)


def test_the_mean_comes_in_the_model_s_type() -> None:
    group = Sites()
    model = {"conv.weight": torch.zeros(1).double(), "norm.num_batches_tracked": torch.tensor(0)}
    given = Message(channel="model", sender="aggregator", receiver="site-0", round=0, step=0, tensors=model)
    assert group.aggregator.outgoing(given) is given
    mean = group.run([update(i) for i in range(5)])
    assert mean["conv.weight"].dtype == torch.float64
    assert mean["bias"].dtype == mean["norm.num_batches_tracked"].dtype == torch.float32


def test_more_answers_than_the_threshold_give_the_same_sum() -> None:
    sums = []
    for silent in ((), (0,), (1, 3), (0, 4)):
        group = Sites(threshold=3)
        group.run([update(i) for i in range(5)], silent)
        sums.append(group.sums[0])
    assert all(torch.equal(sums[0], s) for s in sums)


def test_the_order_of_an_update_s_tensors_does_not_matter() -> None:
    """A party in a process of its own gets its messages in the order of a file."""
    group = Sites(3)
    sent = [update(i) for i in range(3)]
    mean = group.run([sent[0], sent[1], replace(sent[2], tensors=dict(reversed(sent[2].tensors.items())))])
    assert torch.equal(group.sums[0], torch.stack([group.encoded(m) for m in sent]).sum(dim=0))
    torch.testing.assert_close(mean["conv.weight"], average(sent)["conv.weight"], atol=1e-6, rtol=1e-6)


def test_rounding_is_unbiased_and_never_off_by_a_step() -> None:
    draw = torch.Generator().manual_seed(0)
    exact = torch.full((100_000,), 2.3, dtype=torch.float64)
    found = encode(exact, 3, draw)
    assert set(found.tolist()) == {2, 3}
    assert found.double().mean().item() == pytest.approx(2.3, abs=5 * math.sqrt(0.3 * 0.7 / 100_000))
    assert encode(torch.tensor([-1.5, 1.0001]).double(), 3, draw, upward=True).tolist() == [-1, 2]


# What the aggregator sees ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.0, 1e-3, 60.0])
def test_a_masked_update_is_uniform_and_uncorrelated_with_the_update(size: float) -> None:
    group, n = Sites(3), 200_000
    plain = torch.randn(n, generator=torch.Generator().manual_seed(1)) * size
    given = [replace(update(i), tensors={"w": plain}) for i in range(3)]
    for message in group.masked(given):
        sent = message.tensors["w"]
        assert sent.dtype == torch.int64
        for shift in (0, 24, 56):
            counts = torch.bincount((sent >> shift) & 255, minlength=256).double()
            chi = float(((counts - n / 256) ** 2 / (n / 256)).sum())
            assert abs(chi - 255) < 5 * math.sqrt(2 * 255)
        if size:
            together = torch.corrcoef(torch.stack([sent.double(), plain.double()]))[0, 1]
            assert abs(together) < 5 / math.sqrt(n)


def test_the_sum_of_masked_updates_keeps_only_the_self_masks() -> None:
    """Pairwise masks cancel; so what hides the sum until sites answer is their self masks."""
    group = Sites(4)
    sent = [update(i) for i in range(4)]
    flat = torch.stack([torch.cat([m.tensors[k].flatten() for k in sorted(m.tensors)]) for m in group.masked(sent)]).sum(dim=0)
    deal = group.guards[0]._deal
    own = torch.stack([stream(deal.own(i), len(flat)) for i in range(4)]).sum(dim=0)
    encoded = torch.stack([group.encoded(m) for m in sent]).sum(dim=0)
    assert torch.equal(flat - own, encoded)
    assert not torch.equal(flat, encoded)


def test_every_round_has_masks_of_its_own() -> None:
    group, n = Sites(3), 50_000
    same = {"w": torch.ones(n)}
    first, second = (group.masked([replace(update(0, r), tensors=same)])[0].tensors["w"].double() for r in range(2))
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 5 / math.sqrt(n)


def test_the_weight_of_a_site_is_masked_too() -> None:
    group = Sites()
    sent = group.masked([update(i) for i in range(5)])
    assert {m.weight for m in sent} == {1.0}
    assert all(abs(m.tensors[WEIGHT].item()) > 2**40 for m in sent)


def test_what_is_for_the_scorer_stays_and_other_channels_pass() -> None:
    group = Sites()
    (sent,) = group.masked([replace(update(0), behind=("a", "b"))])
    assert (sent.behind, sent.round, sent.receiver) == (("a", "b"), 0, "aggregator")
    for channel in ("model", "control"):
        given = replace(update(0), channel=channel)
        assert group.guards[0].outgoing(given) is given
        assert group.guards[0].incoming(given) is given


# Sites that refuse ----------------------------------------------------------------------------------------------------


def refusals(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(r.getMessage() for r in caplog.records)


def test_a_site_answers_the_same_question_again_but_no_second_story(caplog: pytest.LogCaptureFixture) -> None:
    group = Sites()
    group.masked(update(i) for i in range(5))
    first, again = (group.guards[1].answer(group.question(1, range(5))) for _ in range(2))
    assert torch.equal(first.tensors[OWN], again.tensors[OWN])
    assert first.tensors[PAIRS].shape == (0, 5, 16)
    assert group.guards[1].answer(group.question(1, [1, 2, 3, 4])) is None
    assert "other updates than an earlier question" in refusals(caplog)


def test_an_aggregator_that_lies_about_drop_outs_never_hears_enough_of_both_stories() -> None:
    """It wants site 0's update alone: shares of its self mask from some, and of its pairwise seeds from the others."""
    for told in itertools.product((False, True), repeat=5):
        group = Sites(threshold=3)
        group.masked(update(i) for i in range(5))
        heard: dict[bool, int] = {True: 0, False: 0}
        for story in (told, tuple(not t for t in told)):
            for site, gone in enumerate(story):
                arrived = range(1, 5) if gone else range(5)
                heard[gone] += group.guards[site].answer(group.question(site, arrived)) is not None
        assert min(heard.values()) < 3


def test_with_both_stories_it_would_unmask_one_update_and_with_one_it_does_not() -> None:
    group = Sites(threshold=3)
    sent = [update(i) for i in range(5)]
    alone = group.masked(sent)[0]
    row = torch.cat([alone.tensors[k].flatten() for k in sorted(alone.tensors)])
    deal = group.guards[0]._deal
    everybody = {h: Shares.of(deal, h, range(5)) for h in (1, 2, 3)}
    without = {h: Shares.of(deal, h, [1, 2, 3, 4]) for h in (2, 3, 4)}

    def seeds(shares: dict[int, Shares], pick: Any) -> list[int]:
        held = {h: unpacked(pick(s)) for h, s in shares.items()}
        return [recover({h: numbers[i] for h, numbers in held.items()}) for i in range(len(held[next(iter(held))]))]

    own = stream(seeds(everybody, lambda s: s.own)[0], len(row))
    pairs = torch.stack([stream(seed, len(row)) for seed in seeds(without, lambda s: s.pairs[0])]).sum(dim=0)
    assert torch.equal(row - own - pairs, group.encoded(sent[0]))
    assert not torch.equal(row - pairs, group.encoded(sent[0]))
    assert not torch.equal(row - own, group.encoded(sent[0]))


def test_a_site_refuses_questions_that_cannot_be_honest(caplog: pytest.LogCaptureFixture) -> None:
    group = Sites()
    assert group.guards[0].answer(group.question(0, range(5))) is None
    group.masked(update(i, round_=4) for i in range(5))
    bad = {
        "sent no update in round 3": group.question(0, range(5), round_=3),
        "did not arrive, but it was sent": group.question(0, range(1, 5), round_=4),
        "names 2 updates, and 3 are needed": group.question(0, range(2), round_=4),
        "does not say of each": replace(group.question(0, range(5), round_=4), tensors={ARRIVED: torch.ones(4).bool()}),
    }
    for reason, message in bad.items():
        caplog.clear()
        assert group.guards[0].answer(message) is None
        assert reason in refusals(caplog)
    assert group.guards[0].answer(replace(bad["does not say of each"], tensors={"other": torch.ones(5)})) is None
    assert group.guards[0].answer(group.question(0, range(5), round_=4)) is not None


def test_a_round_is_masked_once(caplog: pytest.LogCaptureFixture) -> None:
    """Two updates under the same masks would show their difference."""
    group = Sites()
    assert group.guards[0].outgoing(update(0, round_=1)) is not None
    assert group.guards[0].outgoing(update(0, round_=1, seed=1)) is None
    assert group.guards[0].outgoing(update(0, round_=0)) is None
    assert group.guards[0].outgoing(update(0, round_=2)) is not None
    assert refusals(caplog).count("withheld") == 2


# The aggregator's errors ----------------------------------------------------------------------------------------------


def test_answers_that_do_not_fit_count_as_none() -> None:
    group = Sites(3)
    asking = group.aggregator.aggregate(group.masked(update(i) for i in range(3)))
    answers = [group.guards[i].answer(q) for i, q in enumerate(next(asking))]
    short = replace(answers[0], tensors={k: t[:1] for k, t in answers[0].tensors.items()})
    stranger = replace(answers[1], sender="site-9")
    with pytest.raises(UserError, match="1 of 3 sites handed out shares of the masks, and 2 are needed"):
        asking.send([short, stranger, answers[2]])


@pytest.mark.parametrize("sites", [0, 2])
def test_too_few_updates_are_an_error_that_says_what_is_needed(sites: int) -> None:
    group = Sites(5)
    with pytest.raises(UserError, match=f"{sites} of 5 sites sent an update, and 3 are needed"):
        group.run([update(i) for i in range(sites)])


def test_min_sites_may_ask_for_more_than_the_threshold() -> None:
    group = Sites(5, min_sites=5)
    with pytest.raises(UserError, match="4 of 5 sites sent an update, and 5 are needed"):
        group.run([update(i) for i in range(4)])


def test_updates_that_are_not_masked_or_not_alike_are_refused() -> None:
    group = Sites(3)
    sent = group.masked(update(i) for i in range(3))
    with pytest.raises(UserError, match=r"'site-2' sent 'conv\.weight' without mask"):
        next(group.aggregator.aggregate([*sent[:2], update(2)]))
    less = replace(sent[2], tensors={k: t for k, t in sent[2].tensors.items() if k != "bias"})
    with pytest.raises(UserError, match="'site-0' and 'site-2' do not have the same tensors"):
        next(group.aggregator.aggregate([*sent[:2], less]))


# Fixed point ----------------------------------------------------------------------------------------------------------


def test_entries_beyond_the_bound_are_clipped_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    group = Sites(3, clip=0.5)
    sent = [replace(update(i), tensors={"w": torch.tensor([0.2, 9.0, -9.0])}, weight=1.0) for i in range(3)]
    mean = group.run(sent)["w"]
    torch.testing.assert_close(mean, torch.tensor([0.2, 0.5, -0.5]), atol=1e-6, rtol=0)
    assert "2 entries of an update were clipped to 0.5" in refusals(caplog)


@pytest.mark.parametrize("value", [float("nan"), 3.0])
def test_what_could_wrap_around_is_an_error_of_the_site(value: float) -> None:
    group = Sites(3, scale_bits=40)
    given = replace(update(0), tensors={"w": torch.tensor([value])}, weight=2.0**20)
    with pytest.raises(UserError, match=r"does not fit; 3 sites share"):
        group.guards[0].outgoing(given)


def test_the_largest_entries_that_fit_add_up_exactly() -> None:
    group = Sites(4)
    largest = float(CAPACITY // 4 - 2**10)
    rows = [encode(torch.tensor([largest], dtype=torch.float64), 4, torch.Generator()) for _ in range(4)]
    assert torch.stack(rows).sum().item() == 4 * int(largest)
    assert group.n * scaled(torch.tensor([1e9]), 10.0, 24, 64.0).item() < CAPACITY


def test_a_coarse_grid_costs_precision_that_a_fine_one_keeps() -> None:
    def error(bits: int) -> float:
        sent = [update(i) for i in range(5)]
        return float((Sites(scale_bits=bits).run(sent)["conv.weight"] - average(sent)["conv.weight"]).abs().max())

    assert error(1) > 1e-2
    assert error(24) < 1e-6


# Shares ---------------------------------------------------------------------------------------------------------------


def test_shares_give_the_secret_back_from_any_threshold_of_holders_and_nothing_from_fewer() -> None:
    secret, coefficients = PRIME - 5, [11**30, PRIME - 1]
    shares = {holder: share(secret, coefficients, holder) for holder in range(6)}
    for some in itertools.combinations(shares, 3):
        assert recover({h: shares[h] for h in some}) == secret
    two = {h: shares[h] for h in (0, 4)}
    assert recover(two) != secret
    # With a third share of any value, every secret is possible: here that share is solved for.
    assert recover({**two, 5: (shares[5] + 1) % PRIME}) != secret
    assert unpacked(packed([0, PRIME - 1, secret])) == [0, PRIME - 1, secret]
    assert packed([]).shape == (0, 16)


def test_the_stream_is_the_same_everywhere() -> None:
    assert stream(1, 3).tolist() == stream(1, 3).tolist() == stream(1, 9)[:3].tolist()
    assert stream(1, 3).tolist() != stream(2, 3).tolist()


def test_unmask_needs_the_shares_of_the_missing() -> None:
    deal, n = Deal(bytes(16), 3, 2), 10
    total = deal.mask(0, n) + deal.mask(2, n)
    shares = {h: Shares.of(deal, h, [0, 2]) for h in (0, 2)}
    assert torch.equal(unmask(total, 3, [0, 2], shares), torch.zeros(n, dtype=torch.int64))
    other = {h: Shares.of(Deal(bytes(15) + b"1", 3, 2), h, [0, 2]) for h in (0, 2)}
    assert unmask(total, 3, [0, 2], other).count_nonzero() == n


# Replicas and adversaries ---------------------------------------------------------------------------------------------


def test_a_replica_masks_afresh_and_passes_gradients() -> None:
    group = Sites(3)
    guard = SecureAggregation(group.params, group.seat(0, shares=False))
    values = torch.randn(6, requires_grad=True)
    given = replace(update(0, round_=-1), tensors={"w": values}, weight=1.0)
    first, second = (guard.outgoing(given) for _ in range(2))
    assert not torch.equal(first.tensors["w"], second.tensors["w"])
    assert first.tensors["w"].dtype == torch.float64
    (gradient,) = torch.autograd.grad(first.tensors["w"].sum(), values)
    assert torch.equal(gradient, torch.full((6,), 2.0**24))
    assert guard.outgoing(replace(given, tensors={"w": values.detach()})).tensors["w"].dtype == torch.int64


def test_a_rehearsal_changes_nothing_for_the_round() -> None:
    group, other = Sites(3), Sites(3)
    for round_ in (0, -1):
        group.guards[0].outgoing(replace(update(0, round_), tensors={}))
    other.guards[0].outgoing(replace(update(0), tensors={}))
    answers = [g.guards[0].answer(g.question(0, range(3))).tensors[OWN] for g in (group, other)]
    assert torch.equal(*answers)


def test_a_seat_that_shares_nothing_with_the_others_cannot_cancel_their_masks() -> None:
    group = Sites(3)
    sent = [update(i) for i in range(3)]
    group.guards[0] = SecureAggregation(group.params, group.seat(0, shares=False))
    group.run(sent)
    assert not torch.equal(group.sums[0], torch.stack([group.encoded(m) for m in sent]).sum(dim=0))


def test_outside_of_a_protocol_a_site_is_alone_with_its_self_mask() -> None:
    seat = Seat(SeatFacts(id="site-0", role="site"), SECRET, shared=SECRET)
    sent = SecureAggregation(SecureAggregationParams(), seat).outgoing(update(0))
    assert all(t.dtype == torch.int64 for t in sent.tensors.values())
    assert sent.tensors.keys() == {*update(0).tensors, WEIGHT}


def test_what_crosses_can_be_written_down_and_read_again(tmp_path: Path) -> None:
    """Also where no update is missing and the shares of pairwise seeds are empty."""
    group = Sites()
    (update_, *_) = group.masked(update(i) for i in range(5))
    question = group.question(0, range(5))
    answer = group.guards[0].answer(question)
    recorder = Recorder(tmp_path, lambda message: (None, None))
    for message in (update_, question, answer):
        recorder.record(message)
    recorder.close()
    for written, read in zip((update_, question, answer), MessageLog(tmp_path).messages(), strict=True):
        assert written.tensors.keys() == read.tensors.keys()
        for name, tensor in written.tensors.items():
            assert tensor.dtype == read.tensors[name].dtype
            assert torch.equal(tensor, read.tensors[name])


# In training ----------------------------------------------------------------------------------------------------------


class Gone(Defense[Any]):
    """Withholds every update."""

    def outgoing(self, message: Message) -> Message | None:
        return None if message.channel == "update" else message


class Mute(SecureAggregation):
    """Never answers."""

    def answer(self, message: Message) -> Message | None:
        return None


class Tape:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    def record(self, message: Message) -> None:
        self.messages.append(message)


def trained(guard: Any, *, sites: int = 3, rounds: int = 1, normalization: str = "instance") -> tuple[dict[str, Any], Wire, Tape]:
    """Run a tiny federated training and return the model, its wire, and what crossed."""
    params = FederatedParams(
        network=NetworkParams(channels=[4, 4], normalization=normalization), training=TrainingParams(batch_size=2), rounds=rounds
    )
    protocol = Federated(params, cohort(sites))
    task = load_task(protocol.task())

    def party(facts: SeatFacts) -> Any:
        seat = Seat(facts, SECRET.branch(facts.id), shared=SECRET.branch("shared"), protocol=protocol.facts)
        n = 2 + int(facts.id[-1]) if facts.role == "site" else 0
        draw = torch.Generator().manual_seed(n)
        holds = Holdings(
            tokens=tuple(f"{facts.id}-{i}" for i in range(n)), units=torch.arange(n),
            images=torch.randn(n, 1, 8, 8, generator=draw), regions=(torch.rand(n, 3, 8, 8, generator=draw) > 0.7).float(),
        )  # fmt: skip
        return protocol.party(seat, task, Chain(guard(seat), seat), holds)

    parties = {facts.id: party(facts) for facts in protocol.facts.seats}
    tape = Tape()
    wire = Wire(parties, SECRET.branch("wire"), [tape])
    tokens = tuple(f"row{i}" for i in range(12))
    protocol.run(wire, Schedule(tokens, list(range(12)), rounds, 2, Holdings(tokens=(), units=torch.zeros(0)).sampling, SECRET))
    return dict(parties["aggregator"].state()), wire, tape


def secured(seat: Seat) -> list[Defense[Any]]:
    return [SecureAggregation(SecureAggregationParams(), seat)]


def test_training_with_it_is_federated_averaging_up_to_the_grid() -> None:
    plain, _, _ = trained(lambda seat: [])
    secure, wire, tape = trained(secured)
    for name, tensor in plain.items():
        torch.testing.assert_close(secure[name], tensor, atol=1e-6, rtol=1e-6)
    updates = [m for m in tape.messages if m.channel == "update"]
    assert len(updates) == 3
    assert {t.dtype for m in updates for t in m.tensors.values()} == {torch.int64}
    assert wire.traffic["control", "aggregator", "site-0"].bytes == 3
    assert wire.traffic["control", "site-0", "aggregator"].bytes == 3 * 16


@pytest.mark.parametrize("when", ["before", "after"])
def test_training_goes_on_when_a_site_drops_out(when: str) -> None:
    def guards(seat: Seat, defended: bool) -> list[Defense[Any]]:
        if seat.id == "site-1" and when == "before":
            return [Gone(None, seat)]
        kind = Mute if seat.id == "site-1" else SecureAggregation
        return [kind(SecureAggregationParams(), seat)] if defended else []

    plain, _, _ = trained(lambda seat: guards(seat, False))
    secure, wire, _ = trained(lambda seat: guards(seat, True))
    for name, tensor in plain.items():
        torch.testing.assert_close(secure[name], tensor, atol=1e-6, rtol=1e-6)
    assert (("control", "aggregator", "site-1") in wire.traffic) == (when == "after")


def test_training_stops_with_a_plain_error_when_too_few_are_left() -> None:
    with pytest.raises(UserError, match="round 0: 1 of 3 sites sent an update, and 2 are needed"):
        trained(lambda seat: secured(seat) if seat.id in ("aggregator", "site-0") else [Gone(None, seat)])


def test_a_variance_that_falls_to_almost_nothing_is_not_rounded_below_zero() -> None:
    variance = torch.full((500,), 0.01)
    group = Sites(scale_bits=1)
    mean = group.run([replace(update(i), tensors={"norm.running_var": -0.999 * variance}) for i in range(5)])
    assert (variance + mean["norm.running_var"] > 0).all()


def test_batch_normalization_trains_on_a_coarse_grid() -> None:
    params = SecureAggregationParams(scale_bits=1)
    model, _, _ = trained(lambda seat: [SecureAggregation(params, seat)], rounds=3, normalization="batch")
    variances = [t for k, t in model.items() if k.endswith("running_var")]
    assert variances
    assert all((t > 0).all() for t in variances)


# Params ---------------------------------------------------------------------------------------------------------------


def test_it_is_carried_by_the_sites_and_the_aggregator() -> None:
    assert SecureAggregationParams().needs(facts_of(3)) == Needs(seats=("site", "aggregator"), channels=("update",), last=True)


@pytest.mark.parametrize(
    ("sites", "params", "reason"),
    [
        (1, {}, "at least 2"), (4, {"min_sites": 5}, "at least 5"), (4, {"threshold": 2}, "more than half"),
        (4, {"threshold": 5}, "threshold 5 is more than the 4 sites"),
    ],
)  # fmt: skip
def test_federations_that_it_cannot_serve_are_not_applicable(sites: int, params: dict[str, int], reason: str) -> None:
    answer = SecureAggregationParams(**params).needs(facts_of(sites))
    assert isinstance(answer, NotApplicable)
    assert reason in answer.reason


def test_protocols_without_updates_are_not_applicable() -> None:
    for protocol in (SplitParams(), CentralizedParams()):
        assert isinstance(SecureAggregationParams().needs(protocol.facts(cohort(3))), NotApplicable)


@pytest.mark.parametrize(("sites", "needed"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_the_threshold_is_a_majority_by_default(sites: int, needed: int) -> None:
    assert SecureAggregationParams().needed(sites) == needed


@pytest.mark.parametrize(
    "bad", [{"scale_bits": 0}, {"scale_bits": 41}, {"clip": 0}, {"min_sites": 1}, {"threshold": 0}, {"bits": 4}]
)
def test_impossible_params_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SecureAggregationParams.model_validate(bad)


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


def test_shadow_models_learn_as_by_plain_averaging() -> None:
    cohort = CohortFacts(
        modalities=("t1",), shape=(16, 16), members=6, auxiliary=4, sites=("site-0", "site-1", "site-2"), records=6
    )
    victim = Victim(facts=FederatedParams(rounds=1).facts(cohort), role="site", rate=0.5, steps=4)
    assert SecureAggregationParams().shadow(victim) == ShadowTraining(clip=None)
