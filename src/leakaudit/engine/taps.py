"""Which messages a training writes down: taps of attacks, resolved against the schedule, or against its early end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from leakaudit.protocols.schedule import Schedule
from leakaudit.threats import Tap
from leakaudit.wire.messages import Message
from leakaudit.wire.recording import MessageLog, Recorder

__all__ = ["Tapping", "Taps"]

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


class Tapping:
    """Writes down what taps ask for while a training goes on.

    "The last time that a sample crosses" is known ahead only if the training runs to its end. Where a detector may stop it, all
    rounds are kept until then, and cut down afterwards.

    Args:
        taps: What is asked for.
        folder: Where the messages go.
        targets: Tokens of the attacked samples.
        schedule: The batches.
        stoppable: Whether a detector may end the training early.
    """

    def __init__(self, taps: Sequence[Tap], folder: Path, targets: Collection[str], schedule: Schedule, *, stoppable: bool) -> None:
        self._taps, self._folder, self._targets, self._schedule = tuple(taps), folder, targets, schedule
        self._broad = folder.with_name(f"{folder.name}-all") if stoppable else None
        every = [replace(tap, rounds=None) for tap in taps]
        wanted = self._planned() if self._broad is None else Taps(every, targets, {}, schedule.rounds)
        self._recorder = Recorder(folder if self._broad is None else self._broad, wanted)

    def _planned(self) -> Taps:
        return Taps(self._taps, self._targets, self._schedule.crossings(), self._schedule.rounds)

    def _crossed(self, entries: Sequence[Mapping[str, Any]], end: tuple[int, int]) -> Callable[[Message], Keep | None]:
        """Return what to keep by what really crossed: an alarm in the middle of a batch finds parties that have not sent yet."""
        flows: dict[tuple[str, str, str], dict[str, list[tuple[int, int]]]] = {}
        for entry in entries:
            crossings = flows.setdefault((entry["channel"], entry["sender"], entry["receiver"]), {})
            for token in entry["samples"]:
                crossings.setdefault(token, []).append((entry["round"], entry["step"]))
        taps = {flow: Taps(self._taps, self._targets, crossings, end[0] + 1) for flow, crossings in flows.items()}
        return lambda message: taps[message.channel, message.sender, message.receiver](message)

    def record(self, message: Message) -> None:
        """Write a message as far as a tap asks for it."""
        self._recorder.record(message)

    def close(self, end: tuple[int, int] | None = None) -> None:
        """Finish; `end` is the (round, step) at which an alarm stopped the training, None where it ran to its end."""
        self._recorder.close()
        if self._broad is None:
            return
        log = MessageLog(self._broad)
        kept = Recorder(self._folder, self._planned() if end is None else self._crossed(log.entries, end))
        for message in log.messages():
            kept.record(message)
        kept.close()
        shutil.rmtree(self._broad)
