"""DP-SGD in real trainings: centralized, federated and split, with Poisson sampling and empty batches."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import torch
from leakaudit_dp.accounting import spent
from leakaudit_dp.defense import DpSgd
from leakaudit_dp.params import DpSgdParams
from leakaudit_dp.plugin import leakaudit_defenses
from opacus.accountants import RDPAccountant
from pydantic import ValidationError

from leakaudit.defenses import Chain, Defense, Local
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.centralized import Centralized
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.protocols.split import Split
from leakaudit.threats import Needs, NotApplicable
from leakaudit.wire import Seat, Secret, Wire

NETWORK = NetworkParams(channels=[4, 8])
TRAINING = TrainingParams(batch_size=4, learning_rate=1e-2)
COMMON = {"network": NETWORK, "training": TRAINING, "rounds": 2}
CLIENTS = [["flair", "t1"], ["t1ce", "t2"]]
ROWS = 12
COHORT = CohortFacts(
    modalities=("flair", "t1", "t1ce", "t2"), shape=(16, 16), members=ROWS // 2, auxiliary=0, sites=("site-0", "site-1"),
    records=ROWS,
)  # fmt: skip


@dataclass
class Training:
    """One training of a protocol; `guard` makes the defense of each seat that dp-sgd names."""

    protocol: object
    guard: object
    unit: str = "patient"
    kind: str = "poisson"
    seed: int = 0
    alter: object = None
    precision: str = "float32"
    guards: dict[str, Defense] = field(default_factory=dict)
    parties: dict[str, object] = field(default_factory=dict)

    def prepare(self) -> Training:
        draw = torch.Generator().manual_seed(0)
        images = torch.randn(ROWS, 4, 16, 16, generator=draw)
        regions = (torch.rand(ROWS, 3, 16, 16, generator=draw) > 0.7).float()
        if self.alter is not None:
            self.alter(images, regions)
        self.tokens, units = tuple(f"row{i}" for i in range(ROWS)), torch.arange(ROWS) // 2
        self.task, self.secret = load_task(self.protocol.task()), Secret.from_seed(self.seed)
        self.sampling = Sampling(kind=self.kind, unit=self.unit)
        for facts in self.protocol.facts.seats:
            rows = torch.arange(ROWS) if facts.site is None else torch.nonzero(units % 2 == int(facts.site[-1])).flatten()
            index = [COHORT.modalities.index(m) for m in facts.modalities]
            holds = Holdings(
                tokens=tuple(self.tokens[i] for i in rows), units=units[rows], sampling=self.sampling,
                images=images[rows][:, index] if index else None, regions=regions[rows] if facts.labels else None,
            )  # fmt: skip
            seat = Seat(facts, self.secret.branch(facts.id), shared=self.secret.branch("shared"), precision=self.precision)
            guarded = facts.role in ("client", "site", "trainer")
            self.guards[facts.id] = self.guard(seat) if guarded else Chain([], seat)
            self.parties[facts.id] = self.protocol.party(seat, self.task, self.guards[facts.id], holds)
        self.schedule = Schedule(
            self.tokens, units.tolist(), self.protocol.params.rounds, self.protocol.params.training.batch_size, self.sampling,
            self.secret.branch("schedule"),
        )  # fmt: skip
        return self

    def run(self) -> Training:
        self.prepare()
        self.protocol.run(Wire(self.parties, self.secret.branch("wire")), self.schedule)
        return self

    def digest(self) -> str:
        states = [t for p in self.parties.values() for t in p.state().values()]
        return hashlib.sha256(b"".join(t.numpy().tobytes() for t in states)).hexdigest()


def dp(**params: object):
    merged = {"noise_multiplier": 1.0, "delta": 1e-3} | params
    return lambda seat: DpSgd(DpSgdParams(**{k: v for k, v in merged.items() if v is not None}), seat)


def protocols(rounds: int = 2) -> dict[str, object]:
    common = COMMON | {"rounds": rounds}
    return {
        "centralized": Centralized(CentralizedParams(**common), COHORT),
        "federated": Federated(FederatedParams(**common, local_epochs=2), COHORT),
        "split": Split(SplitParams(**common, clients=CLIENTS), COHORT),
        "u-shaped": Split(SplitParams(**common, clients=CLIENTS, labels="u-shaped", wire="float16"), COHORT),
    }


# Rows 12 and batch 4: rate 1/3. A site has 6 rows: rate 2/3, two steps a pass, two passes a round.
EXPECTED = {"centralized": (3, 1 / 3), "federated": (4, 2 / 3), "split": (3, 1 / 3), "u-shaped": (3, 1 / 3)}


@pytest.mark.parametrize(
    ("name", "unit"),
    [("centralized", "patient"), ("federated", "patient"), ("federated", "record"), ("split", "patient"), ("u-shaped", "record")],
)
def test_every_protocol_trains_and_counts_all_its_steps(name: str, unit: str) -> None:
    rounds = 4
    training = Training(protocols(rounds)[name], dp(unit=unit, conditional_claim=True), unit=unit).run()
    steps, rate = EXPECTED[name][0] * rounds, EXPECTED[name][1]
    expected = spent("rdp", noise=1.0, rate=rate, steps=steps, delta=1e-3)
    claims = {k: g.guarantee() for k, g in training.guards.items() if isinstance(g, DpSgd)}
    assert len(claims) == {"centralized": 1, "federated": 2, "split": 2, "u-shaped": 2}[name]
    for claim in claims.values():
        assert claim.epsilon == pytest.approx(expected)
        assert claim.unit == unit
        assert f"{steps} steps" in claim.mechanism
        assert claim.sampling == f"Poisson over {unit}s, rate {rate:.4g}"
        assert claim.neighbors == "add-or-remove"
    start = Training(protocols()[name], dp(unit=unit), unit=unit).prepare()
    for seat, party in training.parties.items():
        before = start.parties[seat].state()
        for key, value in party.state().items():
            assert torch.isfinite(value).all()
            assert not torch.equal(value, before[key])  # everybody learned, under names without a wrapper's prefix


def test_mixed_precision_trains_near_full_precision() -> None:
    quiet = dp(noise_multiplier=1e-6)
    full, mixed = (Training(protocols(1)["split"], quiet, precision=p).run() for p in ("float32", "mixed"))
    for key, value in mixed.parties["client-0"].state().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full.parties["client-0"].state()[key], atol=0.05, rtol=0.0)


def test_some_of_these_trainings_have_empty_batches() -> None:
    """An empty Poisson batch is a step like any other; the counts above would miss it otherwise."""
    split = Training(protocols(4)["split"], dp()).prepare()
    assert any(not batch for round_ in range(4) for batch in split.schedule.batches(round_))
    sampler = Training(protocols(4)["federated"], dp()).prepare().parties["site-0"].sampler
    assert any(not batch for _ in range(8) for batch in sampler.epoch())


def test_rounds_compose_instead_of_starting_anew() -> None:
    costs = {}
    for rounds in (1, 3):
        claim = Training(protocols(rounds)["federated"], dp()).run().guards["site-0"].guarantee()
        costs[rounds] = claim.epsilon
        assert costs[rounds] == spent("rdp", noise=1.0, rate=2 / 3, steps=4 * rounds, delta=1e-3)
        assert f"{4 * rounds} steps" in claim.mechanism
    accountant = RDPAccountant()
    for _ in range(3 * 4):  # three rounds of four local steps, each told to the accountant
        accountant.step(noise_multiplier=1.0, sample_rate=2 / 3)
    assert costs[3] == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-6)
    assert costs[3] > 1.5 * costs[1]


@pytest.mark.parametrize(
    ("name", "seat", "releases"),
    [
        ("centralized", "trainer", {("model", "trainer"), ("output", "model")}),
        ("federated", "site-1", {("update", "site-1"), ("model", "aggregator"), ("output", "model")}),
        ("split", "client-0", {("model", "client-0")}),
    ],
)
def test_the_claim_covers_what_the_noise_covers(name: str, seat: str, releases: set[tuple[str, str]]) -> None:
    claim = Training(protocols()[name], dp(conditional_claim=True)).run().guards[seat].guarantee()
    assert set(claim.releases) == releases
    assert not any(channel == "activation" for channel, _ in claim.releases)
    assert "Opacus" in claim.accountant
    assert any("server's" in line for line in claim.assumes) == (name == "split")


def test_split_clients_claim_nothing_unless_asked() -> None:
    training = Training(protocols()["split"], dp()).run()
    assert training.guards["client-0"].guarantee() is None


def clipped_sums(server_learns: bool, alter=None) -> list[tuple[tuple[str, ...], torch.Tensor]]:
    """Each batch and what client-0 would release of it before noise, while the clients' weights stand still."""
    training = Training(protocols()["split"], dp(), alter=alter).prepare()
    sums: list[torch.Tensor] = []
    for name, party in training.parties.items():
        optimizer = party.learner.optimizer
        inner = getattr(optimizer, "original_optimizer", optimizer)
        if name != "server" or not server_learns:
            inner.param_groups[0]["lr"] = 0.0
        if name == "client-0":
            optimizer.noise_multiplier = 0.0
            inner.register_step_pre_hook(
                lambda inner, *_: sums.append(torch.cat([p.grad.flatten() for p in inner.param_groups[0]["params"]]))
            )
    training.protocol.run(Wire(training.parties, training.secret.branch("wire")), training.schedule)
    return list(zip((b for r in range(2) for b in training.schedule.batches(r)), sums, strict=True))


