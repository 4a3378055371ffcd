"""The scheduler: walks the graph of jobs, skips what is stored, and keeps one failure from touching what does not need it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from leakaudit.engine.executors import Executor
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.store import RunStore

__all__ = ["Event", "run_jobs"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Attributes:
        kind: `planned` (once for each job, before any starts), `started`, `ended` (with its outcome: computed, cached or
            blocked), `log` or `progress`.
        job: The job.
        outcome: Its outcome, when ended.
        data: The log line (`text`) or progress (`done`, `total`).
    """

    kind: Literal["planned", "started", "ended", "log", "progress"]
    job: Job
    outcome: Outcome | None = None
    data: dict[str, Any] = field(default_factory=dict)


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    store: RunStore,
    on_event: Callable[[Event], None] | None = None,
    expected_s: Callable[[Job], float] | None = None,
    public: Callable[[Outcome], Outcome] | None = None,
) -> dict[str, Outcome]:
    """Run a graph of jobs to its end.

    A job with a stored result is not run. A failed job blocks those that need it, directly or not, and no others. Jobs
    with equal keys run once. On Ctrl-C all running jobs are killed and `KeyboardInterrupt` goes on.

    Args:
        jobs: In any order.
        executor: Where they run; its slots and budget bound what runs at the same time. It stays open.
        store: Where results are looked up.
        on_event: Called one event at a time, from several threads.
        expected_s: Expected seconds of a job; with it, of the jobs that are ready the longest starts first.
        public: Returns an outcome as it may be shown and kept; called for each as it comes from the executor, one at a time.

    Returns:
        The outcome of each job by key, in the order of `jobs`.

    Raises:
        ValueError: Jobs need each other in a circle.
    """
    run = _Run(jobs, executor, store, on_event, expected_s, public)
    try:
        run.loop()
    except BaseException:
        executor.close()
        raise
    return {key: run.outcomes[key] for key in run.jobs}


class _Run:
    """State of one walk."""

    def __init__(
        self,
        jobs: Iterable[Job],
        executor: Executor,
        store: RunStore,
        on_event: Callable[[Event], None] | None,
        expected_s: Callable[[Job], float] | None,
        public: Callable[[Outcome], Outcome] | None,
    ) -> None:
        self.jobs: dict[str, Job] = {}
        for job in jobs:
            self.jobs.setdefault(job.key, job)
        self.outcomes: dict[str, Outcome] = {}
        self._waiting = dict(self.jobs)
        self._running: dict[str, Job] = {}
        self._executor, self._store = executor, store
        self._public = public or (lambda outcome: outcome)
        self._on_event, self._lock = on_event, threading.Lock()
        if expected_s is not None:
            self._waiting = {job.key: job for job in sorted(self.jobs.values(), key=expected_s, reverse=True)}

    def loop(self) -> None:
        """Start what can start and take what ends, until all jobs have an outcome."""
        self._executor.on_message = self._relay
        for job in self.jobs.values():
            self._emit(Event("planned", job))
        for job in list(self.jobs.values()):
            if self._store.has(job.key):
                self._end(Outcome(job.key, "ok", cached=True))
        while self._waiting or self._running:
            self._block()
            for job in self._startable():
                if self._store.has(job.key):
                    # Another cell wrote it on its way: a training records what the attacks on it will need.
                    self._end(Outcome(job.key, "ok", cached=True))
                    continue
                del self._waiting[job.key]
                self._running[job.key] = job
                self._emit(Event("started", job))
                self._executor.submit(job)
            if self._running:
                outcome = self._executor.next_outcome(timeout=1.0)
                if outcome is not None:
                    self._end(self._public(outcome))
            elif self._waiting and not self._startable():
                labels = ", ".join(f"{job.kind} {job.label}" for job in self._waiting.values())
                raise ValueError(f"These jobs need each other in a circle: {labels}.")

    def _block(self) -> None:
        """Give an outcome to all jobs that a failure keeps from starting, and to those that these keep, and so on."""
        blocked = True
        while blocked:
            blocked = False
            for job in list(self._waiting.values()):
                reason = next(filter(None, map(self._obstacle, job.inputs)), None)
                if reason is not None:
                    self._end(Outcome(job.key, "blocked", reason))
                    blocked = True

    def _obstacle(self, key: str) -> str | None:
        """Why an input will never be there, or None; a chain of blocked jobs all name the job that failed."""
        outcome = self.outcomes.get(key)
        if outcome is None:
            known = key in self.jobs or self._store.has(key)
            return None if known else f"It needs the result {key[:12]}, which is neither planned nor stored."
        if outcome.ok:
            return None
        if outcome.status == "blocked":
            return outcome.reason
        job = self.jobs[key]
        return f"It needs {job.kind} {job.label}, which ended with {outcome.status}: {outcome.reason}"

    def _startable(self) -> list[Job]:
        """Waiting jobs with all inputs there that fit beside what runs; a job too large for the budget runs alone."""
        chosen: list[Job] = []
        for job in self._waiting.values():
            ready = all(key not in self.jobs or key in self.outcomes for key in job.inputs)
            beside = [*self._running.values(), *chosen]
            if ready and len(beside) < self._executor.slots and (not beside or self._fits([*beside, job])):
                chosen.append(job)
        return chosen

    def _fits(self, jobs: list[Job]) -> bool:
        budget = self._executor.budget
        needs = (
            (sum(job.cpus for job in jobs), budget.cpus),
            (sum(job.gpus for job in jobs), budget.gpus),
            (sum(job.memory_mb for job in jobs), budget.memory_mb),
        )
        return all(bound is None or need <= bound for need, bound in needs)

    def _end(self, outcome: Outcome) -> None:
        self._running.pop(outcome.key, None)
        self._waiting.pop(outcome.key, None)
        self.outcomes[outcome.key] = outcome
        self._emit(Event("ended", self.jobs[outcome.key], outcome))

    def _relay(self, key: str, message: dict[str, Any]) -> None:
        data = {name: value for name, value in message.items() if name != "type"}
        self._emit(Event("progress" if message["type"] == "progress" else "log", self.jobs[key], data=data))

    def _emit(self, event: Event) -> None:
        if self._on_event is not None:
            with self._lock:
                self._on_event(event)
