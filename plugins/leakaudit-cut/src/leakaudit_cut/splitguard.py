"""SplitGuard: catch a hijacking server by batches with false masks (Erdogan, Kupcu and Cicek, WPES 2022, arXiv 2109.09246).

Only the honest seats know which batches are false. A server that learns the task sends gradients for them that point
elsewhere; one that follows a goal of its own does not care about masks. False batches are never learned from at the clients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from leakaudit.defenses import Defense, Local, Stepper
from leakaudit.wire import Alarm, Message, Seat
from leakaudit_cut.params_watching import SplitGuardParams

__all__ = ["Gradients", "SplitGuard", "direction_score", "split_guard_score"]


@dataclass(slots=True)
class Gradients:
    """What is kept of a set of gradients: their sum and the sum of their norms."""

    total: Tensor | None = None
    norms: float = 0.0
    count: int = 0

    def add(self, gradient: Tensor) -> None:
        """Take in one gradient, a vector."""
        self.total = gradient if self.total is None else self.total + gradient
        self.norms += float(gradient.norm())
        self.count += 1

    def __add__(self, other: Gradients) -> Gradients:
        totals = [t for t in (self.total, other.total) if t is not None]
        return Gradients(sum(totals[1:], totals[0]) if totals else None, self.norms + other.norms, self.count + other.count)


def _cosine(a: Gradients, b: Gradients) -> float:
    if a.total is None or b.total is None:
        return 1.0
    size = float(a.total.norm() * b.total.norm())
    return max(-1.0, min(1.0, float(a.total @ b.total) / size)) if size > 0 else 1.0


def direction_score(fake: Gradients, regular: Gradients) -> float:
    """Return (1 - cos) / 2 of the mean gradients: near 0 for a server that ignores the masks, about 1/2 or more for an honest one.

    The gradient of the loss is linear in the mask: with p the prediction, p - y turns into p - 1 + y for an inverted mask.
    """
    return (1 - _cosine(fake, regular)) / 2


def split_guard_score(fake: Gradients, first: Gradients, second: Gradients, *, sharpness: float = 5, exponent: float = 2) -> float:
    """Return how honest the gradients look by the paper's score, in (0, 1).

    With theta the angle between two sets' mean gradients and d the difference of their mean norms,
    S = [theta(F, R) d(F, R) - theta(R1, R2) d(R1, R2)] / [d(F, R) + d(R1, R2)] and the score is sigmoid(sharpness S)^exponent.

    Args:
        fake: Gradients of false batches, F.
        first: Half of the regular gradients, R1; R is both halves.
        second: The other half, R2.
        sharpness: Factor before the sigmoid.
        exponent: Power of the sigmoid.
    """
    regular = first + second
    away, apart = math.acos(_cosine(fake, regular)), _norm_gap(fake, regular)
    spread, jitter = math.acos(_cosine(first, second)), _norm_gap(first, second)
    total = apart + jitter
    score = (away * apart - spread * jitter) / total if total > 0 else 0.0
    return float((1 / (1 + math.exp(-sharpness * score))) ** exponent)


def _norm_gap(a: Gradients, b: Gradients) -> float:
    return abs(a.norms / max(a.count, 1) - b.norms / max(b.count, 1))


class SplitGuard(Defense[SplitGuardParams]):
    """At the label holder it inverts the masks of false batches; at a client it watches the first layer's gradients."""

    def __init__(self, params: SplitGuardParams, seat: Seat) -> None:
        super().__init__(params, seat)
        self._batch: tuple[int, int] | None = None
        self._seen = 0
        self._fake, self._first, self._second = Gradients(), Gradients(), Gradients()
        self.scores: list[float] = []

    def outgoing(self, message: Message) -> Message:
        """Return the masks inverted where the batch is a false one."""
        if message.channel != "label" or not self._is_fake(message.round, message.step):
            return message
        return message.carrying({name: 1 - t for name, t in message.tensors.items()})

    def incoming(self, message: Message) -> Message:
        """Remember which batch the gradients belong to."""
        if message.channel == "cut-gradient":
            self._batch = (message.round, message.step)
        return message

    def train(self, local: Local) -> Local:
        """Watch the optimizer: note the first layer's gradient, and leave out the step of a false batch."""
        if self.seat.role != "client":
            return local
        local.optimizer = _Watched(local.optimizer, local.module, self)
        return local

    def _is_fake(self, round_: int, step: int) -> bool:
        # Every honest seat draws the same answer for a batch, whatever else it has drawn before.
        if round_ == 0 and step < self.params.warm_up:
            return False
        seed = self.seat.shared_seed(f"splitguard batch {round_}-{step}")
        return bool(np.random.default_rng(seed).random() < self.params.fake_share)

    def judge(self, gradient: Tensor) -> bool:
        """Take in the gradient of the current batch and return whether it is to be learned from.

        Raises:
            Alarm: The last scores are those of a server that ignores the masks.
        """
        if self._batch is None:
            return True
        fake = self._is_fake(*self._batch)
        self._batch = None
        self._seen += 1
        if not fake:
            (self._first if self._first.count <= self._second.count else self._second).add(gradient)
            return True
        self._fake.add(gradient)
        if self._second.count >= 2:
            self._score()
        return False

    def _score(self) -> None:
        if self.params.statistic == "direction":
            self.scores.append(direction_score(self._fake, self._first + self._second))
        else:
            self.scores.append(split_guard_score(self._fake, self._first, self._second))
        last = self.scores[-self.params.window :]
        mean = sum(last) / len(last)
        if len(last) == self.params.window and mean < self.params.threshold:
            reason = (
                f"after {self._seen} batches the server's gradients do not follow the masks: mean score {mean:.3f} of the last "
                f"{self.params.window}, threshold {self.params.threshold:g}"
            )
            raise Alarm("splitguard", reason, mean)


class _Watched(Stepper):
    """An optimizer that asks the guard before every step."""

    def __init__(self, inner: torch.optim.Optimizer | Stepper, module: nn.Module, guard: SplitGuard) -> None:
        self._inner, self._guard = inner, guard
        self._first = next(module.parameters())

    def zero_grad(self) -> None:
        self._inner.zero_grad()

    def step(self) -> None:
        gradient = self._first.grad
        if gradient is not None and not self._guard.judge(gradient.detach().flatten().clone()):
            return
        self._inner.step()
