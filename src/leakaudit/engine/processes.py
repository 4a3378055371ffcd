"""Small pieces of Linux process control: dying with the parent, adopting orphans, process trees and their memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "adopt_orphans",
    "close_descriptors",
    "die_with_parent",
    "descendants",
    "exit_sentence",
    "kill_descendants",
    "resident_mb",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; for a forked child, where `parent` is the forker's id.

    The signal comes when the *thread* that forked ends, so only single-threaded processes may fork children that use this.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # It died before the call above.
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose parents die, so that none can slip away by forking twice."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below `pid`, parents before children, dead but unreaped ones included."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    """Direct children; the kernel lists them for each thread that forked."""
    children: list[int] = []
    listed = False
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as handle:
                children += map(int, handle.read().split())
                listed = True
    return children if listed else _children_by_scan(pid)


def _children_by_scan(pid: int) -> list[int]:
    """Direct children by asking every process for its parent: for kernels without lists of children."""
    children = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
                if int(stat.rpartition(")")[2].split()[1]) == pid:
                    children.append(int(name))
    return children


def resident_mb(pids: Iterable[int]) -> float:
    """Sum of the resident memory of processes in MB; pages that they share are counted for each."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm") as handle:
            pages += int(handle.read().split()[1])
    return pages * _PAGE_MB


def kill_descendants(seconds: float = 5.0) -> None:
    """Kill and reap everything below this process, including what it adopts meanwhile (see `adopt_orphans`).

    Gives up after `seconds`: a process in an uninterruptible system call cannot be killed.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def close_descriptors(keep: Iterable[int]) -> None:
    """Close every file descriptor but those in `keep`."""
    wanted = set(keep)
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor not in wanted:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def exit_sentence(wait_status: int) -> str:
    """Say how a process ended, from the status that `os.waitpid` gives."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code >= 0:
        return f"its process exited with code {code} before it had finished"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"number {-code}"
    hint = "; often the machine had run out of memory" if -code == signal.SIGKILL else ""
    return f"its process was killed by signal {name}{hint}"
