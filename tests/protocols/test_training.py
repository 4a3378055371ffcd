"""Protocols train what they say: split equals centralized, federated averages, batches follow the sampling."""

from __future__ import annotations

import math

import pytest
import torch

from leakaudit.defenses import Chain, Defense, Local
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.plugins import DefenseParams
from leakaudit.protocols import Holdings, Sampler, Sampling, Schedule
from leakaudit.protocols.centralized import Centralized
from leakaudit.protocols.federated import Federated, average
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.protocols.split import Split
from leakaudit.wire import Message, Seat, Secret, Wire

NETWORK = NetworkParams(channels=[4, 8, 8])
TRAINING = TrainingParams(batch_size=4, learning_rate=1e-2)
MODALITIES = ("flair", "t1", "t1ce", "t2")


def cohort_facts(dims: int = 2, n: int = 10) -> CohortFacts:
    return CohortFacts(
        modalities=MODALITIES, shape=(16,) * dims, members=n // 2, auxiliary=0, sites=("site-0", "site-1"), records=n
    )


def train(protocol, dims: int = 2, n: int = 10, sampling: Sampling | None = None, recorders=()):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 4, *(16,) * dims, generator=generator)
    regions = (torch.rand(n, 3, *(16,) * dims, generator=generator) > 0.7).float()
    tokens = tuple(f"row{i}" for i in range(n))
    units = torch.arange(n) // 2
    task = load_task(protocol.task())
    secret = Secret.from_seed(7)
    sampling = sampling or Sampling()
    parties = {}
    for facts in protocol.facts.seats:
        rows = torch.arange(n) if facts.site is None else torch.nonzero(units % 2 == int(facts.site[-1])).flatten()
        index = [MODALITIES.index(m) for m in facts.modalities]
        holds = Holdings(
            tokens=tuple(tokens[i] for i in rows), units=units[rows], sampling=sampling,
            images=images[rows][:, index] if index else None, regions=regions[rows] if facts.labels else None,
        )  # fmt: skip
        seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"))
        parties[facts.id] = protocol.party(seat, task, Chain([], seat), holds)
    wire = Wire(parties, secret.branch("wire"), recorders)
    schedule = Schedule(tokens, units.tolist(), protocol.params.rounds, 4, sampling, secret.branch("schedule"))
    protocol.run(wire, schedule)
    guards = {f.id: Chain([], Seat(f, secret)) for f in protocol.facts.seats}
    predictor = protocol.predictor({k: p.state() for k, p in parties.items()}, task, guards)
    with torch.no_grad():
        return predictor(images), wire, parties


@pytest.mark.parametrize("labels", ["server", "sent", "u-shaped"])
@pytest.mark.parametrize(("cut", "skips"), [(0, None), (1, None), (2, [0]), (2, [])])
def test_split_learns_exactly_what_centralized_learns(labels: str, cut: int, skips: list[int] | None) -> None:
    common = {"network": NETWORK, "training": TRAINING, "rounds": 2, "cut": cut, "skips": skips}
    whole, _, _ = train(Centralized(CentralizedParams(**common), cohort_facts()))
    parts, wire, _ = train(Split(SplitParams(**common, labels=labels), cohort_facts()))
    torch.testing.assert_close(parts, whole, atol=2e-4, rtol=1e-3)
    channels = {key[0] for key in wire.traffic}
    assert ("label" in channels) == (labels == "sent")


@pytest.mark.parametrize("labels", ["server", "u-shaped"])
def test_the_learning_rate_decays_alike_for_every_party(labels: str) -> None:
    common = {"network": NETWORK, "training": TRAINING.model_copy(update={"decay": "cosine"}), "rounds": 4}
    whole, _, _ = train(Centralized(CentralizedParams(**common), cohort_facts()))
    parts, _, parties = train(Split(SplitParams(**common, labels=labels), cohort_facts()))
    torch.testing.assert_close(parts, whole, atol=2e-4, rtol=1e-3)
    last = TRAINING.learning_rate * (1 + math.cos(math.pi * 3 / 4)) / 2
    for party in parties.values():
        assert party.learner.optimizer.param_groups[0]["lr"] == pytest.approx(last)


def test_three_dimensional_split_with_two_clients_trains() -> None:
    params = SplitParams(network=NETWORK, training=TRAINING, rounds=1, clients=[["flair", "t2"], ["t1", "t1ce"]])
    logits, wire, _ = train(Split(params, cohort_facts(dims=3, n=4)), dims=3, n=4)
    assert logits.shape == (4, 3, 16, 16, 16)
    assert ("activation", "client-1", "server") in wire.traffic


def test_half_precision_wire_halves_the_traffic() -> None:
    sizes = {}
    for form in ("float32", "float16"):
        params = SplitParams(network=NETWORK, training=TRAINING, rounds=1, wire=form)
        _, wire, _ = train(Split(params, cohort_facts()))
        sizes[form] = wire.traffic["activation", "client-0", "server"].bytes
    assert sizes["float32"] == 2 * sizes["float16"]


