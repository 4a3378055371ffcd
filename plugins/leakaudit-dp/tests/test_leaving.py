"""A site that leaves spends what it has sent: the steps that were planned, and a target epsilon, stay upper bounds."""

from __future__ import annotations

import pytest
import torch
from leakaudit_dp.defense import DpSgd
from leakaudit_dp.params import DpSgdParams

from leakaudit.defenses import Chain, Defense
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import FederatedParams
from leakaudit.wire import Seat, Secret, Wire

SITES = ("site-0", "site-1", "site-2")
COHORT = CohortFacts(modalities=("flair",), shape=(16, 16), members=12, auxiliary=0, sites=SITES, records=12)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_who_leaves_early_spends_less_and_who_never_took_part_nothing(accountant: str) -> None:
    params = FederatedParams(
        network=NetworkParams(channels=[4, 8]), training=TrainingParams(batch_size=2), rounds=3,
        dropouts=[{"site": "site-1", "round": 1}, {"site": "site-2", "round": 0}],
    )  # fmt: skip
    protocol, secret = Federated(params, COHORT), Secret.from_seed(5)
    task, sampling = load_task(protocol.task()), Sampling(kind="poisson", unit="patient")
    guards: dict[str, Defense] = {}
    parties = {}
    for facts in protocol.facts.seats:
        seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"), protocol=protocol.facts)
        site = facts.role == "site"
        chosen = DpSgdParams(target_epsilon=4.0, delta=1e-3, accountant=accountant)
        guards[facts.id] = DpSgd(chosen, seat) if site else Defense(None, seat)
        holds = Holdings(
            tokens=tuple(f"{facts.id}-{i}" for i in range(4)), units=torch.arange(4), sampling=sampling,
            images=torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(1)),
            regions=torch.zeros(4, 3, 16, 16),
        ) if site else Holdings(tokens=(), units=torch.zeros(0).long())  # fmt: skip
        parties[facts.id] = protocol.party(seat, task, Chain([guards[facts.id]], seat), holds)
    schedule = Schedule(("row",), [0], 3, 2, sampling, secret)
    protocol.run(Wire(parties, secret.branch("wire")), schedule)
    claims = {site: guards[site].guarantee() for site in SITES}
    spent = {site: claim.epsilon for site, claim in claims.items() if claim is not None}
    assert spent["site-2"] == 0
    assert 0 < spent["site-1"] < spent["site-0"] <= 4.0 + 1e-6
    assert spent["site-0"] > 3.5, "the noise was chosen for all rounds"
