"""Updates of which only a part is sent: by name, by magnitude in the tensor, or by magnitude overall."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from leakaudit.errors import UserError, nearest
from leakaudit.wire import Message
from leakaudit_updates.params import PercentileSharingParams, SelectiveSharingParams, UpdatePruningParams
from leakaudit_updates.update import UpdateDefense, flat, magnitude_at

__all__ = ["PercentileSharing", "SelectiveSharing", "UpdatePruning"]


def _above(tensor: Tensor, cutoff: Tensor) -> Tensor:
    return torch.where(tensor.detach().abs() < cutoff, torch.zeros_like(tensor), tensor)


class UpdatePruning(UpdateDefense[UpdatePruningParams]):
    """Sets the entries below a quantile of their own tensor's magnitudes to 0 (as GradAttack does, Huang et al. 2021)."""

    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the pruned update; entries that equal the quantile stay."""
        rate = self.params.rate
        return {k: _above(t, magnitude_at(t.detach().flatten(), rate)) if t.numel() else t for k, t in update.items()}


class PercentileSharing(UpdateDefense[PercentileSharingParams]):
    """Sets entries below a percentile of all magnitudes to 0 and clips the others (NVFlare's `PercentilePrivacy`).

    After Shokri and Shmatikov, CCS 2015. It is pruning and clipping: no noise, and no guarantee.
    """

    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the clipped rest."""
        values = flat(update.values())
        if not len(values):
            return update
        cutoff = magnitude_at(values, self.params.percentile / 100)
        kept = {name: _above(t, cutoff) for name, t in update.items()}
        if self.params.gamma is None:
            return kept
        bound = self.params.gamma * self.params.local_steps
        return {name: t.clamp(-bound, bound) for name, t in kept.items()}


class SelectiveSharing(UpdateDefense[SelectiveSharingParams]):
    """Sends the tensors that are named, and of those the entries of largest magnitude (Shokri and Shmatikov, CCS 2015).

    Tensors that are withheld by name are left out of the message: the global model keeps its values there.
    """

    def adapt(self, module: nn.Module) -> nn.Module:
        """Check the names before anything is trained.

        Raises:
            UserError: A pattern names no tensor of the model, or nothing is left to share.
        """
        names = [name.removeprefix("_module.") for name in module.state_dict()]
        for pattern in (*(self.params.share or ()), *self.params.withhold):
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(f"selective-sharing: no tensor of the model is named {pattern!r}.{nearest(pattern, names)}")
        if not self._shared(names):
            raise UserError("selective-sharing: share and withhold leave nothing to send; no site would contribute.")
        return module

    def outgoing(self, message: Message) -> Message:
        """Return the update without what is withheld, of whatever type it is, and with small entries set to 0."""
        if message.channel != "update":
            return message
        shared = self._shared(message.tensors)
        return super().outgoing(message.carrying({name: message.tensors[name] for name in shared}))

    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the update with all but the largest entries, over all tensors together, set to 0."""
        values = flat(update.values()).abs()
        if self.params.fraction == 1 or not len(values):
            return update
        kept = torch.zeros_like(values, dtype=torch.bool)
        kept[values.topk(math.ceil(self.params.fraction * len(values))).indices] = True
        masks = kept.split([t.numel() for t in update.values()])
        return {
            name: torch.where(mask.reshape(t.shape), t, torch.zeros_like(t))
            for (name, t), mask in zip(update.items(), masks, strict=True)
        }

    def _shared(self, names: Iterable[str]) -> list[str]:
        def named(name: str, patterns: Iterable[str]) -> bool:
            return any(fnmatchcase(name, pattern) for pattern in patterns)

        share = self.params.share or ["*"]
        return [name for name in names if named(name, share) and not named(name, self.params.withhold)]
