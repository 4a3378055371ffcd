"""Gradient matching of phantoms behind several images, several local steps, Adam, and batch normalization.

`python benchmarks/several.py --images 2 --steps 1 --seed 0` prints one row: SSIM inside the brain of every image found, matched one
to one with the site's, and that of the mean auxiliary image, which is chance. Masks are unknown. One thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from leakaudit_gradients.batchstats import statistics_of
from leakaudit_gradients.firststep import gradient_behind, gradient_simulation
from leakaudit_gradients.localrun import LocalRun, simulation
from leakaudit_gradients.matching import Goal, match
from leakaudit_gradients.method import PRESETS
from leakaudit_gradients.starts import Known, starts
from numpy.typing import NDArray
from torch import Tensor

from leakaudit.cohorts import regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.models import SegmentationTask
from leakaudit.scoring.assignment import matching
from leakaudit.scoring.images import masked_ssim

SIDE, AUXILIARY = 32, 80


@dataclass(frozen=True, kw_only=True)
class Sites:
    """Images (sites, samples, modalities, *spatial), masks, and brains of some sites, and what the adversary knows."""

    x: Tensor
    y: Tensor
    brain: NDArray[np.bool_]
    known: Known


def sites(count: int, samples: int) -> Sites:
    """Return sites with different patients; the adversary owns 80 others."""
    phantom = Phantom(PhantomParams(patients=200, size=SIDE, sites=1), seed=5)
    keys = [entry.patient for entry in phantom.inventory().patients]
    own, rest = phantom.load(keys[: count * samples]), phantom.load(keys[100 : 100 + AUXILIARY])
    return Sites(
        x=torch.from_numpy(own.images.copy()).unflatten(0, (count, samples)),
        y=torch.from_numpy(regions(own.labels)).float().unflatten(0, (count, samples)),
        brain=own.brain.reshape(count, samples, SIDE, SIDE),
        known=Known.of(rest, noise=False, device=torch.device("cpu")),
    )


def task(given: argparse.Namespace) -> SegmentationTask:
    """Return the network of the first trials (five levels, one convolution each) with what is asked for."""
    network = {
        "channels": [16, 32, 64, 64, 64], "normalization": given.normalization, "activation": given.activation, "convolutions": 1,
    }  # fmt: skip
    training = {"optimizer": given.optimizer, "learning_rate": given.rate, "momentum": given.momentum}
    return SegmentationTask(network=network, training=training, dims=2, groups=[[0, 1, 2, 3]], levels=[0, 1])


def goal(given: argparse.Namespace, made: Sites) -> Goal:
    """Return what sites send, rounded as it is on the wire, as the attack takes it."""
    built = task(given)
    params = {name: p.detach() for name, p in built.build().named_parameters()}
    run = LocalRun.of(given.images, given.images, given.steps)
    order = run.order()
    sent = [built.local(params, x, y, order) for x, y in zip(made.x, made.y, strict=True)]
    updates = {name: torch.stack([after[name] - params[name] for after in sent]) for name in params}
    found = Goal(
        updates=updates, simulate=simulation(built, params, run, made.x[0], made.y[0]), run=run, bounds=made.known.bounds
    )  # fmt: skip
    if given.optimizer == "adam" and given.steps == 1:
        pairs = {name: gradient_behind(updates[name], params[name], given.rate) for name in params}
        found = replace(
            found, updates={name: pair[0] for name, pair in pairs.items()}, weights={name: pair[1] for name, pair in pairs.items()},
            simulate=gradient_simulation(built, params),
        )  # fmt: skip
    if given.normalization == "batch":
        watched = statistics_of(built, params)
        seen = [watched(x) for x in made.x]
        found = replace(found, statistics=({name: torch.stack([s[name] for s in seen]) for name in seen[0]}, watched))
    return found


def similarity(guess: Tensor, truth: Tensor, brain: NDArray[np.bool_]) -> float:
    """Return SSIM inside the brain, mean over modalities."""
    pairs = [(g[None], t[None]) for g, t in zip(guess.double().numpy(), truth.double().numpy(), strict=True)]
    return float(np.mean([masked_ssim(g, t, brain[None], float(np.ptp(t)))[0] for g, t in pairs]))


def scores(found: Tensor, made: Sites) -> tuple[list[float], list[float]]:
    """Return the SSIM of every image found, and of the mean auxiliary image in its place."""
    values: list[float] = []
    chance: list[float] = []
    for guess, truth, brain in zip(found, made.x, made.brain, strict=True):
        table = np.array([[similarity(g, t, b) for t, b in zip(truth, brain, strict=True)] for g in guess])
        values += [float(table[i, j]) for i, j in enumerate(matching(table))]
        chance += [similarity(made.known.mean, t, b) for t, b in zip(truth, brain, strict=True)]
    return values, chance


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("images", 1), ("steps", 1), ("sites", 3), ("seed", 0), ("iterations", 100), ("restarts", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--rate", type=float, help="learning rate; default 0.1, with adam 2e-3")
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--normalization", default="none")
    parser.add_argument("--activation", default="gelu")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="smooth-unet")
    parser.add_argument("--statistics", type=float, help="weight of batch statistics; default the preset's")
    given = parser.parse_args()
    given.rate = given.rate or (2e-3 if given.optimizer == "adam" else 0.1)
    return given


def main() -> None:
    """Print one row."""
    torch.set_num_threads(1)
    given = arguments()
    torch.manual_seed(given.seed)
    made, method = sites(given.sites, given.images), replace(PRESETS[given.preset], iterations=given.iterations)
    if given.statistics is not None:
        method = replace(method, statistics=given.statistics)
    start = time.process_time()
    generator = torch.Generator().manual_seed(given.seed)
    search = starts(made.known, method, given.sites, given.images, given.restarts, generator)
    values, chance = scores(match(goal(given, made), method, search).images, made)
    spent = time.process_time() - start
    print(
        " ".join(sys.argv[1:]), f"| SSIM {np.mean(values):.3f} ({min(values):.2f} to {max(values):.2f})",
        f"| chance {np.mean(chance):.3f} | {spent:.0f} s",
    )  # fmt: skip


if __name__ == "__main__":
    main()
