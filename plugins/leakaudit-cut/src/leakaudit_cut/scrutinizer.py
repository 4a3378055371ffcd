"""Gradients Scrutinizer: catch a hijacking server by gradients that are alike for everybody (Fu et al., NDSS 2023).

The paper's attribute: under a server that learns the task, gradients of samples with the same label are more alike than those
of samples with different labels; under one that follows a goal of its own, labels make no difference. It is passive: no batch
is false, nothing is lost. In a split network for segmentation the image clients hold no masks, and nobody may send them any.
But a client knows two kinds of pairs without knowing a mask: a sample's gradients in one pass and in the pass before have the
same mask behind them, the gradients of two samples have different masks behind them.

A sample's image stays the same too, so that a hijacker's gradients are alike in pairs of the same sample as well. What
tells servers apart is whether those of *different* samples are. The statistic is therefore a ratio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from leakaudit.defenses import Defense
from leakaudit.wire import Alarm, Message, Seat
from leakaudit_cut.params_watching import GradientScrutinizerParams

__all__ = ["GradientScrutinizer", "Pairs", "Sketch", "own_share", "separation"]

_SKETCH = 4096
"""Entries kept of a sample's gradient: cosines are then right to about 1 / sqrt(4096), one pair at a time."""
_NOISE = 0.1
"""Similarity of a sample with itself below which nothing follows from a ratio to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Cosine similarities of pairs of gradients, each a vector.

    Attributes:
        same: Pairs of one sample, now and in the pass before.
        different: Pairs of two samples, one now and one in the pass before.
    """

    same: Tensor
    different: Tensor


def own_share(pairs: Pairs) -> float:
    """Return 1 - max(0, D) / S, at least 0, with S and D the mean similarity of same and of different samples.

    About 1 where different samples have unrelated gradients, whatever S (an honest server); 0 where they are as alike as a
    sample is to itself. S counts as 0.1 where it is smaller, so that noise around zero raises no alarm.
    """
    own, other = float(pairs.same.mean()), float(pairs.different.mean())
    return max(0.0, 1 - max(0.0, other) / max(own, _NOISE))


def separation(pairs: Pairs) -> float:
    """Return (S - D) / pooled standard deviation: how far apart the two sets of similarities lie, as in the paper."""
    spread = ((pairs.same.var() + pairs.different.var()) / 2).sqrt()
    return float((pairs.same.mean() - pairs.different.mean()) / spread.clamp_min(1e-6))


class Sketch:
    """Shortens gradients to unit vectors that keep their cosines on average (count sketch: Charikar et al. 2002).

    Args:
        generator: The seat's randomness, which keeps a server from steering what is seen.
        size: Entries kept; shorter gradients stay as they are.
    """

    def __init__(self, generator: torch.Generator, size: int = _SKETCH) -> None:
        self._generator, self._size = generator, size
        self._places: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, gradients: Tensor) -> Tensor:
        """Return (n, at most `size`) unit vectors for gradients (n, ...); those of zero gradients are zero."""
        # Brought to unit length twice: first for half precision, whose small gradients would vanish when squared.
        rows = gradients.detach().float().flatten(1)
        rows = F.normalize(rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-30), dim=1)
        length = rows.shape[1]
        if length <= self._size:
            return rows
        if length not in self._places:
            draw = torch.randint(2 * self._size, (length,), generator=self._generator, device=self._generator.device)
            self._places[length] = (draw // 2).to(rows.device), (2.0 * (draw % 2) - 1).to(rows.device)
        place, sign = self._places[length]
        return F.normalize(rows.new_zeros(len(rows), self._size).index_add_(1, place, rows * sign), dim=1)


class _Level:
    """What is known of one level: the last gradient of every sample, and the newest pairs."""

    def __init__(self, window: int) -> None:
        self._window, self._count = window, 0
        self._last: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._recent: deque[Pairs] = deque()

    def add(self, pairs: Pairs) -> None:
        """Take in a batch's pairs, and drop the oldest batches that the window does without."""
        self._recent.append(pairs)
        self._count += len(pairs.same)
        while self._count - len(self._recent[0].same) >= self._window:
            self._count -= len(self._recent.popleft().same)

    def window(self) -> Pairs | None:
        """Return the newest pairs, at least a window of the same sample; None while there are fewer."""
        if self._count < self._window:
            return None
        parts = list(self._recent)
        return Pairs(same=torch.cat([p.same for p in parts]), different=torch.cat([p.different for p in parts]))

    def pairs(self, tokens: Sequence[str], now: Tensor) -> Pairs:
        """Return the similarities of a batch with the pass before, and remember the batch.

        Others' gradients are those that this batch and the one before had in the pass before, so that what the network
        learned since then lies between the pairs of both kinds alike, and batches of one sample have pairs too.
        """
        rows = {token: v for token, v in zip(tokens, now, strict=True) if v.any()}
        known = {token: self._last[token] for token in rows if token in self._last}
        past = self._before | known
        self._last |= rows
        self._before = known
        if not rows or not past:
            return Pairs(same=now.new_zeros(0), different=now.new_zeros(0))
        cosines = torch.stack(list(rows.values())) @ torch.stack(list(past.values())).T
        equal = torch.tensor([[a == b for b in past] for a in rows], device=now.device)
        return Pairs(same=cosines[equal], different=cosines[~equal])


class GradientScrutinizer(Defense[GradientScrutinizerParams]):
    """Watches the gradients that a client gets, level by level; changes nothing."""

    def __init__(self, params: GradientScrutinizerParams, seat: Seat) -> None:
        super().__init__(params, seat)
        self._sketch = Sketch(seat.rng("gradient sketch"))
        self._levels: dict[str, _Level] = {}
        self._seen = 0
        self.scores: list[float] = []

    def incoming(self, message: Message) -> Message:
        """Compare the batch's gradients with those of the pass before.

        Raises:
            Alarm: In the last batches, different samples had gradients too much like each other.
        """
        if message.channel == "cut-gradient" and message.samples:
            self._seen += 1
            for name, gradients in message.tensors.items():
                level = self._levels.setdefault(name, _Level(self.params.window))
                pairs = level.pairs(message.samples, self._sketch(gradients))
                if self._seen > self.params.warm_up:
                    level.add(pairs)
            self._judge()
        return message

    def _judge(self) -> None:
        statistic = own_share if self.params.statistic == "own-share" else separation
        known = {name: pairs for name, level in self._levels.items() if (pairs := level.window()) is not None}
        if not known:
            return
        # A hijacker may attack one level and leave the others honest, or empty: the worst level counts.
        found = {name: statistic(pairs) for name, pairs in known.items()}
        name = min(found, key=lambda level: found[level])
        self.scores.append(found[name])
        if found[name] < self.params.threshold:
            own, other = float(known[name].same.mean()), float(known[name].different.mean())
            reason = (
                f"after {self._seen} batches the server's gradients hardly tell samples apart: at {name} their mean similarity is "
                f"{other:.2f} for different samples and {own:.2f} for the same, score {found[name]:.3f}, "
                f"threshold {self.params.threshold:g}"
            )
            raise Alarm("gradient-scrutinizer", reason, found[name])
