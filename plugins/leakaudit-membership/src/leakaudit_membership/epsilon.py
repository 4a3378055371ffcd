"""`epsilon-audit`: canaries whose presence in the training shows an epsilon from below.

The attack crafts canaries and scores them; the engine tosses the coins, and the scorer, which alone knows them, bounds epsilon
(Steinke, Nasr and Jagielski, NeurIPS 2023, arXiv 2305.08846; Mahloujifar et al. 2024, arXiv 2410.22235).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import Attack, Scores, Setup, View
from leakaudit.errors import UserError
from leakaudit.models import GradientCanary, load_task
from leakaudit.threats import Channel
from leakaudit_membership.epsilon_params import EpsilonAuditParams
from leakaudit_membership.epsilon_patients import craft, origins, score

__all__ = ["EpsilonAudit"]


class EpsilonAudit(Attack[EpsilonAuditParams]):
    """Plants canaries before training and looks for them afterward."""

    def prepare(self, setup: Setup) -> Setup:
        """Craft the canaries.

        Raises:
            UserError: The adversary owns too few patients, or the network has too few weights.
        """
        if self.params.canary == "mislabeled":
            return replace(setup, canaries=craft(setup.auxiliary, self.params.canaries))
        return replace(setup, gradients=self._gradients(setup))

    def _gradients(self, setup: Setup) -> tuple[GradientCanary, ...]:
        """Return canaries at weights of their own, drawn at random over the whole network, up and down alike."""
        sizes = [(name, p.numel()) for name, p in load_task(setup.task).build().named_parameters()]
        total, count = sum(size for _, size in sizes), self.params.canaries
        if count > total:
            raise UserError(f"epsilon-audit: {count} gradient canaries need as many weights; the network has {total}")
        draw = self.seat.rng("canaries")
        places = torch.randperm(total, generator=draw)[:count].tolist()
        signs = (2 * torch.randint(2, (count,), generator=draw) - 1).tolist()
        ends = np.cumsum([size for _, size in sizes])
        found = []
        for place, sign in zip(places, signs, strict=True):
            number = int(np.searchsorted(ends, place, side="right"))
            name, size = sizes[number]
            index = place - int(ends[number]) + size
            found.append(GradientCanary(parameter=name, index=index, value=sign * self.params.norm))
        return tuple(found)

    def run(self, view: View) -> Scores:
        """Return one score per canary; higher means that training included it.

        Raises:
            UserError: The view holds no canaries.
        """
        if view.gradients:
            return self._weights(view)
        if view.candidates is None or view.auxiliary is None:
            raise UserError("epsilon-audit looks for canaries of its own, and the view holds none")
        return self._answers(view)

    @staticmethod
    def _answers(view: View) -> Scores:
        """Score mislabeled patients by the deployed model's answers."""
        candidates, auxiliary = view.candidates, view.auxiliary
        assert candidates is not None
        assert auxiliary is not None
        logits = {m.samples[0]: m.tensors["logits"].float().numpy() for m in view.messages(channel="output") if m.samples}
        about = tuple(t.token for t in view.targets if t.kind == "candidate")
        row = {s.patient: i for i, s in enumerate(candidates.samples)}
        rows = [row[token] for token in about]
        answers = np.concatenate([logits[token] for token in about])
        true = origins(auxiliary, candidates)
        values = score(answers, np.asarray(candidates.labels)[rows], true[rows])
        return Scores(name="canaries", channel="output", about=about, scores=values.astype(np.float32))

    def _weights(self, view: View) -> Scores:
        """Score gradient canaries by how far their weights went against their gradients."""
        moved = self._updates(view) if "update" in view.threat.channels else self._training(view)
        channel: Channel = "update" if "update" in view.threat.channels else "model"
        values = [-np.sign(c.canary.value) * moved[c.token] for c in view.gradients]
        about = tuple(c.token for c in view.gradients)
        return Scores(name="canaries", channel=channel, about=about, scores=np.array(values, dtype=np.float32))

    @staticmethod
    def _updates(view: View) -> dict[str, float]:
        """Return the sum of the updates of each canary's site at its weight, less what other sites tell of it.

        What all sites learn alike is not the canary's doing: a line through the origin, over all canaries, says how much of a
        site's move the others' explains (all of it without noise, little under much). An update that was not sent, or not with
        this weight, counts as 0.
        """
        own, others = ({c.token: 0.0 for c in view.gradients} for _ in range(2))
        for message in view.messages(channel="update"):
            for c in view.gradients:
                if c.canary.parameter in message.tensors:
                    sums = own if message.sender == c.seat else others
                    sums[c.token] += _entry(message.tensors[c.canary.parameter], c.canary)
        x, y = (np.array([sums[c.token] for c in view.gradients]) for sums in (others, own))
        slope = float(x @ y / (x @ x)) if np.any(x) else 0.0
        return {c.token: float(v) for c, v in zip(view.gradients, y - slope * x, strict=True)}

    @staticmethod
    def _training(view: View) -> dict[str, float]:
        """Return by how much each canary's weight changed from the end of the first round to the last."""
        changes = {}
        for seat in {c.seat for c in view.gradients}:
            first, last = (_weights_of(view, seat, round_) for round_ in (0, -1))
            for c in view.gradients:
                if c.seat == seat:
                    changes[c.token] = _entry(last[c.canary.parameter], c.canary) - _entry(first[c.canary.parameter], c.canary)
        return changes


def _weights_of(view: View, seat: str, round_: int) -> dict[str, Tensor]:
    module = view.replica(seat, round=round_).module
    if module is None:
        raise UserError(f"epsilon-audit compares the weights of {seat!r}, and its replica has none")
    return {name: p.detach() for name, p in module.named_parameters()}


def _entry(tensor: Tensor, canary: GradientCanary) -> float:
    return float(tensor.reshape(-1)[canary.index])
