"""`imprint` on the default federated protocol: what comes back of real slices, with an interval over patients.

    python plugins/leakaudit-gradients/benchmarks/imprint_real.py --data msd-brain=FOLDER --data nifti-folder=FOLDER

Five patients cannot be split for an audit, so the attack's own parts are put together here: every patient is a site with several
slices, the aggregator owns the slices of all others, alters the task, and reads the site's update. Network, optimizer, batch and
local passes are the protocol's defaults. Without `--data`: phantoms, several of them as the samples of one site. One thread.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from landscape_data import READERS, phantoms, real
from leakaudit_gradients.firststep import gradient_behind
from leakaudit_gradients.imprint import Plausible, invert
from leakaudit_gradients.imprint_attack import ImprintAttack
from leakaudit_gradients.imprint_params import ImprintParams
from leakaudit_gradients.imprint_task import ImprintTask
from leakaudit_gradients.localrun import LocalRun
from numpy.typing import NDArray
from torch import Tensor, nn

from leakaudit.attacks import Setup
from leakaudit.cohorts import Cohort, regions
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import TaskSpec, load_task, optimizer_for
from leakaudit.protocols.params import FederatedParams
from leakaudit.scoring.assignment import matching
from leakaudit.scoring.chance import image_baselines
from leakaudit.scoring.images import masked_ssim
from leakaudit.scoring.intervals import leakage_interval
from leakaudit.scoring.leakage import leakage
from leakaudit.wire import Seat, Secret

__all__ = ["Rows", "attacked", "main", "summary"]

Floats = NDArray[np.float64]

_LAYER = ("imprint.linear.weight", "imprint.linear.bias")
_SLACK = {"one step": 0.01, "several": 0.5}
"""Slack of bins, in spreads of the query, as `imprint` takes it by default."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """SSIM inside the brain, one entry for each slice: of what was found, of chance, and of what was found at the next site."""

    patients: tuple[str, ...]
    found: Floats
    exchanged: Floats
    baselines: dict[str, Floats]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for every initialization and one for all."""
    args = _asked(arguments)
    torch.set_num_threads(1)
    cohort, ranges, sites = _scene(args)
    params = ImprintParams(bins=args.bins)
    every = [attacked(cohort, ranges, sites, args.epochs, seed, params) for seed in range(args.seeds)]
    for seed, rows in enumerate(every):
        print(f"seed {seed}: {summary([rows])}")
    print(f"all: {summary(every)}")
    return 0


def attacked(
    cohort: Cohort, ranges: Floats, sites: Sequence[Sequence[int]], epochs: int, seed: int, params: ImprintParams
) -> Rows:  # fmt: skip
    """Attack every site in turn and score what was found.

    Args:
        cohort: All patients.
        ranges: (modalities,), data range of each.
        sites: Rows of the samples of each attacked site.
        epochs: Local passes.
        seed: Of the network's weights, the attack and the order of samples.
        params: Of the attack.
    """
    guesses, baselines = [], []
    for number, rows in enumerate(sites):
        here = {cohort.samples[i].patient for i in rows}
        own = cohort.of_patients([p for p in cohort.patients if p not in here])
        guesses.append(_stolen(cohort.take(rows), own, epochs, seed * len(sites) + number, params))
        baselines.append(image_baselines(own.images, own.brain, [0] * len(own), [0] * len(rows)))
    tables = [_table(guess, cohort.take(rows), ranges) for guess, rows in zip(guesses, sites, strict=True)]
    turned = [_table(guesses[(i + 1) % len(sites)], cohort.take(rows), ranges) for i, rows in enumerate(sites)]
    chance = {
        name: [
            _table(some[name].astype(np.float32), cohort.take(rows), ranges) for some, rows in zip(baselines, sites, strict=True)
        ]
        for name in baselines[0]
    }
    return Rows(
        patients=tuple(cohort.samples[i].patient for rows in sites for i in rows), found=_matched(tables),
        exchanged=_matched(turned), baselines={name: _matched(some) for name, some in chance.items()},
    )  # fmt: skip


def summary(every: Sequence[Rows]) -> str:
    """Return leakage over patients, slices averaged within one, with the interval over patients and initializations.

    Chance is the baseline that does best on the attacked patients themselves, which can only make leakage smaller.
    """
    name = max(every[0].baselines, key=lambda n: float(np.mean([rows.baselines[n] for rows in every])))
    found = [leakage(rows.found, rows.baselines[name], 1.0, rows.patients) for rows in every]
    gain, room = np.array([one.gain for one in found]), np.array([one.room for one in found])
    other = [leakage(rows.exchanged, rows.baselines[name], 1.0, rows.patients).gain for rows in every]
    here, there = leakage_interval(gain, room, seed=0), leakage_interval(np.array(other), room, seed=0)
    ssim = np.concatenate([rows.found for rows in every])
    return (
        f"{gain.shape[1]} patients, {len(ssim)} slices, SSIM {ssim.mean():.3f} (least {ssim.min():.3f}, "
        f"{int((ssim > 0.9).sum())} above .9), chance {found[0].chance:.3f} ({name}), leakage {gain.mean() / room.mean():.3f} "
        f"({here.low:.3f} to {here.high:.3f}), of exchanged updates {np.mean(other) / room.mean():.3f} "
        f"({there.low:.3f} to {there.high:.3f})"
    )


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="`imprint` on the default federated protocol.")
    parser.add_argument("--size", type=int, default=32, help="voxels along each side")
    parser.add_argument("--slices", type=int, default=5, help="slices of each real patient, or phantoms of each site")
    parser.add_argument("--sites", type=int, default=12, help="sites of phantoms")
    parser.add_argument("--own", type=int, default=90, help="auxiliary phantoms")
    parser.add_argument("--epochs", type=int, default=1, help="local passes")
    parser.add_argument("--bins", type=int, default=ImprintParams().bins, help="bins of the attack")
    parser.add_argument("--seeds", type=int, default=3, help="initializations")
    parser.add_argument(
        "--data", action="append", default=[], metavar="READER=FOLDER", help=f"real patients; readers: {', '.join(READERS)}"
    )
    return parser.parse_args(arguments)


