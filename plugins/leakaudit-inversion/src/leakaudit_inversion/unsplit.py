"""`unsplit`: images and a clone of the client, both searched for at once, from nothing but the architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit.attacks import Attack, Evidence, View
from leakaudit.facts import SeatFacts
from leakaudit.wire import Replica
from leakaudit_inversion.answers import Answers
from leakaudit_inversion.observed import first_message, gathered
from leakaudit_inversion.params import UnsplitParams
from leakaudit_inversion.setting import at_once, attacked_clients, image_shape, seeded
from leakaudit_inversion.stance import Stage

__all__ = ["Unsplit", "alternate"]


class Unsplit(Attack[UnsplitParams]):
    """Alternating search of Erdogan, Kupcu and Cicek (WPES 2022), batched: all targets share one clone.

    The authors fit a clone to every image by itself. One clone for all targets has more to go by, and costs one clone.
    """

    def run(self, view: View) -> Sequence[Evidence]:
        """Return one `Images` per client, stage and endpoint, about every target whose rows cross the wire."""
        evidence: list[Evidence] = []
        for client in attacked_clients(self.params, view):
            for stage in self.params.stages(view.facts.rounds):
                generator = self.seat.rng(f"clones of {client.id}{stage.suffix}")
                with seeded(generator, view.device):
                    evidence += self._run(view, client, stage)
        return evidence

    def _run(self, view: View, client: SeatFacts, stage: Stage) -> list[Evidence]:
        first = first_message(view, client.id, stage)
        if first is None:
            return []
        endpoints = self.params.endpoints(tuple(first.tensors))
        answers = Answers(client, stage, tuple(endpoints))
        probe = view.replica(client.id)
        shape = (len(client.modalities), *image_shape(view, client, lambda x: probe.send(x=x), first.tensors))
        for name, levels in endpoints.items():
            for observed in gathered(view, client.id, levels, stage):
                # A group of targets that fits in memory has a clone of its own.
                x = torch.zeros(len(observed), *shape, device=view.device)
                goals = {level: observed.draws[0][level].to(view.device) for level in levels}
                answers.add(
                    name,
                    observed.tokens,
                    alternate(view.replica(client.id), goals, x, self.params, at_once(self.params.targets, shape, view.device)),
                )
        return answers.evidence(view, lambda tokens: torch.zeros(len(tokens), *shape).numpy())


def alternate(clone: Replica, goals: Mapping[str, Tensor], start: Tensor, params: UnsplitParams, most: int) -> Tensor:
    """Return the images that, with a clone fitted along the way, come nearest to what was observed.

    Images x minimize MSE(clone(x), z) + tv * mean squared difference of neighbors + l2 * mean square, the clone MSE(clone(x), z);
    both by Adam with AMSGrad. Where several levels are given their MSEs are averaged.

    Args:
        clone: A client with random weights; they are changed.
        goals: What was observed by level, each (n, channels, *spatial).
        start: (n, modalities, *spatial).
        params: Budget, rates and weights.
        most: Most images in one batch.
    """
    x = start.clone().requires_grad_()
    weights = [] if clone.module is None else [w for w in clone.module.parameters() if w.requires_grad]
    images = torch.optim.Adam([x], lr=params.input_rate, amsgrad=True)
    learner = torch.optim.Adam(weights, lr=params.clone_rate, amsgrad=True) if weights else None
    batches = _Batches(len(x), most)
    for _ in range(params.outer):
        for _ in range(params.input_steps):
            images.zero_grad()
            # A step moves every image once; the sum over batches makes each image's step independent of how many there are.
            for rows in batches.all():
                (_error(clone, goals, x, rows) + _penalty(x[rows], params)).mul(rows.stop - rows.start).backward()
            images.step()
        if learner is None:
            continue
        for _ in range(params.clone_steps):
            learner.zero_grad()
            _error(clone, goals, x.detach(), batches.next()).backward()
            learner.step()
    return x.detach()


def _error(clone: Replica, goals: Mapping[str, Tensor], x: Tensor, rows: slice) -> Tensor:
    sent = clone.send(x=x[rows])
    return torch.stack([(sent[name].float() - goal[rows]).square().mean() for name, goal in goals.items()]).mean()


def _penalty(x: Tensor, params: UnsplitParams) -> Tensor:
    variation = sum((x.diff(dim=axis).square().mean() for axis in range(2, x.ndim)), start=x.new_zeros(()))
    return params.tv * variation + params.l2 * x.square().mean()


@dataclass(slots=True)
class _Batches:
    """Batches of targets, in turn."""

    count: int
    size: int
    _at: int = 0

    def all(self) -> Iterator[slice]:
        for start in range(0, self.count, self.size):
            yield slice(start, min(start + self.size, self.count))

    def next(self) -> slice:
        start = self._at
        self._at = start + self.size if start + self.size < self.count else 0
        return slice(start, min(start + self.size, self.count))
