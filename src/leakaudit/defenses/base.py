"""What a defense implements. One object per seat."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from leakaudit.defenses.guarantee import Guarantee
from leakaudit.models.task import Tensors
from leakaudit.plugins.params import DefenseParams
from leakaudit.wire.messages import Message
from leakaudit.wire.seats import Seat

__all__ = ["Ask", "Defense", "Local", "Sends", "Stepper"]

P = TypeVar("P", bound=DefenseParams)
Ask = Generator[Sequence[Message], Sequence[Message], Tensors | None]
"""An aggregation that asks other parties: it yields questions, is sent the answers to them, and returns the aggregate.

Questions are messages of the control channel. They and their answers cross the wire like any other message, so they are
recorded and counted. Who does not answer is missing from what `yield` gives.
"""
Sends = Callable[[Tensor], Tensors]
"""Gives what would be sent for images, by name, differentiably."""


class Stepper(Protocol):
    """The part of an optimizer that a party uses."""

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""

    def step(self) -> None:
        """Take one step. Called once per batch, also for an empty one (no forward or backward came before it)."""


@dataclass(slots=True)
class Local:
    """A party's local training, handed to the seat's defense, which may replace the module and the optimizer.

    Attributes:
        module: The network that the party trains.
        optimizer: Its optimizer.
        units: Returns, for the current batch, the index of the protected unit (patient or record) behind each row.
        expected_units: Expected number of units in a batch.
        expected_batch: Expected number of rows in a batch.
        rate: Probability that one unit is in one batch.
        canary_rows: Returns the gradients (by parameter name) of the batch's gradient canaries, each a unit of its own.
        takes_canaries: Whether the defense in place appends `canary_rows` before it clips; else the party adds them itself.
        steps: Optimizer steps planned for the whole training, over all rounds; 0 where the party cannot know.
        sampling: How batches are really drawn.
        unit: What `units` counts, and what Poisson sampling takes independently.
        shape: Shape of one row of the module's input, (channels, *spatial); empty where it is not one tensor.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer | Stepper
    units: Callable[[], Tensor]
    expected_units: float
    expected_batch: float
    rate: float
    canary_rows: Callable[[], Sequence[Tensors]] = tuple
    takes_canaries: bool = False
    steps: int = 0
    sampling: Literal["shuffle", "poisson"] = "shuffle"
    unit: Literal["record", "patient"] = "record"
    shape: tuple[int, ...] = ()


class Defense(Generic[P]):
    """A defense at one seat. Every method is optional and the identity by default.

    Args:
        params: The defense's parameters.
        seat: The seat it protects; its randomness comes from `seat.rng(purpose)` alone.
    """

    def __init__(self, params: P, seat: Seat) -> None:
        self.params = params
        self.seat = seat

    def adapt(self, module: nn.Module) -> nn.Module:
        """Return the module to train in place of `module` (a bottleneck, learned noise, replaced normalization)."""
        return module

    def train(self, local: Local) -> Local:
        """Return the local training to run in place of `local` (DP-SGD, a watcher around the optimizer).

        Raises:
            UserError: The network cannot be protected; the message names the layer.
        """
        return local

    def penalty(self, x: Tensor, sent: Message) -> Tensor | None:
        """Return a scalar to add to the party's loss, from its input and what it is about to send, or None."""
        return None

    def outgoing(self, message: Message) -> Message | None:
        """Return the message to send in place of `message`, differentiably; None withholds it."""
        return message

    def incoming(self, message: Message) -> Message | None:
        """Return the message to use in place of `message`; None means: do not apply it.

        Raises:
            Alarm: An attack was detected; the training stops.
        """
        return message

    def aggregate(self, inbox: Sequence[Message]) -> Tensors | Ask | None:
        """Return the aggregate of updates in place of the protocol's own, or None to leave it to the protocol.

        A defense that must ask other parties first is a generator: `answers = yield questions` hands messages of the control
        channel to their receivers, whose defenses `answer` them, and what it returns in the end is the aggregate.

        Args:
            inbox: The updates that arrived; of a party that dropped out there is none.
        """
        return None

    def answer(self, message: Message) -> Message | None:
        """Answer a question of the control channel (for example a request for unmasking shares); None stays silent.

        What it returns passes `outgoing` like any other message of this seat.
        """
        return None

    def guarantee(self) -> Guarantee | None:
        """Return the formal claim for what this seat released, from the ledger, after training; None for no claim."""
        return None

    def guarantees(self) -> tuple[Guarantee, ...]:
        """Return every claim: this defense's own, or those of its parts. A defense implements `guarantee`."""
        claim = self.guarantee()
        return () if claim is None else (claim,)

    def information(self, sends: Sends, x: Tensor, inside: Tensor) -> Tensor | None:
        """Return how much one message tells about each image: its diagonal Fisher information leakage, after training.

        Maeng et al., NeurIPS 2023: with I the Fisher information of the message about the image, dFIL is the mean of I's
        diagonal, and an unbiased attacker with one message has a mean squared error of at least 1 / dFIL.

        Args:
            sends: What the seat would send without this defense and those after it.
            x: Images (n, ...).
            inside: Whether a voxel counts, of the same shape.

        Returns:
            Shape (n,), mean over the voxels that count, 1 / (unit of the images)^2; None where it has no closed form.
        """
        return None

    def public_state(self) -> Tensors:
        """Return what the defense learned that a replica needs; handed out if the threat model grants defense-state."""
        return {}

    def load_public_state(self, state: Mapping[str, Tensor]) -> None:
        """Take a `public_state` into a replica's defense."""
