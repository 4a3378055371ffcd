"""`update-statistics`: the mean tumor volume of a site's samples, read from its update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap

from leakaudit.attacks import Attack, Evidence, Values, View
from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError
from leakaudit.models import TrainingParams
from leakaudit_gradients.calibration import learn
from leakaudit_gradients.defended import defended_sites, simulation_of
from leakaudit_gradients.inverter_sketch import made_up
from leakaudit_gradients.last_layer import Moments, last_layer, shares
from leakaudit_gradients.localrun import LocalRun
from leakaudit_gradients.params import UpdateStatisticsParams
from leakaudit_gradients.updates import Sent, batch_of, by_round, together, updates_of
from leakaudit_gradients.whole_update import FEWEST, volumes

__all__ = ["UpdateStatistics"]

_AT_ONCE = 8
"""Simulated updates that are computed at once."""


class UpdateStatistics(Attack[UpdateStatisticsParams]):
    """Tumor volume from one layer: by formula after one step of plain SGD, else by a map learned on simulated updates."""

    def run(self, view: View) -> Sequence[Evidence]:
        """Return `Values`: for each update the mean over its samples of the share of brain voxels in the whole tumor.

        Raises:
            UserError: There are no auxiliary patients with masks, or the formula is asked for where it does not hold.
        """
        if view.auxiliary is None or not len(view.auxiliary) or view.threat.auxiliary == "noise":
            raise UserError("update-statistics needs auxiliary patients with masks: raise data.auxiliary, or auxiliary: same")
        found: dict[str, float] = {}
        sent = updates_of(view)
        for group in together(sent, by_seat=bool(defended_sites(view))):
            found |= dict(zip((s.target.token for s in group), self._volumes(view, group, view.auxiliary), strict=True))
        about = tuple(t.token for t in view.targets if t.kind == "message")
        values = np.array([found[token] for token in about], dtype=np.float32)
        return by_round([Values(name="update/volume", channel="update", about=about, values=values)], sent)

    def _volumes(self, view: View, group: Sequence[Sent], own: Cohort) -> list[float]:
        samples = group[0].target.size
        run = LocalRun.of(samples, batch_of(view, samples), *self.params.passes(view.facts), same_order=True)
        training = getattr(view.task, "training", None)
        plain = run.steps == 1 and getattr(training, "optimizer", None) == "sgd" and group[0].seat not in defended_sites(view)
        dice = float(getattr(training, "dice_weight", 1.0))
        if self.params.method == "closed-form" and not plain:
            raise UserError(
                "method: closed-form holds for one local step of plain SGD without a defense; calibrated holds everywhere"
            )
        if self.params.method == "closed-form" or (self.params.method == "auto" and plain and dice == 0):
            assert training is not None
            return _by_formula(view, group, own, training, dice)
        if getattr(training, "optimizer", None) == "adam" and len(set(own.patients)) >= FEWEST:
            sites = made_up(
                [s.patient for s in own.samples], samples, self._repeats(own, samples), self.seat.rng("simulated updates")
            )
            return volumes(view, group, own, run, sites, _volume(own), self.seat.rng("projection"))
        return self._calibrated(view, group, own, run)

    def _repeats(self, own: Cohort, samples: int) -> int:
        """Return simulated updates that begin with each auxiliary sample: alone in a site it is the same every time."""
        return 1 if samples == 1 else -(-self.params.simulations // len(own))

    def _calibrated(self, view: View, group: Sequence[Sent], own: Cohort, run: LocalRun) -> list[float]:
        """Learn the map on local runs of auxiliary patients, in random order, and apply it."""
        images = torch.from_numpy(own.images.copy()).float().to(view.device)
        masks, volume = torch.from_numpy(regions(own.labels)).to(view.device), _volume(own)
        generator = self.seat.rng("simulated updates")
        drawn = torch.stack([_draw(len(own), run.samples, generator) for _ in range(self.params.simulations)])
        simulate, mapped = simulation_of(view, group[0], run, images[drawn[0]], masks[drawn[0]])
        names = [n for n in last_layer(view.task.build()) if n in group[0].update]
        features: list[Tensor] = []
        with torch.no_grad():
            for some in drawn.split(_AT_ONCE if mapped else 1):
                sent = vmap(simulate)(images[some], masks[some]) if mapped else simulate(images[some[0]], masks[some[0]])
                features.append(torch.cat([sent[n].reshape(len(some), -1) for n in names], dim=1))
        fitted = learn(torch.cat(features).double().cpu().numpy(), volume[drawn.cpu().numpy()].mean(axis=1))
        observed = torch.stack([torch.cat([s.update[n].flatten() for n in names]) for s in group])
        return [float(v) for v in fitted(observed.double().cpu().numpy())]


def _by_formula(view: View, group: Sequence[Sent], own: Cohort, training: TrainingParams, dice: float) -> list[float]:
    network = view.task.build().eval()
    _, bias = last_layer(network)
    masks = regions(own.labels)
    expected = np.median(masks.mean(axis=tuple(range(2, masks.ndim))), axis=0)
    with torch.no_grad():
        images = torch.from_numpy(own.images.copy()).float().to(view.device)
        logits = torch.cat([functional_call(network, dict(group[0].model), (part,)) for part in images.split(_AT_ONCE)])
    moments = Moments.of(logits.cpu())
    inside = float(own.brain.mean())
    rate, decay = training.learning_rate, training.weight_decay
    gradients = [-s.update[bias] / rate - decay * s.model[bias] for s in group]
    return [max(shares(gradient, moments, dice, list(expected))[0], 0.0) / inside for gradient in gradients]


def _volume(cohort: Cohort) -> NDArray[np.float64]:
    axes = tuple(range(1, cohort.labels.ndim))
    return np.asarray((cohort.labels > 0).sum(axis=axes) / np.maximum(cohort.brain.sum(axis=axes), 1), dtype=np.float64)


def _draw(own: int, samples: int, generator: torch.Generator) -> Tensor:
    """Return rows of auxiliary samples for one simulated site; some twice where the site has more than there are."""
    orders = [torch.randperm(own, generator=generator, device=generator.device) for _ in range(-(-samples // own))]
    return torch.cat(orders)[:samples]