def _scene(args: argparse.Namespace) -> tuple[Cohort, Floats, list[list[int]]]:
    """Return all patients, the range of each modality, and the rows of every attacked site."""
    if args.data:
        scene = real(args.size, dict(text.split("=", 1) for text in args.data), args.slices)
        patients = [sample.patient for sample in scene.own.samples]
        return scene.own, scene.ranges, [[i for i, p in enumerate(patients) if p == name] for name in dict.fromkeys(patients)]
    scene = phantoms(args.size, args.sites * args.slices, args.own)
    both = Cohort(
        images=np.concatenate([scene.victims.images, scene.own.images]),
        labels=np.concatenate([scene.victims.labels, scene.own.labels]),
        brain=np.concatenate([scene.victims.brain, scene.own.brain]), samples=scene.victims.samples + scene.own.samples,
        modalities=scene.own.modalities, origin=scene.own.origin,
    )  # fmt: skip
    return both, scene.ranges, [list(range(i * args.slices, (i + 1) * args.slices)) for i in range(args.sites)]


def _stolen(site: Cohort, own: Cohort, epochs: int, seed: int, params: ImprintParams) -> NDArray[np.float32]:
    """Return as many images as the site has, read from the update that it sends after one round."""
    facts = CohortFacts(
        modalities=site.modalities, shape=tuple(site.images.shape[2:]), members=len(site.patients), auxiliary=len(own.patients),
        sites=("site-0",), records=len(site),
    )  # fmt: skip
    honest = TaskSpec(target="leakaudit.models.task:SegmentationTask", params=FederatedParams().task(facts))
    attack = ImprintAttack(params, Seat(SeatFacts(id="aggregator", role="aggregator"), Secret.from_seed(seed)))
    task = cast(ImprintTask, load_task(attack.prepare(Setup(task=honest, auxiliary=own)).task))
    torch.manual_seed(seed)
    network = task.build()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    run = LocalRun.of(len(site), task.training.batch_size, epochs)
    after = _trained(task, network, site, run, epochs)
    update = {name: after[name] - before[name] for name in _LAYER}
    rate, unit = task.training.learning_rate, 1.0
    if run.steps == 1:
        update, unit = {name: gradient_behind(update[name], before[name], rate)[0] for name in _LAYER}, 1e-8 / rate
    images = torch.from_numpy(np.array(own.images))
    mean = images.double().mean(dim=0)
    weight, bias = _LAYER
    found = invert(
        (update[weight], update[bias]), (before[weight], before[bias]), task.plan.divisor, tuple(mean.shape),
        slack=_SLACK["one step" if run.steps == 1 else "several"], unit=unit,
    )  # fmt: skip
    return found.best(len(site), Plausible.of(images), mean).numpy().astype(np.float32)


def _trained(task: ImprintTask, network: nn.Module, site: Cohort, run: LocalRun, epochs: int) -> dict[str, Tensor]:
    """Return the parameters after the site's local passes, each in an order of its own."""
    x, y = torch.from_numpy(site.images.copy()), torch.from_numpy(regions(site.labels))
    network = copy.deepcopy(network).train()
    optimizer = optimizer_for(task.training, list(network.parameters()))
    for _ in range(epochs):
        for rows in torch.randperm(len(site)).split(run.batch):
            optimizer.zero_grad()
            task.loss(network(x[rows]), y[rows]).mean().backward()
            optimizer.step()
    return {name: p.detach() for name, p in network.named_parameters()}


def _table(guesses: NDArray[np.float32], truth: Cohort, ranges: Floats) -> Floats:
    """Return the SSIM of every guess against every slice, (guesses, slices), mean over modalities."""
    table = np.empty((len(guesses), len(truth)))
    for j in range(len(truth)):
        there, brain = np.broadcast_to(truth.images[j], guesses.shape), np.broadcast_to(truth.brain[j], guesses[:, 0].shape)
        each = [masked_ssim(guesses[:, m], there[:, m], brain, ranges[m]) for m in range(len(ranges))]
        table[:, j] = np.mean(each, axis=0)
    return table


def _matched(tables: Sequence[Floats]) -> Floats:
    return np.concatenate([[table[guess, j] for j, guess in enumerate(matching(table))] for table in tables])


if __name__ == "__main__":
    raise SystemExit(main())
