"""Tumor volume from the whole update, where sites use Adam.

A step of Adam is nearly the sign of the gradient. In the last layer, whose gradients are large, it is nothing else: the sign hardly
ever changes from patient to patient, and epsilon leaves no trace. In earlier layers more entries change their sign with the mask,
and gradients are small enough to be read off epsilon.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.cohorts import Cohort
from leakaudit.models import Tensors
from leakaudit_gradients.defended import defended_sites
from leakaudit_gradients.firststep import gradient_behind
from leakaudit_gradients.inverter import simulated
from leakaudit_gradients.inverter_map import fit
from leakaudit_gradients.inverter_sketch import MadeUp, Sketch
from leakaudit_gradients.localrun import LocalRun
from leakaudit_gradients.updates import Sent

__all__ = ["FEWEST", "volumes"]

FEWEST = 3
"""Auxiliary patients below which leaving one out says nothing."""
_WIDTH = 2048
_LEAST = 1e-3
"""Share of the brain below which volumes count as equal: the map is learned in the logarithm."""


def volumes(
    view: View, group: Sequence[Sent], own: Cohort, run: LocalRun, sites: MadeUp, volume: NDArray[np.float64],
    generator: torch.Generator,
) -> list[float]:  # fmt: skip
    """Return the mean volume behind each update by a ridge regression, in the logarithm, on sketches of simulated updates.

    The ridge is the one that predicts best patients left out. No prediction is beyond what auxiliary patients show.

    Args:
        view: Of the adversary.
        group: Updates that started from one model.
        own: Auxiliary patients; at least `FEWEST`.
        run: The local run behind each update.
        sites: Made-up sites to learn from.
        volume: Of each auxiliary sample, as a share of the brain.
        generator: Of the sketch.
    """
    sketch, model = Sketch(group[0].update, _WIDTH, generator), group[0].model
    single = run.steps == 1 and group[0].seat not in defended_sites(view)
    rate = float(view.task.training.learning_rate) if single else 0.0  # type: ignore[attr-defined]

    def features_of(updates: Tensors) -> Tensor:
        return sketch(_gradients(updates, model, rate) if single else updates)

    truth = volume[sites.rows.numpy()].mean(axis=1)
    features = simulated(view, group[0], run, own, sites, features_of)
    learned = fit(features, np.log(np.maximum(truth, _LEAST))[:, None], sites.folds)
    observed = features_of({name: torch.stack([s.update[name] for s in group]) for name in group[0].update})
    found = np.exp(learned(observed.double().cpu().numpy())[:, 0])
    return [float(v) for v in np.clip(found, truth.min(), truth.max())]


def _gradients(updates: Tensors, model: Tensors, rate: float) -> dict[str, Tensor]:
    """Return the gradients behind one step of Adam, 0 where nothing of them is known.

    Simulated updates are rounded as sent ones are: what rounding hides of a victim must not be learned from.
    """
    sent = {name: (model[name] + update) - model[name] for name, update in updates.items()}
    return {name: gradient_behind(update, model[name], rate)[0] for name, update in sent.items()}
