"""Several defenses at one seat as one, in the order of the recipe."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from leakaudit.defenses.base import Ask, Defense, Local, Sends
from leakaudit.defenses.guarantee import Guarantee
from leakaudit.models.task import Tensors
from leakaudit.plugins.params import DefenseParams
from leakaudit.wire.messages import Message
from leakaudit.wire.seats import Seat

__all__ = ["Chain", "replaces_training"]


class Chain(Defense[DefenseParams]):
    """Several defenses as one: outgoing and adapt in order, incoming in reverse, penalties added.

    Args:
        parts: The defenses, in the recipe's order.
        seat: Their seat.
    """

    def __init__(self, parts: Sequence[Defense[DefenseParams]], seat: Seat) -> None:
        super().__init__(DefenseParams(), seat)
        self.parts = tuple(parts)

    def adapt(self, module: nn.Module) -> nn.Module:
        """Apply every part's `adapt` in order."""
        for part in self.parts:
            module = part.adapt(module)
        return module

    def train(self, local: Local) -> Local:
        """Apply every part's `train` in order."""
        for part in self.parts:
            local = part.train(local)
        return local

    def penalty(self, x: Tensor, sent: Message) -> Tensor | None:
        """Return the sum of the parts' penalties."""
        terms = [term for part in self.parts if (term := part.penalty(x, sent)) is not None]
        return torch.stack(terms).sum() if terms else None

    def outgoing(self, message: Message) -> Message | None:
        """Pass the message through every part in order; the first that withholds it ends the way."""
        current: Message | None = message
        for part in self.parts:
            if current is None:
                return None
            current = part.outgoing(current)
        return current

    def incoming(self, message: Message) -> Message | None:
        """Pass the message through every part in reverse order; the first that refuses it ends the way."""
        current: Message | None = message
        for part in reversed(self.parts):
            if current is None:
                return None
            current = part.incoming(current)
        return current

    def aggregate(self, inbox: Sequence[Message]) -> Ask:
        """Return the first part's aggregate that is not None; a part's questions are passed on."""
        for part in self.parts:
            result = part.aggregate(inbox)
            if isinstance(result, Generator):
                result = yield from result
            if result is not None:
                return result
        return None

    def answer(self, message: Message) -> Message | None:
        """Return the first part's answer that is not None."""
        for part in self.parts:
            result = part.answer(message)
            if result is not None:
                return result
        return None

    def guarantee(self) -> Guarantee | None:
        """Return the claim where exactly one part makes one; several are not one claim, see `guarantees`."""
        claims = self.guarantees()
        return claims[0] if len(claims) == 1 else None

    def guarantees(self) -> tuple[Guarantee, ...]:
        """Return the claims of all parts, in order. They are not composed: each stands for its own unit and releases."""
        return tuple(claim for part in self.parts for claim in part.guarantees())

    def information(self, sends: Sends, x: Tensor, inside: Tensor) -> Tensor | None:
        """Return the least that any part allows: what acts on a message afterwards cannot add information."""
        found: list[Tensor] = []
        for part in self.parts:
            own = part.information(sends, x, inside)
            if own is not None:
                found.append(own)
            sends = _through(part, sends)
        return torch.stack(found).amin(dim=0) if found else None

    def public_state(self) -> Tensors:
        """Return the parts' states under `"<index>."` prefixes."""
        return {f"{i}.{k}": t for i, part in enumerate(self.parts) for k, t in part.public_state().items()}

    def load_public_state(self, state: Mapping[str, Tensor]) -> None:
        """Hand each part its own state."""
        for i, part in enumerate(self.parts):
            prefix = f"{i}."
            part.load_public_state({k[len(prefix) :]: t for k, t in state.items() if k.startswith(prefix)})


def _through(part: Defense[Any], sends: Sends) -> Sends:
    """Return what is sent once `part` has acted on it.

    Raises:
        ValueError: It withholds the message.
    """

    def after(x: Tensor) -> Tensors:
        samples = tuple(str(i) for i in range(len(x)))
        message = Message(
            channel="activation", sender=part.seat.id, receiver="server", round=-1, step=-1, tensors=sends(x), samples=samples
        )
        sent = part.outgoing(message)
        if sent is None:
            raise ValueError(f"the defense of {part.seat.id!r} withholds its activations")
        return sent.tensors

    return after


def replaces_training(guard: Defense[Any]) -> bool:
    """Return whether any of a seat's defenses replaces its local training, which a replica of what it computes does not show."""
    parts = guard.parts if isinstance(guard, Chain) else (guard,)
    return any(type(part).train is not Defense.train for part in parts)
