"""Progress for people, on standard error: a bar on a terminal, one line for each finished job elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.scheduler import Event

__all__ = ["Estimate", "ProgressDisplay", "duration"]


def duration(seconds: float) -> str:
    """Write seconds for people: `12.3 s`, `4 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 20 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Estimate:
    """Time left, from the durations of finished jobs of each kind; cached jobs teach nothing.

    Args:
        slots: Jobs that run at a time.
    """

    def __init__(self, slots: int = 1) -> None:
        self._slots = slots
        self._seconds: dict[str, list[float]] = {}
        self._left: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Count a job that is to be done."""
        self._left[job.key] = job

    def end(self, job: Job, outcome: Outcome) -> None:
        """Count a job as ended."""
        self._left.pop(job.key, None)
        if outcome.ok and not outcome.cached:
            self._seconds.setdefault(job.kind, []).append(outcome.seconds)

    def seconds_left(self) -> float | None:
        """Seconds until all is done; None while nothing was measured. A kind not yet measured counts as the mean of all."""
        if not self._seconds:
            return None
        means = {kind: sum(values) / len(values) for kind, values in self._seconds.items()}
        overall = sum(means.values()) / len(means)
        total = sum(means.get(job.kind, overall) for job in self._left.values())
        return total / max(1, min(self._slots, len(self._left)))


class ProgressDisplay:
    """Shows the events of `run_jobs`; to be used as a context manager and as its `on_event`.

    Args:
        slots: Jobs that run at a time, for the estimate of the time left.
        stream: Where to write; standard error by default. A bar is drawn when it is a terminal.
    """

    def __init__(self, slots: int = 1, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._estimate = Estimate(slots)
        self._total = self._done = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._parts: dict[str, str] = {}
        if self._stream.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
            self._bar = Progress(*columns, console=Console(file=self._stream))

    def __enter__(self) -> ProgressDisplay:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("audit", total=0, left="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        name = f"{event.job.kind} {event.job.label}"
        if event.kind == "planned":
            self._total += 1
            self._estimate.add(event.job)
        elif event.kind == "started":
            self._parts[event.job.key] = name
        elif event.kind == "progress":
            self._parts[event.job.key] = f"{name} {event.data['done']:g}/{event.data['total']:g}"
        elif event.kind == "ended" and event.outcome is not None:
            self._done += 1
            self._parts.pop(event.job.key, None)
            self._estimate.end(event.job, event.outcome)
            self._line(name, event.outcome)
        self._refresh()

    def _line(self, name: str, outcome: Outcome) -> None:
        """Write one line for a finished job; above the bar on a terminal, and there only what went wrong."""
        width = len(str(self._total))
        how = "cached" if outcome.cached else outcome.status
        time = f" {duration(outcome.seconds)}" if outcome.seconds else ""
        why = f" ({outcome.reason})" if outcome.reason else ""
        text = f"[{self._done:>{width}}/{self._total}] {name} ... {how}{time}{why}"
        if self._bar is None:
            print(f"{text}{self._left(', ')}", file=self._stream, flush=True)
        elif not outcome.ok:
            self._bar.console.print(escape(text), highlight=False, soft_wrap=True)

    def _refresh(self) -> None:
        if self._bar is not None and self._task is not None:
            running = ", ".join(self._parts.values()) or "audit"
            self._bar.update(self._task, total=self._total, completed=self._done, description=escape(running), left=self._left(""))

    def _left(self, before: str) -> str:
        seconds = self._estimate.seconds_left()
        if seconds is None or self._done == self._total:
            return ""
        return f"{before}about {duration(seconds)} left"
