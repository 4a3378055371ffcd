"""`imprint`: an aggregator hands out a network that writes the images of a batch into its own update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import Attack, Evidence, Images, Setup, View
from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError
from leakaudit.models import SegmentationTask, TaskSpec, Tensors
from leakaudit_gradients.defended import defended_sites
from leakaudit_gradients.firststep import gradient_behind
from leakaudit_gradients.imprint import Plausible, cuts, invert
from leakaudit_gradients.imprint_params import ImprintParams
from leakaudit_gradients.imprint_task import ImprintTask, Plan, pattern, query_vector
from leakaudit_gradients.localrun import LocalRun
from leakaudit_gradients.updates import Sent, batch_of, updates_of

__all__ = ["ImprintAttack"]

_WEIGHT, _BIAS = "imprint.linear.weight", "imprint.linear.bias"
_HONEST = "leakaudit.models.task:SegmentationTask"
_EPSILON = 1e-8
"""Adam's."""
_STILL, _MOVING, _NEARLY = 0.01, 10.0, 0.1
"""Slack of bins, in spreads of the query: of one step; of several, times the drift of one; where Adam's steps are added up."""
_AT_ONCE = 8


class ImprintAttack(Attack[ImprintParams]):
    """Puts an imprint module in front of the network, and reads images from what the module learned."""

    def prepare(self, setup: Setup) -> Setup:
        """Alter the task.

        Raises:
            UserError: The task is not a segmentation by the built-in network, or the query does not tell images apart.
        """
        if setup.task.target != _HONEST:
            raise UserError(f"imprint knows how to alter {_HONEST}; the task here is {setup.task.target}")
        params = cast(dict[str, Any], setup.task.params)
        plan = self._plan(SegmentationTask(**params), setup.auxiliary)
        target = f"{ImprintTask.__module__}:{ImprintTask.__qualname__}"
        imprint = {**asdict(plan), "shape": list(plan.shape), "cuts": list(plan.cuts)}
        return replace(setup, task=TaskSpec(target=target, params={**params, "imprint": imprint}))

    def _plan(self, task: SegmentationTask, own: Cohort) -> Plan:
        images = torch.from_numpy(np.array(own.images)).float()
        seed = int(torch.randint(2**40, (1,), generator=self.seat.rng("imprint")).item())
        plan = Plan(
            shape=tuple(images.shape[1:]), query=self.params.query, seed=seed, cuts=(), scale=1.0, gain=1.0, divisor=1.0
        )  # fmt: skip
        h = query_vector(plan.shape, plan.query, plan.seed)
        values = (images.flatten(1).double() @ h).numpy()
        size = float(images.double().square().mean().sqrt())
        plan = replace(plan, cuts=tuple(cuts(values, self.params.bins, self.params.fit, size * math.sqrt(len(h)))))
        slope = self._slope(task, own, images, plan) / (self.params.bins * task.training.batch_size)
        rate, spread = task.training.learning_rate, float(values.std())
        # A step moves the answers to an image x by rate * gain * slope * (|x|^2 / divisor^2 + 1).
        power = len(h) * size * size
        if task.training.optimizer == "adam":
            quiet = self.params.quiet
            return replace(plan, scale=rate * quiet * (power + 1) / (self.params.drift * spread), gain=quiet * _EPSILON / slope)
        answer = math.sqrt(rate * self.params.gain * slope * (power / (spread * spread) + 1) / self.params.drift)
        return replace(plan, scale=answer / spread, gain=self.params.gain / answer, divisor=spread)

    def _slope(self, task: SegmentationTask, own: Cohort, images: Tensor, plan: Plan) -> float:
        """Return by how much an untrained network's loss of one image typically changes with the pattern."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            network = task.build().eval()
        masks, added = torch.from_numpy(regions(np.array(own.labels))), pattern(plan.shape, plan.seed)
        slopes = []
        for x, y in zip(images.split(_AT_ONCE), masks.split(_AT_ONCE), strict=True):
            x = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(task.loss(network(x), y).sum(), x)
            slopes.append((gradient * added).flatten(1).sum(dim=1))
        return max(float(torch.cat(slopes).abs().median()), 1e-12)

    def run(self, view: View) -> Sequence[Evidence]:
        """Return `Images` (unordered) about every update of the view, the strongest first.

        With `source: model` every update of a round gets the images of all sites of that round: the average does not say whose
        they are.

        Raises:
            UserError: There are no auxiliary images, the task has no imprint module, or the next model was not recorded.
        """
        if view.auxiliary is None or not len(view.auxiliary):
            raise UserError("imprint needs images of its own to tell what an image is like: raise data.auxiliary")
        if not isinstance(view.task, ImprintTask):
            raise UserError("the task that the sites learned has no imprint module: it must be altered before training")
        own = torch.from_numpy(np.array(view.auxiliary.images)).to(view.device)
        sent, plausible, mean = updates_of(view), Plausible.of(own), own.double().mean(dim=0)
        changes = (
            self._sums(view, sent) if self.params.source == "model" else [(self._change(view, s), s.target.size) for s in sent]
        )
        images, about = [], []
        for one, (change, count) in zip(sent, changes, strict=True):
            found = invert(
                (change[_WEIGHT], change[_BIAS]), (one.model[_WEIGHT], one.model[_BIAS]), view.task.plan.divisor,
                tuple(mean.shape), slack=self._slack(view, one), unit=self._unit(view, one),
            )  # fmt: skip
            images.append(found.best(count, plausible, mean).cpu().numpy().astype(np.float32))
            about += [one.target.token] * count
        return [
            Images(
                name="update/images", channel=self.params.source, about=tuple(about), images=np.concatenate(images),
                modalities=view.modalities, ordered=False,
            )
        ]  # fmt: skip

    def _change(self, view: View, sent: Sent) -> Tensors:
        """Return a multiple of the module's gradient: the update, or what is behind a single step of Adam."""
        if _WEIGHT not in sent.update or _BIAS not in sent.update:
            raise UserError("the updates do not show how each parameter changed; source: model reads the average of all sites")
        training = cast(ImprintTask, view.task).training
        if not self._undone(view, sent):
            return sent.update
        rate, decay = training.learning_rate, training.weight_decay
        return {n: gradient_behind(sent.update[n], sent.model[n], rate)[0] - decay * sent.model[n] for n in (_WEIGHT, _BIAS)}

    def _undone(self, view: View, sent: Sent) -> bool:
        """Return whether the gradient is read off one step of Adam."""
        adam = cast(ImprintTask, view.task).training.optimizer == "adam"
        return self.params.source == "update" and adam and _steps(view, sent) == 1 and sent.seat not in defended_sites(view)

    def _unit(self, view: View, sent: Sent) -> float:
        return _EPSILON / cast(ImprintTask, view.task).training.learning_rate if self._undone(view, sent) else 1.0

    def _slack(self, view: View, sent: Sent) -> float:
        steps, adam = _steps(view, sent), cast(ImprintTask, view.task).training.optimizer == "adam"
        moving = _MOVING * self.params.drift if steps > 1 else 0.0
        return max(moving, _NEARLY if adam and (steps > 1 or self.params.source == "model") else _STILL)

    def _sums(self, view: View, sent: Sequence[Sent]) -> list[tuple[Tensors, int]]:
        """Return for every update the average change of the model in its round, and how many samples are behind it."""
        models: dict[int, Tensors] = {}
        last = view.facts.rounds
        for message in view.messages(channel="model"):
            # What is released in the end is the model after the last round.
            models.setdefault(message.round if message.receiver != "outsider" else last, message.tensors)
        sizes: dict[int, int] = {}
        for one in sent:
            sizes[one.round] = sizes.get(one.round, 0) + one.target.size
        found: list[tuple[Tensors, int]] = []
        for one in sent:
            after: Mapping[str, Tensor] | None = models.get(one.round + 1)
            if after is None:
                raise UserError(f"the model after round {one.round} is not in the view: tap it")
            change = {n: after[n].to(view.device) - one.model[n] for n in (_WEIGHT, _BIAS)}
            found.append((change, sizes[one.round]))
        return found


def _steps(view: View, sent: Sent) -> int:
    """Return the local steps behind an update."""
    epochs, steps = (view.facts.extra.get(name) for name in ("local_epochs", "local_steps"))
    size = sent.target.size
    return LocalRun.of(size, batch_of(view, size), int(epochs or 1), int(steps) if steps else None).steps
