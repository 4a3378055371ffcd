from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from leakaudit.engine.executors import Budget, Executor, LocalExecutor
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.owners import start_ticks
from leakaudit.engine.scheduler import Event, run_jobs
from leakaudit.engine.store import RunStore

Make = Callable[..., Job]


class Recorder(Executor):
    """Runs nothing: outcomes as told, first in first out; keeps what was submitted and how much ran beside it."""

    def __init__(self, store: RunStore, slots: int = 2, budget: Budget | None = None, failing: tuple[str, ...] = ()) -> None:
        self.slots, self.budget = slots, budget or Budget()
        self._store, self._failing = store, failing
        self.order: list[str] = []
        self.beside: list[set[str]] = []
        self._queue: list[Job] = []
        self.closed = False

    def submit(self, job: Job) -> None:
        self.order.append(job.label)
        self._queue.append(job)
        self.beside.append({one.label for one in self._queue})

    def next_outcome(self, timeout: float | None = None) -> Outcome | None:
        job = self._queue.pop(0)
        if job.label in self._failing:
            return Outcome(job.key, "timeout", "Too slow.", 1.0)
        with self._store.write(job.key, {"kind": job.kind, "sensitive": False}):
            pass
        return Outcome(job.key, "ok", seconds=1.0)

    def close(self) -> None:
        self.closed = True


def test_eight_jobs_of_which_one_exits_hard(make_job: Make, store: RunStore) -> None:
    jobs = [make_job("exit_hard" if i == 3 else "write", label=f"job {i}", value=i) for i in range(8)]
    executor = LocalExecutor(store.root, workers=2, budget=Budget())
    outcomes = run_jobs(jobs, executor, store)
    executor.close()
    assert [outcomes[job.key].status for job in jobs] == ["ok"] * 3 + ["killed"] + ["ok"] * 4
    again = run_jobs(jobs, Recorder(store), store)
    assert [again[job.key].cached for job in jobs] == [i != 3 for i in range(8)]


def test_results_flow_along_the_graph_and_a_failure_blocks_only_its_dependents(make_job: Make, store: RunStore) -> None:
    a = make_job("write", label="a", value=1)
    bad = make_job("raise_error", label="bad")
    b = make_job("write", label="b", value=10, inputs=(a.key,))
    c = make_job("write", label="c", value=100, inputs=(a.key, b.key))
    below = make_job("write", label="below", inputs=(b.key, bad.key))
    lower = make_job("write", label="lower", inputs=(below.key,))
    executor = LocalExecutor(store.root, workers=2, budget=Budget())
    outcomes = run_jobs([lower, below, c, b, bad, a, a], executor, store)
    executor.close()
    assert list(outcomes) == [job.key for job in (lower, below, c, b, bad, a)]
    assert outcomes[c.key].detail == {"total": 100 + 1 + 11}
    assert outcomes[bad.key].status == "error"
    assert outcomes[below.key].status == outcomes[lower.key].status == "blocked"
    assert outcomes[lower.key].reason.startswith("It needs toy bad, which ended with error: ValueError")


def test_finished_jobs_are_not_run_again_even_when_their_inputs_are_gone(make_job: Make, store: RunStore) -> None:
    a = make_job("write", label="a")
    b = make_job("write", label="b", inputs=(a.key,))
    first = Recorder(store)
    run_jobs([a, b], first, store)
    second = Recorder(store)
    outcomes = run_jobs([a, b], second, store)
    assert (first.order, second.order) == (["a", "b"], [])
    assert all(outcome.ok and outcome.cached for outcome in outcomes.values())
    store.prune(keep={b.key})
    third = Recorder(store)
    assert run_jobs([b], third, store)[b.key].cached
    assert third.order == []


