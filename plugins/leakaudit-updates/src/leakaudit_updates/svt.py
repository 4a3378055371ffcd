"""The sparse vector technique as a defense: it selects and releases entries of a site's update, and keeps the ledger."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from leakaudit.defenses import Guarantee
from leakaudit.threats import Channel
from leakaudit.wire import Message
from leakaudit_updates.accounting import ACCOUNTANT, Plan, claimed, cost, plan
from leakaudit_updates.params_svt import SvtParams
from leakaudit_updates.sparse_vector import release, select
from leakaudit_updates.update import UpdateDefense, flat, is_statistic

__all__ = ["Svt"]

_ASSUMES = (
    "the site's weight in the average, its local steps and the rounds in which it is asked are public",
    "integer tensors (batch counters) are sent as they are and tell of nothing but the number of steps",
    "the random numbers are unpredictable (a pseudo-random generator in floating point, not a cryptographic one)",
    "settings were not tuned on this site's patients, or their tuning is counted elsewhere",
)


class Svt(UpdateDefense[SvtParams]):
    """Releases a share of an update's entries, chosen by a noisy comparison and noised (Li et al. 2019, arXiv 1910.00962).

    One defense lives as long as its seat, so the ledger runs over all rounds and is never restarted.
    """

    _rounds = 0
    _spent = 0.0
    _plan: Plan | None = None
    _bare: frozenset[str] = frozenset()

    def outgoing(self, message: Message) -> Message:
        """Return the update with the chosen entries noised and the others 0; note what leaves as it is."""
        if message.channel == "update":
            self._bare |= {k for k, t in message.tensors.items() if t.is_floating_point() and self._passes(k, t)}
        return super().outgoing(message)

    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what is released of the update, and enter it in the ledger."""
        mine = {name: t for name, t in update.items() if not self._passes(name, t) and t.numel()}
        if not mine:
            return update
        values = flat(mine.values())
        self._plan = plan(self.params, len(values))
        self._enter(self._plan)
        parts = self._release(values, self._plan).split([t.numel() for t in mine.values()])
        return update | {k: self._passing(part, t) for (k, t), part in zip(mine.items(), parts, strict=True)}

    def guarantee(self) -> Guarantee | None:
        """Return the claim for all rounds so far; None where no epsilon holds."""
        if self._plan is None or not math.isfinite(self._spent) or self._bare:
            return None
        releases: tuple[tuple[Channel, str], ...] = (("update", self.seat.id),)
        if self.seat.role == "site":
            # What others compute from updates alone is covered with them.
            releases += (("model", "aggregator"), ("output", "model"))
        done = self._plan
        return Guarantee(
            mechanism=f"sparse vector technique ({self.params.variant}): {done.released} of {done.entries} entries of an update, "
            f"each clipped to {done.gamma:g}, epsilon {cost(done).epsilon:.6g} a round, {self._rounds} rounds",
            unit="site",
            neighbors="replace",
            releases=releases,
            epsilon=self._spent,
            delta=0.0,
            accountant=ACCOUNTANT,
            conversion="none: delta is 0, and the epsilons of all rounds are added",
            sampling="none: a site's whole update is protected, however it drew its batches",
            assumes=_ASSUMES,
        )

    def _passes(self, name: str, tensor: Tensor) -> bool:
        """Return whether a tensor leaves as it is: the published variants overlook those without dimensions."""
        return (is_statistic(name) and self.params.buffers == "send") or (self.params.variant != "correct" and tensor.dim() == 0)

    def _enter(self, done: Plan) -> None:
        self._rounds += 1
        self._spent += cost(done).epsilon
        if self._rounds == 1:
            self.seat.log.info(
                "svt (%s): a round costs epsilon %.6g; its publishers state %.6g",
                self.params.variant, cost(done).epsilon, claimed(self.params, done.entries),
            )  # fmt: skip

    def _release(self, values: Tensor, done: Plan) -> Tensor:
        seed = int(torch.randint(2**62, (1,), generator=self.seat.rng("svt"), device=self.seat.device))
        rng = np.random.default_rng(seed)
        # A value that is no number would be released as such, whatever the noise.
        rows = values.nan_to_num(0.0).double().cpu().numpy()[None]
        sent = release(rows, select(rows, done, rng), done, rng)
        return torch.from_numpy(sent[0]).to(values)

    def _passing(self, sent: Tensor, tensor: Tensor) -> Tensor:
        """Return what is sent in the shape of `tensor`, with the gradient of the clipped entries that are sent."""
        assert self._plan is not None
        sent = sent.reshape(tensor.shape).to(tensor.dtype)
        clipped = tensor.nan_to_num(0.0).clamp(-self._plan.gamma, self._plan.gamma)
        # Adds zeros to what is sent, and its derivative to what an adaptive attacker differentiates.
        return sent + torch.where(sent != 0, clipped - clipped.detach(), torch.zeros_like(clipped))
