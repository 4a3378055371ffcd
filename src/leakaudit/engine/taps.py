"""Which messages a training writes down: taps of attacks, resolved against the schedule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from leakaudit.threats import Tap
from leakaudit.wire.messages import Message

__all__ = ["Taps"]

Keep = tuple[tuple[str, ...] | None, list[int] | None]


class Taps:
    """Answers a recorder what to keep of a message.

    A negative round of a tap on samples means the k-th last time that a sample crosses: under Poisson sampling a
    patient need not be in the last round's batches. Of messages without samples it means the k-th last round.

    Args:
        taps: What is asked for.
        targets: Tokens of the attacked samples.
        crossings: For every token, the (round, step) pairs at which it crosses, in order; empty where batches are not
            drawn ahead.
        rounds: Rounds of the training.
    """

    def __init__(
        self, taps: Sequence[Tap], targets: Collection[str], crossings: Mapping[str, Sequence[tuple[int, int]]], rounds: int
    ) -> None:
        self._taps = tuple(taps)
        self._targets = frozenset(targets)
        self._crossings = crossings
        self._rounds = rounds

    def __call__(self, message: Message) -> Keep | None:
        """Return (tensor names or None for all, rows or None for all), or None to skip the message."""
        names: set[str] = set()
        rows: set[int] = set()
        every_name = every_row = hit = False
        for tap in self._taps:
            if tap.channel != message.channel or (tap.steps is not None and message.step not in tap.steps):
                continue
            kept = self._rows(tap, message)
            if kept is not None and not kept:
                continue
            hit = True
            every_row |= kept is None
            rows |= set(kept or ())
            every_name |= tap.names is None
            names |= set(tap.names or ())
        if not hit:
            return None
        return None if every_name else tuple(sorted(names)), None if every_row else sorted(rows)

    def _rows(self, tap: Tap, message: Message) -> list[int] | None:
        """Return the rows that one tap keeps; None for all."""
        if not message.samples:
            return None if self._round_wanted(tap, message.round) else []
        chosen = [
            i
            for i, token in enumerate(message.samples)
            if (tap.rows == "all" or token in self._targets) and self._wanted(tap, token, message)
        ]
        return None if tap.rows == "all" and len(chosen) == len(message.samples) else chosen

    def _wanted(self, tap: Tap, token: str, message: Message) -> bool:
        times = self._crossings.get(token)
        if tap.rounds is None or not times:
            return self._round_wanted(tap, message.round)
        places = {times[r] for r in tap.rounds if r < 0 and -r <= len(times)}
        return (message.round, message.step) in places or message.round in tap.rounds

    def _round_wanted(self, tap: Tap, round_: int) -> bool:
        return tap.rounds is None or round_ in {r % self._rounds if r < 0 else r for r in tap.rounds}
