"""Speed as ratios to a plain PyTorch loop of the same arithmetic, measured in one run (`make bench`).

Seconds are of this machine and moment; ratios are what to compare. Everything runs on one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.defenses import Chain
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task, optimizer_for
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.split import Split
from leakaudit.wire import Seat, Secret, Wire

MODALITIES = ("flair", "t1", "t1ce", "t2")
NETWORK, TRAINING = NetworkParams(channels=[8, 16, 32]), TrainingParams(batch_size=8)
ROWS, SIDE = 64, 64


def timed(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median processor seconds of a few runs, after one to warm up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def plain_loop() -> Callable[[], None]:
    """Return one pass of ordinary training of the whole network."""
    protocol = Split(SplitParams(network=NETWORK, training=TRAINING, rounds=1), facts())
    task = load_task(protocol.task())
    network = task.build()
    optimizer = optimizer_for(TRAINING, list(network.parameters()))
    x, y = data()

    def work() -> None:
        for i in range(0, ROWS, TRAINING.batch_size):
            optimizer.zero_grad()
            task.loss(network(x[i : i + 8]), y[i : i + 8]).mean().backward()
            optimizer.step()

    return work


def split_pass(defense: object | None = None, sampling: Sampling | None = None) -> Callable[[], None]:
    """Return one pass of split learning through the wire."""
    protocol = Split(SplitParams(network=NETWORK, training=TRAINING, rounds=1), facts())
    task, secret, sampling = load_task(protocol.task()), Secret.from_seed(1), sampling or Sampling()
    x, y = data()
    tokens, units = tuple(f"{i:04d}" for i in range(ROWS)), torch.arange(ROWS)
    parties = {}
    for seat_facts in protocol.facts.seats:
        index = [MODALITIES.index(m) for m in seat_facts.modalities]
        seat = Seat(seat_facts, secret.branch(seat_facts.id), shared=secret.branch("shared"))
        holds = Holdings(
            tokens=tokens, units=units, images=x[:, index] if index else None, regions=y if seat_facts.labels else None,
            sampling=sampling,
        )  # fmt: skip
        links = [defense(seat)] if callable(defense) and seat_facts.role == "client" else []
        parties[seat_facts.id] = protocol.party(seat, task, Chain(links, seat), holds)

    def work() -> None:
        protocol.run(Wire(parties, secret), Schedule(tokens, units.tolist(), 1, 8, sampling, secret))

    return work


def facts() -> CohortFacts:
    return CohortFacts(modalities=MODALITIES, shape=(SIDE, SIDE), members=ROWS, auxiliary=0, sites=("site-0",), records=ROWS)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 4, SIDE, SIDE, generator=generator)
    return x, (torch.rand(ROWS, 3, SIDE, SIDE, generator=generator) > 0.8).float()


def dp_sgd(seat: Seat) -> object:
    from leakaudit_dp.defense import DpSgd
    from leakaudit_dp.params import DpSgdParams

    return DpSgd(DpSgdParams(noise_multiplier=1.0), seat)


def phantom() -> None:
    dataset = Phantom(PhantomParams(patients=50, visits=1), 0)
    dataset.load([e.patient for e in dataset.inventory().patients])


def page(pairings: int) -> Callable[[], str]:
    """Return the rendering of a report with so many pairings, as the tests of the report room build it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
    from factory import make_report

    from leakaudit.report import render_html

    report = make_report(pairings)
    return lambda: render_html(report)


def main() -> None:
    torch.set_num_threads(1)
    plain = timed(plain_loop())
    rows = [("plain loop, one pass of 64 slices", plain, 1.0)]
    for name, work in (
        ("split learning through the wire", split_pass()),
        ("split learning, DP-SGD at four clients", split_pass(dp_sgd, Sampling(kind="poisson", unit="patient"))),
    ):
        seconds = timed(work)
        rows.append((name, seconds, seconds / plain))
    seconds = timed(phantom, 3)
    rows.append(("phantom, 50 patients, 64x64", seconds, seconds / plain))
    seconds = timed(page(1000), 3)
    rows.append(("page of a report with 1,000 pairings", seconds, seconds / plain))
    print(f"{'what':<42} {'cpu s':>8} {'ratio':>7}")
    for name, spent, ratio in rows:
        print(f"{name:<42} {spent:>8.3f} {ratio:>7.2f}")


if __name__ == "__main__":
    main()
