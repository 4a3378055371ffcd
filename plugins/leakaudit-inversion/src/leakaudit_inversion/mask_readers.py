"""The three ways to read masks off the gradients of a message."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from leakaudit.attacks import View
from leakaudit.cohorts import REGIONS
from leakaudit.errors import UserError
from leakaudit_inversion.mask_head import Heads
from leakaudit_inversion.mask_identity import solved_masks
from leakaudit_inversion.mask_messages import Arrival
from leakaudit_inversion.mask_prior import HeldBrains, MaskPrior
from leakaudit_inversion.mask_scores import direction_masks, norm_masks
from leakaudit_inversion.params_masks import Method
from leakaudit_inversion.stance import Stage

__all__ = ["Reader", "reader_of"]


class Reader(ABC):
    """Reads masks off one message."""

    @abstractmethod
    def read(self, arrival: Arrival) -> Tensor:
        """Return masks (n, regions, *spatial) at the size of the gradient, zeros and ones."""


class _ClosedForm(Reader):
    """Solves for the masks under the known head."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads

    def read(self, arrival: Arrival) -> Tensor:
        if arrival.features is None:
            raise UserError("the recording lacks the features that the server sent to the label holder: tap them, too")
        gradient = arrival.gradient
        head = self._heads.at(arrival.round, arrival.place, gradient.shape[1], gradient.device)
        return solved_masks(gradient, arrival.features, head)


class _Norm(Reader):
    """Takes the longest gradients for tumor."""

    def __init__(self, prior: MaskPrior | None, brains: HeldBrains | None) -> None:
        self._shares = None if prior is None else prior.shares()
        self._brains = brains

    def read(self, arrival: Arrival) -> Tensor:
        return norm_masks(arrival.gradient, self._shares, len(REGIONS), _within(self._brains, arrival))


class _Direction(Reader):
    """Takes for tumor what points as the longest gradients do."""

    def __init__(self, hints: int, brains: HeldBrains | None) -> None:
        self._hints, self._brains = hints, brains

    def read(self, arrival: Arrival) -> Tensor:
        return direction_masks(arrival.gradient, self._hints, len(REGIONS), _within(self._brains, arrival))


def _within(brains: HeldBrains | None, arrival: Arrival) -> Tensor | None:
    gradient = arrival.gradient
    return None if brains is None else brains.take(arrival.tokens, gradient.shape[2:]).to(gradient.device)


def reader_of(method: Method, hints: int, view: View, stage: Stage) -> Reader:
    """Return the reader of a method, for one stage of a view."""
    if method == "closed-form":
        holder = view.facts.seats_of("label-holder")[0]
        return _ClosedForm(Heads(view, holder.id, stage))
    brains = HeldBrains.of(view)
    return _Norm(MaskPrior.of(view), brains) if method == "norm" else _Direction(hints, brains)
