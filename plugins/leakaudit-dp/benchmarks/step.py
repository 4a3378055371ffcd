"""A step of DP-SGD beside a plain step of the same network, by the unit that is protected.

`python benchmarks/step.py`; one thread. Milliseconds are of this machine and moment, ratios are what to compare.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from leakaudit_dp.defense import DpSgd
from leakaudit_dp.params import DpSgdParams

from leakaudit.defenses import Chain, Defense
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.protocols import Holdings, Learner, Sampling
from leakaudit.protocols.centralized import Centralized
from leakaudit.protocols.params import CentralizedParams
from leakaudit.wire import Seat, Secret

SIDE, BATCH, STEPS = 64, 8, 3
MODALITIES = ("flair", "t1", "t1ce", "t2")
COHORT = CohortFacts(modalities=MODALITIES, shape=(SIDE, SIDE), members=BATCH, auxiliary=0, sites=("site-0",), records=BATCH)


def steps(make: Callable[[Seat], Defense[Any]], unit: str) -> tuple[Callable[[], None], int]:
    """Return some steps of the default network under a defense, two rows a patient, and the network's number of weights."""
    protocol = Centralized(CentralizedParams(), COHORT)
    secret = Secret.from_seed(0)
    seat = Seat(SeatFacts(id="trainer", role="trainer", modalities=MODALITIES, labels=True), secret, shared=secret.branch("shared"))
    task = load_task(protocol.task())
    images, regions = torch.randn(BATCH, 4, SIDE, SIDE), (torch.rand(BATCH, 3, SIDE, SIDE) > 0.7).float()
    patients = torch.arange(BATCH) // 2
    holds = Holdings(
        tokens=tuple(map(str, range(BATCH))), units=patients, images=images, regions=regions,
        sampling=Sampling(kind="poisson", unit=unit),  # type: ignore[arg-type]
    )  # fmt: skip
    learner = Learner(
        task.build(), seat, make(seat), protocol.params.training, expected_units=float(BATCH if unit == "record" else BATCH // 2),
        expected_batch=float(BATCH), rate=0.1, unit=unit, holds=holds, steps=100,  # type: ignore[arg-type]
    )  # fmt: skip

    def work() -> None:
        for _ in range(STEPS):
            learner.fit(lambda net: task.loss(net(images), regions).mean(), patients)

    return work, sum(p.numel() for p in learner.module.parameters())


def milliseconds(work: Callable[[], None]) -> float:
    """Return the least processor time of a step, of five runs after one to warm up."""
    work()
    found = []
    for _ in range(5):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1000 * min(found) / STEPS


def main() -> None:
    """Print the table."""
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    work, weights = steps(lambda seat: Chain([], seat), "record")
    plain = milliseconds(work)
    print(f"default network, {weights} weights, batch {BATCH}, {SIDE} x {SIDE}, {len(MODALITIES)} modalities")
    print(f"{'step':<20} {'ms':>8} {'ratio':>7}")
    print(f"{'plain':<20} {plain:>8.1f} {1.0:>7.2f}")
    for unit in ("record", "patient"):
        work, _ = steps(lambda seat, unit=unit: DpSgd(DpSgdParams(noise_multiplier=1.0, unit=unit, delta=1e-3), seat), unit)  # type: ignore[misc]
        noised = milliseconds(work)
        print(f"{f'dp-sgd, {unit}':<20} {noised:>8.1f} {noised / plain:>7.2f}")


if __name__ == "__main__":
    sys.exit(main())