def test_a_learning_server_breaks_the_condition_of_a_split_client_s_claim() -> None:
    """Why split clients claim nothing by default: the server's weights carry a patient into other patients' gradients.

    A patient of the first batch gets other images. In batches without that patient, what a client releases must stay as it
    was, given the same weights at the client. It does with a frozen server, and does not with one that learns.
    """
    token = Training(protocols()["split"], dp()).prepare().schedule.batches(0)[0][0]
    patient = int(token.removeprefix("row")) // 2

    def other_images(images: torch.Tensor, regions: torch.Tensor) -> None:
        images[2 * patient : 2 * patient + 2] = 3.0
        regions[2 * patient : 2 * patient + 2] = 1.0

    moved = {}
    for learns in (False, True):
        pairs = zip(clipped_sums(learns), clipped_sums(learns, other_images), strict=True)
        moved[learns] = [(a - b).norm().item() for (batch, a), (_, b) in pairs if batch and token not in batch]
    assert len(moved[False]) >= 2
    assert max(moved[False]) == 0.0
    assert max(moved[True]) > 1e-3


def test_target_epsilon_is_kept_at_every_seat() -> None:
    wanted = dp(noise_multiplier=None, target_epsilon=5.0, conditional_claim=True)
    full = {"network": NETWORK, "training": TrainingParams(batch_size=ROWS), "rounds": 2, "clients": CLIENTS}  # rate 1: quick
    federated = Federated(FederatedParams(**full, local_steps=3), COHORT)
    for protocol in (federated, Split(SplitParams(**full), COHORT), Centralized(CentralizedParams(**full), COHORT)):
        training = Training(protocol, wanted).run()
        claims = [g.guarantee() for g in training.guards.values() if isinstance(g, DpSgd)]
        assert all(4.9 <= claim.epsilon <= 5.0 for claim in claims), protocol