def test_federated_with_one_site_and_one_round_is_local_training() -> None:
    """With a single site the average is that site's own update, so a round equals centralized training's passes."""
    params = FederatedParams(network=NETWORK, training=TRAINING, rounds=1, local_epochs=1)
    protocol = Federated(params, cohort_facts())
    _, _, parties = train(protocol)
    sites = [parties["site-0"].state(), parties["site-1"].state()]
    weights = [len(parties[s].holds.tokens) for s in ("site-0", "site-1")]
    for name, value in parties["aggregator"].state().items():
        expected = sum(w * s[name] for w, s in zip(weights, sites, strict=True)) / sum(weights)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-4)


def test_average_weighs_by_samples() -> None:
    def update(value: float, weight: float) -> Message:
        return Message(
            channel="update", sender="s", receiver="a", round=0, step=0, tensors={"w": torch.tensor(value)}, weight=weight
        )

    assert average([update(1.0, 1), update(5.0, 3)])["w"].item() == pytest.approx(4.0)


def test_local_run_of_the_task_equals_the_site_s_training() -> None:
    protocol = Federated(FederatedParams(network=NETWORK, training=TRAINING, rounds=1, local_steps=2), cohort_facts())
    task = load_task(protocol.task())
    torch.manual_seed(0)
    network = task.build()
    x, y = torch.randn(6, 4, 16, 16), (torch.rand(6, 3, 16, 16) > 0.5).float()
    order = [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])]
    after = task.local({k: v.detach().clone() for k, v in network.named_parameters()}, x, y, order)
    optimizer = torch.optim.Adam(network.parameters(), lr=TRAINING.learning_rate)
    for rows in order:
        optimizer.zero_grad()
        task.loss(network(x[rows]), y[rows]).mean().backward()
        optimizer.step()
    for name, value in network.named_parameters():
        torch.testing.assert_close(after[name], value.detach(), atol=1e-5, rtol=1e-3)


class Noting:
    """A tap that keeps the messages as they are, and an aggregator's inbox beside it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def record(self, message: Message) -> None:
        self.messages.append(message)


@pytest.mark.parametrize(
    ("choice", "each"), [({"local_epochs": 2}, {"site-0": 6, "site-1": 4}), ({"local_steps": 1}, {"site-0": 4, "site-1": 4})]
)
def test_an_update_says_to_the_recorder_alone_which_samples_are_behind_it(choice: dict[str, int], each: dict[str, int]) -> None:
    tap = Noting()
    protocol = Federated(FederatedParams(network=NETWORK, training=TRAINING, rounds=2, **choice), cohort_facts())
    _, wire, _ = train(protocol, recorders=(tap,))
    updates = [m for m in tap.messages if m.channel == "update"]
    assert len(updates) == 4
    for update in updates:
        assert len(update.behind) == len(set(update.behind)) == each[update.sender]
        assert {int(token.removeprefix("row")) // 2 % 2 for token in update.behind} == {int(update.sender[-1])}, "its own patients"
        assert wire._copy(update).behind == (), "nobody receives it"


def test_poisson_sampling_takes_whole_patients_at_the_stated_rate() -> None:
    units = [i // 3 for i in range(60)]
    sampler = Sampler(units, 12, Sampling(kind="poisson", unit="patient"), torch.Generator().manual_seed(1))
    sizes = []
    for _ in range(200):
        for batch in sampler.epoch():
            sizes.append(len(batch))
            assert all(sum(units[r] == u for r in batch) == 3 for u in {units[r] for r in batch})
    assert sum(sizes) / len(sizes) == pytest.approx(12, rel=0.1)
    assert sampler.expected_units == pytest.approx(4.0)


def test_shuffled_passes_take_every_row_once() -> None:
    sampler = Sampler([0] * 11, 4, Sampling(), torch.Generator().manual_seed(1))
    batches = sampler.epoch()
    assert sorted(r for b in batches for r in b) == list(range(11))
    assert [len(b) for b in batches] == [4, 4, 3]


def test_a_seat_s_extra_draws_leave_the_others_unchanged() -> None:
    params = SplitParams(network=NETWORK, training=TRAINING, rounds=1)
    first, _, _ = train(Split(params, cohort_facts()))
    torch.manual_seed(999)
    second, _, _ = train(Split(params, cohort_facts()))
    torch.testing.assert_close(first, second, atol=0, rtol=0)


class _Replacing(Defense[DefenseParams]):
    def train(self, local: Local) -> Local:
        return local


@pytest.mark.parametrize(("parts", "defended"), [([], True), ([_Replacing], False)])
def test_a_replica_does_not_count_as_defended_where_the_local_training_is_replaced(parts: list[type], defended: bool) -> None:
    protocol = Federated(FederatedParams(network=NETWORK, training=TRAINING), cohort_facts())
    facts = protocol.facts.seat("site-0")
    seat = Seat(facts, Secret.from_seed(0))
    guard = Chain([part(DefenseParams(), seat) for part in parts], seat)
    assert protocol.replica(facts, load_task(protocol.task()), None, guard).defended is defended
