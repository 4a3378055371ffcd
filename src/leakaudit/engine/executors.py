"""Executors take ready jobs and give outcomes in any order. The graph is the scheduler's business."""

from __future__ import annotations

import os
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leakaudit.engine import worker
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.reasons import public_sentence, sentence
from leakaudit.plugins.params import ExecutorParams

__all__ = ["Budget", "Executor", "Local", "LocalExecutor", "LocalParams"]


@dataclass(frozen=True)
class Budget:
    """What jobs that run at the same time may need together; None for no bound (an executor with its own queue)."""

    cpus: int | None = None
    gpus: int | None = None
    memory_mb: float | None = None

    @classmethod
    def of_this_machine(cls, gpus: int = 1) -> Budget:
        """Cores that this process may use and the memory that is free now; accelerators as given."""
        return cls(len(os.sched_getaffinity(0)), gpus, _free_memory_mb())


class Executor(ABC):
    """Runs jobs somewhere.

    Attributes:
        slots: How many jobs may be submitted and unfinished at a time.
        budget: What they may need together.
        on_message: Set by the scheduler; called with a job's key and its log lines and progress, from any thread.
    """

    slots: int = 1
    budget: Budget = Budget()
    on_message: Callable[[str, worker.Message], None] | None = None

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Start a job, or queue it; returns at once."""

    @abstractmethod
    def next_outcome(self, timeout: float | None = None) -> Outcome | None:
        """Wait for any submitted job to end; None when none has within `timeout` seconds."""

    @abstractmethod
    def close(self) -> None:
        """Kill what still runs and free everything. May be called twice."""


class LocalExecutor(Executor):
    """Jobs on this machine, each in a process of its own.

    A thread waits for each running job, and nothing is shared between jobs: one that hangs, crashes or exits leaves the
    others alone. One worker is serial execution.

    Args:
        store_root: Folder of the run store.
        workers: Jobs at a time.
        budget: What they may need together; by default the whole machine.
    """

    def __init__(self, store_root: Path, workers: int = 1, budget: Budget | None = None) -> None:
        if workers < 1:
            raise ValueError(f"An executor needs at least one worker, not {workers}.")
        self.slots = workers
        self.budget = budget or Budget.of_this_machine()
        self._store_root = str(store_root)
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._threads: set[threading.Thread] = set()

    def submit(self, job: Job) -> None:
        """Start a job in its thread.

        Raises:
            RuntimeError: The executor is closed.
        """
        if self._cancelled.is_set():
            raise RuntimeError("The executor is closed.")
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        thread = threading.Thread(target=self._run, args=(job,), name=f"job {job.label}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def next_outcome(self, timeout: float | None = None) -> Outcome | None:
        """Wait for any submitted job to end; None when none has within `timeout` seconds."""
        try:
            return self._outcomes.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Kill all running jobs with all their processes and wait until they are gone."""
        self._cancelled.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _run(self, job: Job) -> None:
        def relay(message: worker.Message) -> None:
            if self.on_message is not None:
                self.on_message(job.key, message)

        try:
            outcome = worker.main(job.to_json(), self._store_root, job.environment, on_message=relay, cancelled=self._cancelled)
        except Exception as error:  # noqa: BLE001 - a job that cannot be started is an outcome like any other
            words = [f"The job could not be started: {text}" for text in (sentence(error), public_sentence(error))]
            outcome = Outcome(job.key, "error", words[0], public=words[1])
        self._outcomes.put(outcome)


class LocalParams(ExecutorParams):
    """The local executor has no parameters of its own: `run.workers` and `run.threads` say what it needs."""


class Local(LocalExecutor):
    """`LocalExecutor` as the plugin `local`.

    Args:
        params: Its parameters.
        store_root: Folder of the run store.
        workers: Jobs at a time.
    """

    def __init__(self, params: LocalParams, store_root: Path, workers: int) -> None:
        super().__init__(store_root, workers)
        self.params = params


def _free_memory_mb() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) / 1024
    raise OSError("The kernel does not say how much memory is available (no MemAvailable in /proc/meminfo).")