def test_order_budget_and_slots(make_job: Make, store: RunStore) -> None:
    needs = {"small": 1, "middle": 2, "large": 3, "huge": 9}
    jobs = [make_job("write", label=label, job={"cpus": cpus}) for label, cpus in needs.items()]
    executor = Recorder(store, slots=3, budget=Budget(cpus=4))
    run_jobs(jobs, executor, store, expected_s=lambda job: job.cpus)
    assert executor.order[0] == "huge"
    assert {"huge"} in executor.beside
    assert all(len(group) == 1 or sum(needs[label] for label in group) <= 4 for group in executor.beside)
    assert {"large", "small"} in executor.beside
    memory = Recorder(RunStore(store.root / "other"), budget=Budget(memory_mb=1500))
    run_jobs(jobs, memory, RunStore(store.root / "other"))
    assert all(len(group) == 1 for group in memory.beside)


def test_missing_inputs_block_and_circles_are_refused(make_job: Make, store: RunStore) -> None:
    orphan = make_job("write", label="orphan", inputs=("ff" * 32,))
    outcome = run_jobs([orphan], Recorder(store), store)[orphan.key]
    assert (outcome.status, "neither planned nor stored" in outcome.reason) == ("blocked", True)
    one = Job("aa" * 32, "toy", "one", {}, ("bb" * 32,))
    two = Job("bb" * 32, "toy", "two", {}, ("aa" * 32,))
    executor = Recorder(store)
    with pytest.raises(ValueError, match="circle: toy one, toy two"):
        run_jobs([one, two], executor, store)
    assert executor.closed


def test_events_tell_the_story_in_order(make_job: Make, store: RunStore) -> None:
    a, b = make_job("write", label="a"), make_job("write", label="b", job={"kind": "other"})
    bad = make_job("write", label="bad")
    c = make_job("write", label="c", inputs=(bad.key,))
    with store.write(b.key, {"kind": "other", "sensitive": False}):
        pass
    events: list[Event] = []
    run_jobs([a, b, bad, c], Recorder(store, slots=1, failing=("bad",)), store, events.append)
    assert [(event.kind, event.job.label) for event in events] == [
        *(("planned", label) for label in ("a", "b", "bad", "c")),
        *(("ended", "b"), ("started", "a"), ("ended", "a"), ("started", "bad"), ("ended", "bad"), ("ended", "c")),
    ]


def test_executor_that_cannot_start_jobs_gives_errors(make_job: Make, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from leakaudit.engine import worker

    def broken(*_: object, **__: object) -> Outcome:
        raise OSError("no more processes")

    monkeypatch.setattr(worker, "main", broken)
    job = make_job("write")
    executor = LocalExecutor(store.root, budget=Budget())
    outcome = run_jobs([job], executor, store)[job.key]
    assert outcome.status == "error"
    assert "could not be started: OSError: no more processes" in outcome.reason
    executor.close()
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(job)


SCRIPT = """
import pathlib, sys
from leakaudit.engine import forkserver
from leakaudit.engine.executors import Budget, LocalExecutor
from leakaudit.engine.jobs import Job
from leakaudit.engine.scheduler import run_jobs
from leakaudit.engine.store import RunStore
root, tests, pids = sys.argv[1:]
sys.path.append(tests)
forkserver._shared = forkserver.ForkServer(preload="json")
store = RunStore(pathlib.Path(root))
job = Job("ab" * 32, "toy", "hang", {"runner": "toy_runners:hang", "pids": pids})
try:
    run_jobs([job], LocalExecutor(store.root, budget=Budget()), store)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_or_killed_run_leaves_neither_processes_nor_scratch_folders(tmp_path: Path, number: signal.Signals) -> None:
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "store"), str(Path(__file__).parent), str(pids)]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # Whoever started the tests in the background may have left the interrupt ignored, which a child inherits.
    run = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(temporary)}, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    try:
        end = time.monotonic() + 60
        while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < end:
            time.sleep(0.02)
        assert len(list(temporary.iterdir())) == 1
        run.send_signal(number)
        assert run.wait(timeout=20) == (130 if number == signal.SIGINT else -signal.SIGKILL)
        end = time.monotonic() + 5
        while time.monotonic() < end and (
            any(start_ticks(int(pid)) != -1 for pid in pids.read_text().split()) or any(temporary.iterdir())
        ):
            time.sleep(0.02)
        assert list(temporary.iterdir()) == []
        assert [pid for pid in pids.read_text().split() if start_ticks(int(pid)) != -1] == []
    finally:
        run.kill()
        run.wait()
