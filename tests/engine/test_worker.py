from __future__ import annotations

import os
import pkgutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leakaudit.engine import cells, forkserver, worker
from leakaudit.engine.forkserver import ForkServer
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.keys import digest, environment
from leakaudit.engine.owners import start_ticks
from leakaudit.engine.processes import _children_by_scan, descendants
from leakaudit.engine.reasons import sentence
from leakaudit.engine.store import RunStore

Make = Callable[..., Job]
Run = Callable[..., Outcome]


def is_gone(pid: int, seconds: float = 3.0) -> bool:
    end = time.monotonic() + seconds
    while start_ticks(pid) != -1 and time.monotonic() < end:
        time.sleep(0.02)
    return start_ticks(pid) == -1


def pids_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def test_job_gives_its_result_log_and_progress(make_job: Make, run: Run, store: RunStore) -> None:
    messages: list[dict[str, Any]] = []
    job = make_job("write", value=7)
    outcome = run(job, on_message=messages.append)
    assert (outcome.status, outcome.reason, outcome.detail) == ("ok", "", {"total": 7})
    entry = store.get(job.key)
    assert entry is not None
    assert entry.json("out.json") == 7
    assert {"type": "progress", "done": 1, "total": 2} in messages
    assert [m["text"] for m in messages if m["type"] == "log"] == ["half way", "there", "printed"]


def test_once_the_server_is_warm_a_job_starts_in_a_fraction_of_a_second(make_job: Make, run: Run) -> None:
    run(make_job("write", label="warm"))
    started = time.monotonic()
    assert run(make_job("write", label="timed")).ok
    assert time.monotonic() - started < 2.0


def test_what_cells_import_is_there_before_a_job_and_its_collector_leaves_that_alone(make_job: Make, run: Run) -> None:
    kinds = [f"{cells.__name__}.{module.name}" for module in pkgutil.iter_modules(cells.__path__)]
    assert len(kinds) > 3
    told = run(make_job("loaded", modules=kinds)).detail
    assert told["there"] == kinds
    assert told["frozen"] > 100_000
    assert told["collects"]


def test_settings_reach_the_job_before_its_runner(make_job: Make, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_VARIABLE", "set after the server started")
    first = run(make_job("settings", threads=2, deterministic=True)).detail
    second = run(make_job("settings", threads=1, deterministic=False)).detail
    assert (first["threads"], first["deterministic"]) == (2, True)
    assert (second["threads"], second["deterministic"]) == (1, False)
    assert first["variable"] == "set after the server started"
    assert first["workspace"] == ":4096:8"
    assert first["cwd"] == os.getcwd()
    assert first["hash"] == second["hash"]


def test_environment_of_the_plan_must_match(make_job: Make, run: Run) -> None:
    job = make_job("write", threads=1)
    assert run(job, environment=digest(environment("cpu", 1, True))).ok
    refused = run(make_job("write", threads=2), environment=digest(environment("cpu", 1, True)))
    assert refused.status == "error"
    assert "environment is not the one" in refused.reason


def test_exception_becomes_one_sentence_without_data_or_folders(make_job: Make, run: Run) -> None:
    outcome = run(make_job("raise_error"))
    assert outcome.status == "error"
    assert outcome.reason.startswith("ValueError: patient tensor(...)")
    assert "toy_runners.py:" in outcome.reason
    assert outcome.reason.endswith(" in raise_error)")
    assert "/secret" not in outcome.reason


def test_runner_that_stores_nothing_is_an_error(make_job: Make, run: Run) -> None:
    outcome = run(make_job("forget"))
    assert (outcome.status, "without storing its result" in outcome.reason) == ("error", True)


def test_unknown_runner_is_an_error(make_job: Make, run: Run) -> None:
    outcome = run(make_job("no_such_function"))
    assert outcome.status == "error"
    assert "no_such_function" in outcome.reason


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        ("exit_hard", "exited with code 3"),
        ("exit_softly", "exited with code 4"),
        ("kill_itself", "SIGKILL"),
    ],
)
def test_death_of_the_process_is_told_with_its_cause(make_job: Make, run: Run, runner: str, words: str) -> None:
    outcome = run(make_job(runner))
    assert outcome.status == "killed"
    assert words in outcome.reason


