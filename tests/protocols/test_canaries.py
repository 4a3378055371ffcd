"""Gradient canaries in training: drawn into batches like any other unit, and added where no defense takes them."""

from __future__ import annotations

import pytest
import torch

from leakaudit.defenses import Chain, Defense, Local
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task
from leakaudit.models.canary import GradientCanary
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.plugins import DefenseParams
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.centralized import Centralized
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.protocols.split import Split
from leakaudit.wire import Message, Seat, Secret, Wire

RATE, BATCH, ROWS, CANARIES = 0.5, 4, 6, 10
TRAINING = TrainingParams(batch_size=BATCH, optimizer="sgd", learning_rate=RATE, momentum=0.0)
NETWORK = NetworkParams(channels=[4, 8], normalization="none")
COHORT = CohortFacts(modalities=("t1",), shape=(16, 16), members=ROWS, auxiliary=0, sites=("site-0",), records=ROWS)


class Taker(Defense[DefenseParams]):
    """Takes the canaries upon itself and forgets them."""

    seen: list[int]

    def train(self, local: Local) -> Local:
        self.seen = []
        step = local.optimizer.step

        def noting(*args, **kwargs):
            self.seen.append(len(local.canary_rows()))
            return step(*args, **kwargs)

        local.optimizer.step = noting  # type: ignore[method-assign]
        local.takes_canaries = True
        return local


def trained(kind: str, planted: bool, sampling: Sampling | None = None, taker: bool = False, rounds: int = 3):
    params, cls = (CentralizedParams, Centralized) if kind == "centralized" else (FederatedParams, Federated)
    protocol = cls(params(rounds=rounds, network=NETWORK, training=TRAINING), COHORT)
    task, secret, sampling = load_task(protocol.task()), Secret.from_seed(3), sampling or Sampling()
    name = next(n for n, p in task.build().named_parameters() if p.numel() > CANARIES)
    canaries = {f"canary{i}": GradientCanary(parameter=name, index=i, value=100.0) for i in range(CANARIES)} if planted else {}
    generator = torch.Generator().manual_seed(0)
    tokens, units = tuple(f"row{i}" for i in range(ROWS)), torch.arange(ROWS) // 2
    parties, guards = {}, {}
    for facts in protocol.facts.seats:
        holds = facts.role in ("trainer", "site")
        held = Holdings(
            tokens=tokens if holds else (), units=units if holds else units[:0], sampling=sampling,
            images=torch.randn(ROWS, 1, 16, 16, generator=generator) if holds else None,
            regions=torch.zeros(ROWS, 3, 16, 16) if holds else None, canaries=canaries if holds else {},
        )  # fmt: skip
        seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"))
        guards[facts.id] = Taker(DefenseParams(), seat) if taker and holds else Chain([], seat)
        parties[facts.id] = protocol.party(seat, task, guards[facts.id], held)
    numbers = [*units.tolist(), *range(ROWS, ROWS + len(canaries))]
    schedule = Schedule([*tokens, *canaries], numbers, rounds, BATCH, sampling, secret.branch("schedule"))
    protocol.run(Wire(parties, secret.branch("wire"), []), schedule)
    state = parties["trainer" if kind == "centralized" else "aggregator"].state()
    return state[name].flatten()[:CANARIES], guards, parties


@pytest.mark.parametrize("kind", ["centralized", "federated"])
def test_each_canary_moves_its_weight_once_a_pass(kind):
    found, _, _ = trained(kind, planted=True)
    # A pass over 16 rows in batches of 4: every canary is in one batch, and moves its weight by rate * value / batch.
    assert torch.allclose(found, torch.full_like(found, -3 * RATE * 100 / BATCH), rtol=0.02)


@pytest.mark.parametrize("kind", ["centralized", "federated"])
def test_without_canaries_nothing_changes(kind):
    found, _, _ = trained(kind, planted=False)
    assert found.abs().max() < 5


@pytest.mark.parametrize("kind", ["centralized", "federated"])
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_under_poisson_sampling_each_is_taken_by_a_coin_of_its_own(kind, unit):
    rounds = 60
    found, guards, _ = trained(kind, planted=True, sampling=Sampling(kind="poisson", unit=unit), taker=True, rounds=rounds)
    seen = guards["trainer" if kind == "centralized" else "site-0"].seen
    expected = CANARIES * BATCH / (ROWS + CANARIES)
    assert len(seen) == 4 * rounds
    assert sum(seen) / len(seen) == pytest.approx(expected, rel=0.15)
    assert max(seen) > min(seen)
    assert found.abs().max() < 20, "a defense that takes the canaries upon itself must not find them in the gradient as well"


def test_an_update_names_images_alone_as_behind_it():
    _, _, parties = trained("federated", planted=True)
    site = parties["site-0"]
    (update,) = site.reply([_model(parties)])
    assert set(update.behind) <= {f"row{i}" for i in range(ROWS)}


def _model(parties):
    return Message(channel="model", sender="aggregator", receiver="site-0", round=0, step=0, tensors=parties["aggregator"].state())


def test_only_parties_that_train_the_whole_network_take_them():
    assert (Centralized.canary_roles, Federated.canary_roles) == (("trainer",), ("site",))
    assert Split(SplitParams(network=NETWORK, cut=0), COHORT).canary_roles == ()
