"""The supervisor: a small process above each job that enforces its limits, measures it, and leaves nothing behind.

It adopts orphans, so a process that the job started cannot outlive it, whatever session or parent it chose.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from dataclasses import dataclass
from typing import Any

from leakaudit.engine.jobprocess import job_process
from leakaudit.engine.processes import (
    adopt_orphans,
    descendants,
    exit_sentence,
    kill_descendants,
    resident_mb,
)

__all__ = ["Limits", "send", "supervise"]

_SAMPLE_S = 0.05
_LONGEST_LINE = 4000


@dataclass(frozen=True)
class Limits:
    """What the supervisor needs to know of a job, and nothing more: the clean child is forked below it.

    Attributes:
        wall_s: Seconds until the job is killed.
        memory_mb: Resident memory of all its processes at which it is killed; None for no limit.
        isolated: Whether it gets a clean child.
    """

    wall_s: float
    memory_mb: float | None
    isolated: bool


@dataclass
class _Watch:
    """What was seen of a running job."""

    peak_mb: float = 0.0
    stopped: str = ""


def send(channel: int, message: dict[str, Any]) -> None:
    """Send one message (below 100 kB) to the worker; a packet socket keeps those of several processes apart."""
    os.write(channel, json.dumps(message).encode())


def supervise(limits: Limits, channel: int, job_pipe: int) -> None:
    """Fork the job's process and see it through; the last message on `channel` says how it ended.

    It does not need the fork server to live on: what ends it early is the worker, by its end of the channel.

    Args:
        limits: What to enforce.
        channel: Packet socket to the worker. When the worker shuts or closes its end, the job is killed.
        job_pipe: Where the job's process reads the job from. The supervisor never does.
    """
    os.setsid()
    adopt_orphans()
    output, output_write = os.pipe()
    started = time.monotonic()
    own_id = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(output)
        job_process(limits.isolated, channel, job_pipe, output_write, own_id)
    os.close(job_pipe)
    os.close(output_write)
    with contextlib.suppress(OSError):
        send(channel, {"type": "started", "pid": own_id})
    watch = _Watch()
    _watch(pid, limits, channel, output, started + limits.wall_s, watch)
    if watch.stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - started
    kill_descendants()
    _relay(output, channel, until_empty=True)
    message = {"type": "exit", "stopped": watch.stopped, "how": exit_sentence(status), "seconds": seconds}
    with contextlib.suppress(OSError):
        send(channel, {**message, "peak_mb": max(watch.peak_mb, usage.ru_maxrss / 1024)})


def _watch(pid: int, limits: Limits, channel: int, output: int, end: float, watch: _Watch) -> None:
    """Return when the job's process has ended (unreaped) or must be stopped; `watch.stopped` says why."""
    death = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(death, select.POLLIN)
    poll.register(output, select.POLLIN)
    poll.register(channel, select.POLLRDHUP)  # The worker shut its side, or died.
    next_sample = 0.0
    while True:
        now = time.monotonic()
        if now >= next_sample:
            used = resident_mb(descendants(os.getpid()))
            watch.peak_mb = max(watch.peak_mb, used)
            next_sample = now + _SAMPLE_S
            if limits.memory_mb is not None and used > limits.memory_mb:
                watch.stopped = "memory"
                return
        if now >= end:
            watch.stopped = "timeout"
            return
        ready = {descriptor for descriptor, _ in poll.poll(1000 * min(_SAMPLE_S, max(0.001, end - now)))}
        if channel in ready:
            watch.stopped = "cancelled"
            return
        if output in ready and not _relay(output, channel):
            poll.unregister(output)
        if death in ready:
            os.close(death)
            return


def _relay(output: int, channel: int, until_empty: bool = False) -> bool:
    """Pass on what the job printed, as log lines; False at the end of its output."""
    os.set_blocking(output, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            text = os.read(output, 2**16).decode("utf-8", errors="replace")
            for line in text.splitlines():
                with contextlib.suppress(OSError):
                    send(channel, {"type": "log", "text": line[:_LONGEST_LINE]})
            if not text:
                return False
            if not until_empty:
                return True
    return True