def test_hang_ends_at_the_limit_with_all_that_it_started(make_job: Make, run: Run, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()
    outcome = run(make_job("hang", pids=str(pids), job={"wall_s": 1.0}))
    assert outcome.status == "timeout"
    assert "limit of 1 s" in outcome.reason
    assert 1.0 <= outcome.seconds < 3.0
    assert time.monotonic() - started < 4.0
    assert len(pids_in(pids)) == 2
    assert all(is_gone(pid) for pid in pids_in(pids))


def test_job_that_ends_well_leaves_no_process_either(make_job: Make, run: Run, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    assert run(make_job("leave_daemon", pids=str(pids))).ok
    assert all(is_gone(pid) for pid in pids_in(pids))


def test_killed_supervisor_takes_its_job_along(make_job: Make, run: Run, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    outcome = run(make_job("kill_supervisor", pids=str(pids)))
    assert outcome.status == "killed"
    assert all(is_gone(pid) for pid in pids_in(pids))


def test_death_of_the_fork_server_harms_neither_running_nor_later_jobs(
    make_job: Make, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ForkServer(preload="json")
    monkeypatch.setattr(worker, "shared", lambda: server)
    outcomes: list[Outcome] = []
    pids = tmp_path / "pids"
    job = make_job("leave_daemon", pids=str(pids), sleep=1.0)
    thread = threading.Thread(target=lambda: outcomes.append(run(job)))
    thread.start()
    while not (pids.exists() and len(pids_in(pids)) == 2):
        time.sleep(0.02)
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    thread.join()
    assert outcomes[0].ok, outcomes[0].reason
    assert all(is_gone(pid) for pid in pids_in(pids))
    assert run(make_job("write", label="later")).ok
    assert server.pid not in (None, first)
    server.close()
    assert server.pid is None


def test_cancelling_kills_the_job(make_job: Make, run: Run, tmp_path: Path) -> None:
    pids, cancelled = tmp_path / "pids", threading.Event()

    def cancel_once_started() -> None:
        while not (pids.exists() and len(pids_in(pids)) == 2):
            time.sleep(0.02)
        cancelled.set()

    thread = threading.Thread(target=cancel_once_started)
    thread.start()
    outcome = run(make_job("hang", pids=str(pids)), cancelled=cancelled)
    thread.join()
    assert (outcome.status, outcome.reason) == ("killed", "The run was interrupted.")
    assert all(is_gone(pid, seconds=0) for pid in pids_in(pids))


def test_peak_memory_is_measured_and_limited(make_job: Make, run: Run) -> None:
    small, large = run(make_job("use_memory", mb=1)), run(make_job("use_memory", mb=150))
    assert small.ok
    assert large.ok
    assert 120 < large.peak_mb - small.peak_mb < 220
    limit = int(small.peak_mb) + 75
    over = run(make_job("use_memory", mb=150, sleep=30, job={"memory_limit_mb": limit}))
    assert over.status == "killed"
    assert f"more than its limit of {limit} MB" in over.reason
    assert over.seconds < 10


def test_both_ways_to_list_children_agree(make_job: Make) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        assert pid in descendants(os.getpid())
        assert pid in _children_by_scan(os.getpid())
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(pid, 0)


def test_sentences_hide_data_and_keep_shapes() -> None:
    def text(message: str) -> str:
        return sentence(RuntimeError(message))

    assert text("shape [2, 3, 4] and (4x5)") == "RuntimeError: shape [2, 3, 4] and (4x5)"
    assert text("got [[0.1, 0.2], [0.3, 0.4]] here") == "RuntimeError: got [[...], [...]] here"
    assert text("ids [1, 2, 3, 4, 5, 6, 7, 8, 9]") == "RuntimeError: ids [...]"
    assert text("array([[1, 2],\n [3, 4]])") == "RuntimeError: array(...)"
    assert text("no file '/data/site a/x.nii.gz' in /home/someone/y") == "RuntimeError: no file 'x.nii.gz' in y"
    assert text("ratio a/b is 0.5") == "RuntimeError: ratio a/b is 0.5"
    assert len(text("word " * 1000)) < 330
    assert sentence(KeyError()) == "KeyError"


def test_a_job_that_is_forked_while_the_dead_are_buried_is_no_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at all processes and the look at the supervised ones are two moments; a job may appear between them."""
    supervisor, job, looks, killed = 100, 101, [], []

    def tree(pid: int) -> list[int]:
        looks.append(pid)
        forked = [job] if len(looks) > 1 else []
        return [supervisor, *forked] if pid == os.getpid() else forked

    monkeypatch.setattr(forkserver, "descendants", tree)
    monkeypatch.setattr(forkserver.os, "kill", lambda pid, number: killed.append(pid))
    forkserver._reap({supervisor})
    assert not killed