def test_the_training_does_not_depend_on_the_global_seed() -> None:
    digests = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        digests.add(Training(protocols(1)["federated"], dp()).run().digest())
    assert len(digests) == 1
    assert Training(protocols(1)["federated"], dp(), seed=8).run().digest() not in digests


def test_a_chain_with_dropout_trains_the_same_in_both_orders() -> None:
    cut = pytest.importorskip("leakaudit_cut.dropout")
    params = pytest.importorskip("leakaudit_cut.params").DropoutParams(rate=0.5)

    def chain(order: int):
        def make(seat: Seat) -> Chain:
            return Chain([cut.Dropout(params, seat), dp()(seat)][::order], seat)

        return make

    digests = [Training(protocols()["split"], chain(order)).run().digest() for order in (1, -1)]
    assert digests[0] == digests[1]
    assert digests[0] != Training(protocols()["split"], dp()).run().digest()


def test_weak_noise_and_wide_clipping_approach_plain_training() -> None:
    """With clipping and noise out of the way, only the normalization by the expected batch remains: full batches agree."""
    training = TrainingParams(batch_size=ROWS, learning_rate=1e-2, optimizer="sgd")
    protocol = Centralized(CentralizedParams(network=NETWORK, training=training, rounds=3), COHORT)
    noisy = Training(protocol, dp(noise_multiplier=1e-9, clip=1e3, unit="record"), unit="record").run()
    plain = Training(protocol, lambda seat: Chain([], seat), unit="record").run()
    for key, value in plain.parties["trainer"].state().items():
        torch.testing.assert_close(noisy.parties["trainer"].state()[key], value, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("params", "kind", "unit", "words"),
    [
        ({}, "shuffle", "patient", "shuffle of patients"),
        ({}, "poisson", "record", "poisson of records"),
        ({"delta": 0.2}, "poisson", "patient", r"1 / 6, the number of patients at 'trainer'"),
    ],
)
def test_a_setting_that_voids_the_claim_is_refused(params: dict[str, object], kind: str, unit: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Training(protocols()["centralized"], dp(**params), kind=kind, unit=unit).prepare()


def test_two_times_dp_sgd_is_refused() -> None:
    with pytest.raises(UserError, match="first defense of its chain"):
        Training(protocols()["centralized"], lambda seat: Chain([dp()(seat), dp()(seat)], seat)).prepare()


def test_batch_normalization_is_not_applicable_and_refused_at_the_layer() -> None:
    params = CentralizedParams(network=NetworkParams(channels=[4, 8], normalization="batch"))
    answer = DpSgdParams(noise_multiplier=1.0).needs(params.facts(COHORT))
    assert isinstance(answer, NotApplicable)
    assert "batch normalization" in answer.reason
    with pytest.raises(UserError, match="BatchNorm2d"):
        Training(Centralized(params, COHORT), dp()).prepare()


def test_needs_follow_the_protocol() -> None:
    params = DpSgdParams(target_epsilon=3.0, unit="record")
    common = {"sampling": "poisson", "unit": "record", "per_sample_loss": True}
    assert params.needs(SplitParams().facts(COHORT)) == Needs(seats=("client",), channels=("model",), **common)
    assert params.needs(FederatedParams().facts(COHORT)) == Needs(seats=("site",), channels=("update", "model"), **common)
    assert params.needs(CentralizedParams().facts(COHORT)) == Needs(seats=("trainer",), channels=("model",), **common)


@pytest.mark.parametrize("bad", [{}, {"noise_multiplier": 1, "target_epsilon": 1}, {"noise_multiplier": 0}, {"sigma": 1}])
def test_impossible_params_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DpSgdParams.model_validate(bad)


def test_a_defense_that_never_trained_claims_nothing() -> None:
    assert dp()(Seat(SeatFacts(id="trainer", role="trainer"), Secret.from_seed(0))).guarantee() is None


def test_an_in_place_network_is_mended_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(2, 1, 3))
    guard = dp()(Seat(SeatFacts(id="trainer", role="trainer"), Secret.from_seed(0)))
    local = Local(
        module=module, optimizer=torch.optim.SGD(module.parameters(), lr=1.0), units=lambda: torch.arange(2), unit="patient",
        expected_units=2.0, expected_batch=2.0, rate=0.5, sampling="poisson", shape=(1, 16, 16),
    )  # fmt: skip
    with caplog.at_level("INFO"):
        guard.train(local)
    assert module[1].inplace is False
    assert "'1' works in place" in caplog.text


def test_the_plugin_describes_itself_without_torch() -> None:
    infos = {info.name: info for info in leakaudit_defenses()}
    assert list(infos) == ["dp-sgd", "site-dp"]
    assert all("DP" in info.claim and info.stochastic for info in infos.values())
    code = "import sys, leakaudit_dp.plugin as p; list(p.leakaudit_defenses()); assert not {'torch', 'opacus'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow  # a fresh process that imports torch and Opacus
def test_importing_opacus_leaves_the_root_logger_alone() -> None:
    code = "import logging, leakaudit_dp.defense; assert not logging.root.handlers"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
