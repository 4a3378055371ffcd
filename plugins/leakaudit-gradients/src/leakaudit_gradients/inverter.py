"""`gradient-inverter`: a map from updates to images, learned on simulated updates of auxiliary patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from leakaudit.attacks import Attack, Evidence, Images, View
from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError
from leakaudit.models import Tensors
from leakaudit_gradients.defended import defended_sites, simulation_of
from leakaudit_gradients.inverter_map import DualRidge, fit
from leakaudit_gradients.inverter_params import GradientInverterParams
from leakaudit_gradients.inverter_sketch import MadeUp, Sketch, made_up
from leakaudit_gradients.localrun import LocalRun
from leakaudit_gradients.updates import Sent, batch_of, by_round, together, updates_of

__all__ = ["GradientInverter", "simulated"]

_AT_ONCE = 8
"""Simulated updates that are computed at once."""
_FEWEST = 3
"""Patients below which leaving one out says nothing."""


class GradientInverter(Attack[GradientInverterParams]):
    """A ridge regression from compressed updates to images, one for all sites that started from the same model.

    Learning to invert (Wu, Chen, Guo and Weinberger 2023, arXiv 2210.10880) with a linear map. No slope of the victim's loss is
    followed: normalization and kinked activations, which stop gradient matching, do not matter.
    """

    def run(self, view: View) -> Sequence[Evidence]:
        """Return `Images` (unordered) of each round: of every update the mean image of its samples, once for each sample.

        Raises:
            UserError: The adversary owns fewer than three patients, or only noise.
        """
        own = view.auxiliary
        if own is None or view.threat.auxiliary == "noise" or len(set(own.patients)) < _FEWEST:
            raise UserError(f"gradient-inverter learns from at least {_FEWEST} auxiliary patients with masks: raise data.auxiliary")
        found: dict[str, NDArray[np.float32]] = {}
        sent = updates_of(view)
        for group in together(sent, by_seat=bool(defended_sites(view))):
            found |= dict(zip((s.target.token for s in group), self._images(view, group, own), strict=True))
        about = tuple(t.token for t in view.targets if t.kind == "message" for _ in range(t.size))
        images = np.stack([found[token] for token in about])
        whole = Images(
            name="update/images", channel="update", about=about, images=images, modalities=view.modalities, ordered=False
        )  # fmt: skip
        return by_round([whole], sent)

    def _images(self, view: View, group: Sequence[Sent], own: Cohort) -> NDArray[np.float32]:
        samples = group[0].target.size
        run = LocalRun.of(samples, batch_of(view, samples), *self.params.passes(view.facts), same_order=True)
        sites = made_up([s.patient for s in own.samples], samples, self.params.repeats, self.seat.rng("simulated updates"))
        sketch = Sketch(group[0].update, self.params.width, self.seat.rng("projection"))
        learned = _learned(own, sites, simulated(view, group[0], run, own, sites, sketch))
        self.seat.log.info(
            "the map explains %.0f %% of the variance of auxiliary patients that it did not learn from", 100 * learned.explained
        )
        observed = sketch({name: torch.stack([s.update[name] for s in group]) for name in group[0].update})
        return _bounded(learned(_numbers(observed)), own)


def simulated(
    view: View, sent: Sent, run: LocalRun, own: Cohort, sites: MadeUp, features_of: Callable[[Tensors], Tensor]
) -> NDArray[np.float64]:
    """Return the features (n, d) of updates that made-up sites would have sent in the place of the one that sent `sent`.

    Args:
        view: Of the adversary.
        sent: One update of the site or of several that started from one model.
        run: The local run behind it.
        own: Auxiliary patients.
        sites: Which of them each made-up site has.
        features_of: Updates whose tensors are (n, *shape) -> features (n, d).
    """
    images = torch.from_numpy(own.images.copy()).float().to(view.device)
    masks, rows = torch.from_numpy(regions(own.labels)).to(view.device), sites.rows.to(view.device)
    simulate, mapped = simulation_of(view, sent, run, images[rows[0]], masks[rows[0]])
    features: list[Tensor] = []
    with torch.no_grad():
        for some in rows.split(_AT_ONCE if mapped else 1):
            if mapped:
                features.append(features_of(vmap(simulate)(images[some], masks[some])))
            else:
                alone = simulate(images[some[0]], masks[some[0]])
                features.append(features_of({name: tensor[None] for name, tensor in alone.items()}))
    return _numbers(torch.cat(features))


def _numbers(features: Tensor) -> NDArray[np.float64]:
    return features.double().cpu().numpy()


def _learned(own: Cohort, sites: MadeUp, features: NDArray[np.float64]) -> DualRidge:
    flat = own.images.reshape(len(own), -1).astype(np.float64)
    return fit(features, flat[sites.rows.numpy()].mean(axis=1), sites.folds)


def _bounded(flat: NDArray[np.float64], own: Cohort) -> NDArray[np.float32]:
    """Return images (m, modalities, *spatial), no voxel beyond what auxiliary patients show of its modality."""
    axes = (0, *range(2, own.images.ndim))
    low, high = own.images.min(axis=axes, keepdims=True), own.images.max(axis=axes, keepdims=True)
    return np.clip(flat.reshape(-1, *own.images.shape[1:]), low, high).astype(np.float32)
