"""The wire: the only way between parties. It taps, copies, checks and counts every message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from leakaudit.models.task import Tensors
from leakaudit.wire.messages import Message
from leakaudit.wire.seats import Secret

__all__ = ["NotFiniteError", "Party", "Records", "Traffic", "Wire", "WireError", "not_finite"]


class WireError(RuntimeError):
    """A party sent what no party may send."""


class NotFiniteError(WireError):
    """A party has numbers to send that are not finite.

    Attributes:
        channel: Kind of the message.
    """

    def __init__(self, message: str, channel: str) -> None:
        super().__init__(message)
        self.channel = channel


def not_finite(tensors: Tensors) -> str | None:
    """Return the name of the first tensor with a number that is not finite; None where all are."""
    wrong = (name for name, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all())
    return next(wrong, None)


class Records(Protocol):
    """What a tap of the wire can do."""

    def record(self, message: Message) -> None:
        """Write a message down, or not."""


class Party(ABC):
    """A participant. Others only ever call `reply`."""

    @abstractmethod
    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Take the messages that arrived and return those to send."""

    def state(self) -> Tensors:
        """Return what the party has learned, by name: for snapshots, digests and the view of an attack that played it."""
        return {}


@dataclass(slots=True)
class Traffic:
    """Messages and bytes of one kind of flow."""

    messages: int = 0
    bytes: int = 0


class Wire:
    """Delivers messages between parties.

    Args:
        parties: Party by seat id.
        secret: Branch from which each seat's global random stream (dropout, initialization) is drawn.
        recorders: Taps.
        device: Device on which the parties compute.
        after_round: Called with the number of each round but the last once the first message of a later one is delivered.

    Attributes:
        traffic: What crossed, by (channel, sender, receiver).
        asked: Seat that was asked last.
        place: (round, step) of the last batch whose samples crossed; None before the first.
        batches: Number of batches whose samples have crossed.
        notes: What happened beside the plan, in plain words, and in which rounds.
    """

    def __init__(
        self,
        parties: Mapping[str, Party],
        secret: Secret,
        recorders: Sequence[Records] = (),
        device: torch.device | str = "cpu",
        after_round: Callable[[int], None] | None = None,
    ) -> None:
        self.parties = dict(parties)
        self.recorders = tuple(recorders)
        self.traffic: dict[tuple[str, str, str], Traffic] = {}
        self.asked = ""
        self.place: tuple[int, int] | None = None
        self.batches = 0
        self.notes: dict[str, list[int]] = {}
        self._device = torch.device(device)
        self._after_round, self._round = after_round, 0
        self._streams: dict[str, list[torch.Tensor]] = {}
        for seat in self.parties:
            self._streams[seat] = self._fresh(secret.branch(seat, "global").seed())

    def _fresh(self, seed: int) -> list[torch.Tensor]:
        # The state after seeding, without disturbing the stream that is in place.
        before = self._state()
        torch.manual_seed(seed)
        state = self._state()
        self._restore(before)
        return state

    def _state(self) -> list[torch.Tensor]:
        state = [torch.get_rng_state()]
        if self._device.type == "cuda":
            state.append(torch.cuda.get_rng_state(self._device))
        return state

    def _restore(self, state: list[torch.Tensor]) -> None:
        torch.set_rng_state(state[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state[1], self._device)

    def note(self, text: str, round_: int) -> None:
        """Write down what happened beside the plan in a round, for the report: a site that left, an update left out."""
        rounds = self.notes.setdefault(text, [])
        if round_ not in rounds:
            rounds.append(round_)

    def ask(self, seat: str, inbox: Sequence[Message]) -> list[Message]:
        """Hand `inbox` to a party and return what it sends, cut off from its graph and storage.

        Each seat draws from its own global stream, so that one more draw of one party (an attacker riding along) changes
        nothing for the others.

        Raises:
            WireError: The party sent under another's name, to nobody, or numbers that are not finite (`NotFiniteError`).
        """
        while inbox and self._round < max(m.round for m in inbox):
            if self._after_round is not None:
                self._after_round(self._round)
            self._round += 1
        self.asked = seat
        outside = self._state()
        self._restore(self._streams[seat])
        try:
            sent = self.parties[seat].reply([self._copy(m) for m in inbox])
        finally:
            self._streams[seat] = self._state()
            self._restore(outside)
        return [self._carry(seat, message) for message in sent]

    def _carry(self, seat: str, message: Message) -> Message:
        if message.sender != seat:
            raise WireError(f"{seat!r} sent a message in the name of {message.sender!r}")
        if message.receiver not in self.parties and message.receiver != "outsider":
            raise WireError(f"{seat!r} sent a message to {message.receiver!r}, who is not there")
        self._check(seat, message)
        # The tap comes first: a receiver that works in place must not alter what was recorded.
        for recorder in self.recorders:
            recorder.record(message)
        copy = self._copy(message)
        count = self.traffic.setdefault((message.channel, seat, message.receiver), Traffic())
        if message.samples and (message.round, message.step) != self.place:
            self.place, self.batches = (message.round, message.step), self.batches + 1
        count.messages += 1
        count.bytes += message.bytes
        return copy

    @staticmethod
    def _check(seat: str, message: Message) -> None:
        """Refuse a message before anybody records or receives it."""
        for name, tensor in message.tensors.items():
            if message.samples and tensor.shape[:1] != (len(message.samples),):
                raise WireError(f"{seat!r} sent {name!r} with {tensor.shape[0]} rows for {len(message.samples)} samples")
        wrong = not_finite(message.tensors)
        if wrong is not None:
            raise NotFiniteError(
                f"{seat!r} sent {wrong!r} with values that are not finite ({message.channel}, round {message.round}). A training "
                "that diverges does this, and a lower training.learning_rate is the first remedy; so may a defense or an attack "
                "at that seat",
                message.channel,
            )

    @staticmethod
    def _copy(message: Message) -> Message:
        return replace(message, tensors={k: t.detach().clone() for k, t in message.tensors.items()}, behind=())
