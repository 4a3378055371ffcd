"""`gradient-matching`: images and masks whose simulated local run gives the update that a site sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import Attack, Evidence, Images, Masks, View
from leakaudit.cohorts import regions
from leakaudit.errors import UserError
from leakaudit.models import Tensors
from leakaudit.wire import Seat
from leakaudit_gradients.batchstats import statistics_of
from leakaudit_gradients.defended import defended_sites, simulation_of
from leakaudit_gradients.firststep import gradient_behind, gradient_simulation
from leakaudit_gradients.localrun import LocalRun
from leakaudit_gradients.matching import Goal, Guess, match
from leakaudit_gradients.method import Method
from leakaudit_gradients.network import choice_for
from leakaudit_gradients.params import GradientMatchingParams
from leakaudit_gradients.priors import Prior
from leakaudit_gradients.starts import Known, starts
from leakaudit_gradients.updates import Sent, batch_of, by_round, together, updates_of

__all__ = ["GradientMatching"]


_STEADY = 0.05
"""Adam's learning rate where a randomized defense keeps L-BFGS away."""


class GradientMatching(Attack[GradientMatchingParams]):
    """Gradient inversion of whole updates, all sites with equally many samples in one batch.

    For every update it returns as many images as the site has samples, and masks where it is not told them, in no order.
    """

    def __init__(self, params: GradientMatchingParams, seat: Seat) -> None:
        super().__init__(params, seat)
        self._learned: tuple[Known, Method, Mapping[str, Prior]] | None = None

    def fit(self, view: View) -> None:
        """Choose how to search, and learn priors of images from the auxiliary patients.

        Raises:
            UserError: The view holds no auxiliary images, which say at least how large an image is.
        """
        if view.auxiliary is None or not len(view.auxiliary):
            raise UserError("gradient-matching needs the size of an image, and the adversary owns none: raise data.auxiliary")
        known = Known.of(view.auxiliary, noise=view.threat.auxiliary == "noise", device=view.device)
        method = self._method(view)
        self._learned = known, method, known.priors(method, self.seat.rng("autoencoder"))

    def run(self, view: View) -> Sequence[Evidence]:
        """Return `Images`, and `Masks` unless these are known, about every update of the view, those of each round by themselves.

        Both are unordered.
        """
        if self._learned is None:
            self.fit(view)
        assert self._learned is not None
        known, method, priors = self._learned
        sent = updates_of(view)
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for group in together(sent, by_seat=bool(defended_sites(view))):
            guess = self._match(view, group, known, method, priors)
            found |= {s.target.token: (guess.images[i], guess.masks[i]) for i, s in enumerate(group)}
        return by_round(_evidence(view, found, masks=self.params.masks == "unknown"), sent)

    def _method(self, view: View) -> Method:
        method = self._chosen(view)
        sites = {view.facts.seat(seat).role for seat in defended_sites(view)}
        if method.optimizer == "lbfgs" and any(d.stochastic and sites & set(d.seats) for d in view.defenses):
            self.seat.log.info("the defense of the sites draws at random, which no line search survives: Adam takes its place")
            return replace(method, optimizer="adam", decay="cosine", learning_rate=self.params.learning_rate or _STEADY)
        return method

    def _chosen(self, view: View) -> Method:
        with torch.random.fork_rng(devices=[]):
            network = view.task.build()
        if self.params.preset != "auto":
            return self.params.method(self.params.preset)
        choice = choice_for(network)
        self.seat.log.log(
            logging.INFO if choice.hopeful else logging.WARNING, "auto takes %s: %s", choice.preset, choice.reason
        )  # fmt: skip
        return self.params.method(choice.preset, choice.longer)

    def _match(self, view: View, group: Sequence[Sent], known: Known, method: Method, priors: Mapping[str, Prior]) -> Guess:
        samples = group[0].target.size
        run = LocalRun.of(samples, batch_of(view, samples), *self.params.passes(view.facts))
        goal = replace(self._goal(view, group, known, run), priors=priors)
        if self.params.masks == "known":
            goal = replace(goal, masks=self._masks(view, group, run))
        if method.statistics:
            goal = replace(goal, statistics=self._statistics(view, group, run))
        generator = self.seat.rng("starts")
        return match(goal, method, starts(known, method, len(group), samples, self.params.restarts, generator))

    def _masks(self, view: View, group: Sequence[Sent], run: LocalRun) -> Tensor:
        """Return the true masks (targets, samples, regions, *spatial) of a group.

        Raises:
            UserError: It is not known which goes where.
        """
        if run.pass_steps > 1:
            raise UserError(
                f"masks: known does not help here: a pass of {', '.join(s.seat for s in group)} is {run.pass_steps} batches, and "
                "which sample is in which is not known. Take masks: unknown, which searches for them"
            )
        masks = np.stack([regions(view.labels[s.target.token]) for s in group])
        return torch.from_numpy(masks).to(view.device)

    def _statistics(self, view: View, group: Sequence[Sent], run: LocalRun) -> tuple[Tensors, Callable[[Tensor], Tensors]] | None:
        """Return the batch statistics behind the updates of a group, and how they are simulated; None where they are not known."""
        first = group[0]
        if not first.statistics:
            return None
        if run.steps > 1 or first.seat in defended_sites(view):
            self.seat.log.warning(
                "the running statistics of %s say nothing of a single batch (%s): only the update itself is matched",
                ", ".join(s.seat for s in group),
                "several local steps" if run.steps > 1 else "a defense may have changed them",
            )
            return None
        seen = {name: torch.stack([s.statistics[name] for s in group]) for name in first.statistics}
        return seen, statistics_of(view.task, first.model)

    def _goal(self, view: View, group: Sequence[Sent], known: Known, run: LocalRun) -> Goal:
        first = group[0]
        names = [name for name in first.update if self.params.tensors is None or name.startswith(self.params.tensors)]
        if not names:
            raise UserError(f"no parameter begins with {', '.join(self.params.tensors or ())}; there are {', '.join(first.update)}")
        updates = {name: torch.stack([s.update[name] for s in group]) for name in names}
        goal = Goal(updates=updates, simulate=_nothing, run=run, bounds=known.bounds, at_once=self.params.targets)
        training = getattr(view.task, "training", None)
        if run.steps == 1 and getattr(training, "optimizer", None) == "adam" and first.seat not in defended_sites(view):
            assert training is not None
            pairs = {name: gradient_behind(updates[name], first.model[name], training.learning_rate) for name in names}
            gradients, weights = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
            return replace(goal, updates=gradients, weights=weights, simulate=gradient_simulation(view.task, first.model))
        like = torch.zeros(run.variables, *known.shape, device=view.device)
        masks = torch.zeros(run.variables, known.regions, *known.shape[1:], device=view.device)
        simulate, mapped = simulation_of(view, first, run, like, masks)
        return replace(goal, simulate=simulate, mapped=mapped)


def _nothing(_images: Tensor, _masks: Tensor) -> dict[str, Tensor]:
    return {}


def _evidence(view: View, found: Mapping[str, tuple[Tensor, Tensor]], *, masks: bool) -> list[Evidence]:
    targets = [target for target in view.targets if target.kind == "message"]
    about = tuple(target.token for target in targets for _ in range(target.size))
    arrays = [np.concatenate([found[t.token][i].cpu().numpy().astype(np.float32) for t in targets]) for i in (0, 1)]
    images = Images(
        name="update/images", channel="update", about=about, images=arrays[0], modalities=view.modalities, ordered=False
    )  # fmt: skip
    if not masks:
        return [images]
    return [images, Masks(name="update/masks", channel="update", about=about, masks=arrays[1], ordered=False)]
