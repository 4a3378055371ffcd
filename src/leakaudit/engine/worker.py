"""Run one job in a process of its own: what every executor, local or remote, calls."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from leakaudit.engine.forkserver import SCRATCH_PREFIX, shared
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.owners import owned_name
from leakaudit.engine.supervisor import Limits

__all__ = ["Message", "main"]

Message = dict[str, Any]
"""`{"type": "log", "text": ...}` or `{"type": "progress", "done": ..., "total": ...}`."""

_LARGEST_PACKET = 2**18
_POLL_MS = 200
_GRACE_S = 30.0


def main(
    job_json: str,
    store_root: str,
    environment_digest: str,
    *,
    on_message: Callable[[Message], None] | None = None,
    cancelled: threading.Event | None = None,
) -> Outcome:
    """Run a job and return how it ended; nothing that the job does can raise here.

    Args:
        job_json: The job, as `Job.to_json` writes it.
        store_root: Folder of the run store.
        environment_digest: Digest of `keys.environment(...)` that the job was planned for; a worker that differs gives an
            error. Empty: any.
        on_message: Called with log lines and progress, in the calling thread.
        cancelled: When set, the job and all its processes are killed.

    Returns:
        The outcome.
    """
    job = replace(Job.from_json(job_json), environment=environment_digest)
    scratch = Path(tempfile.gettempdir()).absolute() / owned_name(SCRATCH_PREFIX)
    channel, channel_job = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with channel:
        try:
            with channel_job:
                pipe = _start(job, channel_job.fileno())
            with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "w") as handle:
                handle.write(_order(job, store_root, scratch))
            return _follow(job, channel, on_message, cancelled)
        finally:
            # The supervisor ends before its socket closes, so nothing writes here any more.
            shutil.rmtree(scratch, ignore_errors=True)


def _start(job: Job, channel: int) -> int:
    """Have the job's processes forked; returns the pipe that they wait for the job on."""
    limits = Limits(job.wall_s, job.memory_limit_mb, job.isolated)
    pipe_read, pipe_write = os.pipe()
    try:
        shared().fork(limits, channel, pipe_read)
    except BaseException:
        os.close(pipe_write)
        raise
    finally:
        os.close(pipe_read)
    return pipe_write


def _order(job: Job, store_root: str, scratch: Path) -> str:
    """What the job's process needs to know, as JSON; the clean child never sees it."""
    order = {
        "job": job.to_json(),
        "store": os.path.abspath(store_root),
        "scratch": str(scratch),
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "path": [os.path.abspath(entry) for entry in sys.path],
    }
    return json.dumps(order)


def _follow(
    job: Job,
    channel: socket.socket,
    on_message: Callable[[Message], None] | None,
    cancelled: threading.Event | None,
) -> Outcome:
    """Take messages until the supervisor has said how the job ended, or has died itself."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    result: Message | None = None
    started = time.monotonic()
    supervisor, deadline = None, float("inf")
    while True:
        if cancelled is not None and cancelled.is_set():
            channel.shutdown(socket.SHUT_WR)  # The supervisor kills the job and reports its end.
            cancelled = None
        if not poll.poll(_POLL_MS):
            if supervisor is not None and time.monotonic() > deadline:  # Something stopped the supervisor itself.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(supervisor, signal.SIGKILL)
            continue
        packet = _receive(channel)
        if not packet:
            reason = "The process that watches over the job was killed."
            return Outcome(job.key, "killed", reason, time.monotonic() - started)
        message: Message = json.loads(packet)
        kind = message["type"]
        if kind == "started":
            supervisor = int(message["pid"])
            deadline = time.monotonic() + job.wall_s + _GRACE_S
        elif kind == "result":
            result = message
        elif kind == "exit":
            return _outcome(job, message, result)
        elif on_message is not None:
            on_message(message)


def _receive(channel: socket.socket) -> bytes:
    try:
        return channel.recv(_LARGEST_PACKET)
    except ConnectionResetError:
        return b""


def _outcome(job: Job, end: Message, result: Message | None) -> Outcome:
    """Put together what the job said of itself and what the supervisor saw; a result that was stored counts."""
    base = Outcome(job.key, "killed", seconds=float(end["seconds"]), peak_mb=float(end["peak_mb"]))
    if result is not None:
        return replace(
            base,
            status=result["status"],
            reason=result["reason"],
            public=result.get("public", ""),
            detail=result.get("detail", {}),
            sandbox=result["sandbox"],
        )
    if end["stopped"] == "timeout":
        return replace(base, status="timeout", reason=f"It was still running after its limit of {job.wall_s:g} s.")
    if end["stopped"] == "memory":
        used = f"It used {base.peak_mb:.0f} MB, more than its limit of {job.memory_limit_mb} MB."
        return replace(base, reason=used)
    if end["stopped"] == "cancelled":
        return replace(base, reason="The run was interrupted.")
    how = str(end["how"])
    return replace(base, reason=f"{how[0].upper()}{how[1:]}.")
