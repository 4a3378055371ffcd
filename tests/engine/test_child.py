from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.landlock import supported_version

Call = Callable[..., Outcome]
SECRET = "SECRET-TOKEN-42"


@pytest.fixture
def call(make_job: Callable[..., Job], run: Call) -> Call:
    """Run a job that calls a function of foreign.py in its clean child."""

    def start(function: str, on_message: Any = None, **spec: Any) -> Outcome:
        job = make_job("call_child", target=f"foreign:{function}", job={"isolated": True, "wall_s": 20}, **spec)
        return run(job, on_message=on_message)

    return start


def test_foreign_code_works_in_its_folder_and_answers(call: Call) -> None:
    lines: list[str] = []
    outcome = call("honest", on_message=lambda message: lines.append(message.get("text", "")))
    assert outcome.ok, outcome.reason
    answer = outcome.detail["answer"]
    assert (answer["value"], answer["cwd"]) == (3.0, True)
    assert outcome.detail["written"] == ["evidence.txt", "given.txt"]
    assert "foreign print" in lines
    assert outcome.sandbox == ("landlock" if supported_version() else "none")
    assert not Path(outcome.detail["scratch"]).exists()


@pytest.mark.parametrize(
    ("function", "failure", "words"),
    [
        ("raises", "ChildError", "RuntimeError: no reconstruction of [...] (foreign.py:"),
        ("exits", "ChildDied", "exited with code 5"),
        ("crashes", "ChildDied", "SIGSEGV"),
        ("hangs", "ChildTimeout", "after its 0.5 s"),
        ("returns_list", "ChildError", "returned a list"),
        ("returns_object", "ChildError", "not JSON serializable"),
        ("missing", "ChildError", "missing"),
    ],
)
def test_failure_of_foreign_code_is_told_and_leaves_the_job_alive(call: Call, function: str, failure: str, words: str) -> None:
    started = time.monotonic()
    outcome = call(function, timeout=0.5 if function == "hangs" else 15)
    assert outcome.ok, outcome.reason
    assert outcome.detail["answer"]["failure"] == failure
    assert words in outcome.detail["answer"]["text"]
    assert time.monotonic() - started < 8


def test_hostile_code_finds_no_trace_of_the_job(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOY_PASSWORD", SECRET)
    secret_folder = tmp_path / SECRET
    secret_folder.mkdir()
    monkeypatch.chdir(secret_folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    outcome = call("snoop", seed=SECRET, patients=[SECRET], label=SECRET)
    assert outcome.ok, outcome.reason
    answer = outcome.detail["answer"]
    assert answer.get("found") == [], answer
    assert all(length > 0 for length in answer["searched"].values())
    assert answer["searched"]["gc"] > 100_000


def test_search_of_the_hostile_code_does_find_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same search, in a process that does hold the secret, finds it in every place where it is."""
    folder = tmp_path / "view"
    folder.mkdir()
    (tmp_path / "beside.txt").write_text(SECRET)
    code = (
        "import json, pathlib, sys; sys.path.append(sys.argv[1]); import foreign; kept = [sys.argv[3]];"
        "print(json.dumps(foreign.snoop(pathlib.Path(sys.argv[2]))['found']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(folder), SECRET],
        env={"TOY_PASSWORD": SECRET},
        capture_output=True,
        text=True,
        check=True,
    )
    for place in ("frames", "gc", "environ", "cmdline", "beside", "memory"):
        assert place in result.stdout


def test_landlock_keeps_foreign_code_in_its_folder(call: Call) -> None:
    version = supported_version()
    if version == 0:
        pytest.skip("the kernel has no Landlock")
    outcome = call("escape")
    assert outcome.sandbox == "landlock"
    answer = outcome.detail["answer"]
    assert answer["own files"] == "done"
    assert answer["list"] == answer["write"] == answer["environ"] == "PermissionError"
    assert answer["connect"] == ("PermissionError" if version >= 4 else "ConnectionRefusedError")
    if version >= 6:
        assert answer["signal"] == "PermissionError"


def test_job_that_is_not_isolated_has_no_child(make_job: Callable[..., Job], run: Call) -> None:
    outcome = run(make_job("call_child", target="foreign:honest"))
    assert outcome.status == "error"
    assert "isolated=True" in outcome.reason
