"""A rehearsal on the adversary's own patients: what would be sent back for them, and which method reads it best."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.cohorts import Cohort, regions
from leakaudit_inversion.mask_messages import Arrival
from leakaudit_inversion.mask_readers import reader_of
from leakaudit_inversion.params_masks import MaskInversionParams, Method
from leakaudit_inversion.span import span_of
from leakaudit_inversion.stance import Stage

__all__ = ["rehearsed"]

_MOST = 8
"""Own samples in a rehearsal: they make one batch."""
_METHODS: tuple[Method, ...] = ("closed-form", "direction", "norm")


def rehearsed(params: MaskInversionParams, view: View, stage: Stage) -> Method:
    """Return the method with the best Dice on the adversary's own patients; the first of equals, and without any patients.

    Args:
        params: Parameters of the attack.
        view: A view that grants the weights of all parties.
        stage: The stage whose weights are taken, those after its last round.
    """
    own = None if view.auxiliary is None else _with_tumor(view.auxiliary)
    if own is None or not len(own):
        return _METHODS[0]
    masks = torch.from_numpy(regions(np.asarray(own.labels))).to(view.device)
    arrival = _returned(view, max(stage.rounds), own, masks)
    scores = [_dice(reader_of(method, params.hints, view, stage).read(arrival), masks) for method in _METHODS]
    return _METHODS[int(np.argmax(scores))]


def _with_tumor(cohort: Cohort) -> Cohort:
    rows = np.flatnonzero(np.asarray(cohort.labels).reshape(len(cohort), -1).any(axis=1))
    return cohort.take(rows[:_MOST])


def _returned(view: View, round_: int, own: Cohort, masks: Tensor) -> Arrival:
    """Return what the label holder would send back for a batch of own patients, computed by replicas of all parties."""
    facts = view.facts
    levels: dict[str, Tensor] = {}
    with torch.no_grad():
        for client in facts.seats_of("client"):
            x = torch.from_numpy(np.array(own.channels(client.modalities).images, dtype=np.float32)).to(view.device)
            sent = span_of(view, client.id, round_).send(x)
            levels |= {f"{client.id}.{name}": t for name, t in sent.items()}
        decoded = span_of(view, facts.seats_of("server")[0].id, round_).replica.send(**levels)["features"]
    features = decoded.float().requires_grad_()
    logits = span_of(view, facts.seats_of("label-holder")[0].id, round_).replica.send(features=features)["logits"]
    (gradient,) = torch.autograd.grad(view.task.loss(logits.float(), masks).mean(), features)
    return Arrival(
        tokens=tuple(map(str, range(len(own)))), level="features", gradient=gradient, features=features.detach(), round=round_,
        place=1.0, last=(True,) * len(own),
    )  # fmt: skip


def _dice(found: Tensor, truth: Tensor) -> float:
    """Return the mean Dice over the regions that samples have."""
    a, b = found.flatten(2).double(), truth.flatten(2).double()
    scores = 2 * (a * b).sum(-1) / (a.sum(-1) + b.sum(-1)).clamp_min(1)
    return float(scores[b.any(dim=-1)].mean())
