"""The process that does a job: it reads the job, sets itself up, calls the runner, and says how it went."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from leakaudit.engine.child import CleanChild
from leakaudit.engine.jobs import Job
from leakaudit.engine.keys import digest, environment
from leakaudit.engine.processes import die_with_parent
from leakaudit.engine.reasons import public_sentence, sentence
from leakaudit.engine.store import RunStore
from leakaudit.engine.torchsetup import set_up_torch, thread_variables

__all__ = ["Context", "job_process"]

_LONGEST_LINE = 4000
_LARGEST_DETAIL = 60_000


@dataclass(frozen=True)
class Context:
    """What a runner gets beside its spec.

    Attributes:
        job: The job itself; the runner stores its result under `job.key`.
        store: The run store, for reading inputs and writing the result.
        scratch: A folder for temporary files, far from the store; it goes when the job ends, however it ends.
    """

    job: Job
    store: RunStore
    scratch: Path
    _channel: int
    _child: CleanChild | None

    @property
    def child(self) -> CleanChild:
        """The clean child for foreign code.

        Raises:
            RuntimeError: The job is not isolated.
        """
        if self._child is None:
            raise RuntimeError(f"The {self.job.kind} job has no clean child; it must be made with isolated=True.")
        return self._child

    def log(self, text: str) -> None:
        """Write lines into the run's log."""
        for line in text.splitlines():
            self._send({"type": "log", "text": line[:_LONGEST_LINE]})

    def progress(self, done: float, total: float) -> None:
        """Say how far the job is, in any unit."""
        self._send({"type": "progress", "done": done, "total": total})

    def _send(self, message: dict[str, Any]) -> None:
        os.write(self._channel, json.dumps(message).encode())


def job_process(isolated: bool, channel: int, job_pipe: int, output: int, parent: int) -> NoReturn:
    """Live as a job's process, just forked; leaves only by exiting.

    Args:
        isolated: Whether to fork a clean child, which happens before the job is read.
        channel: Packet socket for messages to the worker.
        job_pipe: Pipe with the job and what it needs, as one JSON object.
        output: Pipe for what the job prints.
        parent: Process id of the supervisor.
    """
    code = 0
    try:
        die_with_parent(parent)
        os.dup2(output, 1)
        os.dup2(output, 2)
        child = CleanChild.fork() if isolated else None
        with os.fdopen(job_pipe, "r") as pipe:
            order = json.loads(pipe.read())
        message = _perform(order, channel, child)
        os.write(channel, json.dumps({"type": "result", **message}).encode())
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - nothing may run above this frame: it belongs to the fork server
        traceback.print_exc()
        code = 70
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _perform(order: dict[str, Any], channel: int, child: CleanChild | None) -> dict[str, Any]:
    """Run the job and return the fields of its result message."""
    detail: dict[str, Any] = {}
    try:
        context = _set_up(order, channel, child)
        job = context.job
        module, _, function = job.spec["runner"].partition(":")
        detail = getattr(importlib.import_module(module), function)(job.spec, context) or {}
        if len(json.dumps(detail)) > _LARGEST_DETAIL:
            raise ValueError("The runner returned more than 60 kB; results belong into the store.")
        if not context.store.has(job.key):
            raise LookupError("The runner ended without storing its result.")
    except Exception as error:  # noqa: BLE001 - whatever a cell raises becomes its outcome
        traceback.print_exc()
        said = {"reason": sentence(error), "public": public_sentence(error)}
        return {"status": "error", **said, "sandbox": child.sandbox if child else ""}
    return {"status": "ok", "reason": "", "detail": detail, "sandbox": child.sandbox if child else ""}


def _set_up(order: dict[str, Any], channel: int, child: CleanChild | None) -> Context:
    """Take over the worker's environment and import path, and prepare torch."""
    job = Job.from_json(order["job"])
    deterministic = bool(job.spec.get("deterministic", True))
    os.environ.clear()
    os.environ.update(order["environ"])
    os.environ.update(thread_variables(job.threads))
    with contextlib.suppress(OSError):
        os.chdir(order["cwd"])
    sys.path += [entry for entry in order["path"] if entry not in sys.path]
    set_up_torch(job.threads, deterministic)
    here = environment(str(job.spec.get("device", "cpu")), job.threads, deterministic)
    if job.environment and job.environment != digest(here):
        raise RuntimeError(f"This worker's environment is not the one the job was planned for; it has {here}.")
    scratch = Path(order["scratch"])
    scratch.mkdir(mode=0o700)
    context = Context(job, RunStore(Path(order["store"])), scratch, channel, child)
    if child is not None:
        child.configure(job.threads, deterministic, context.log)
    return context
