"""The fork server: a process with torch preloaded and a clean environment, from which jobs are forked.

It is ours rather than multiprocessing's because that one ships the caller's arguments, working directory and main module
to every process it forks, and the clean child must not have them.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import importlib
import json
import os
import platform
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import leakaudit
from leakaudit.engine.owners import clean_leftovers
from leakaudit.engine.processes import adopt_orphans, descendants, kill_descendants
from leakaudit.engine.supervisor import Limits, supervise
from leakaudit.engine.torchsetup import thread_variables
from leakaudit.errors import UserError

__all__ = ["SCRATCH_PREFIX", "ForkServer", "clean_scratch", "serve", "shared"]

SCRATCH_PREFIX = "leakaudit"
_END = b"end"
_PRELOAD = "leakaudit.engine.preload"
_INHERITED = (
    *("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
)
_START = (
    "import sys; sys.path.append(sys.argv[3]); from leakaudit.engine.forkserver import serve;serve(int(sys.argv[1]), sys.argv[2])"
)


class ForkServer:
    """Starts the fork server at the first job, and again should it die. Safe to use from several threads.

    Args:
        preload: Module that the server imports once, for all jobs.
    """

    def __init__(self, preload: str = _PRELOAD) -> None:
        self._preload = preload
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, limits: Limits, channel: int, job_pipe: int) -> None:
        """Fork a supervisor (and below it a job) that takes over the two file descriptors; the caller closes its own.

        Raises:
            UserError: The platform is not Linux.
        """
        with self._lock:
            message = json.dumps(dataclasses.asdict(limits)).encode()
            for attempt in range(2):
                control = self._started()
                try:
                    socket.send_fds(control, [message], [channel, job_pipe])
                    return
                except OSError:
                    self._stop()
                    if attempt:
                        raise

    @property
    def pid(self) -> int | None:
        """Process id of the server, or None when it does not run."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """End the server and with it all its jobs."""
        with self._lock:
            self._stop()

    def _started(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        if platform.system() != "Linux":
            raise UserError(
                f"Jobs run in processes that only Linux can keep within limits; this is {platform.system()}. "
                "Run leakaudit on Linux or in a Linux container.",
            )
        self._stop()
        clean_scratch()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                _START,
                str(theirs.fileno()),
                self._preload,
                str(Path(leakaudit.__file__).parent.parent),
            ],
            stdin=subprocess.DEVNULL,
            stdout=2,  # Standard output belongs to the caller's data.
            cwd="/",
            env=_clean_environment(),
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Out of reach of the terminal's Ctrl-C: the caller decides what that kills.
        )
        theirs.close()
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError), self._control:
                self._control.send(_END)
        if self._process is not None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


_shared = ForkServer()
atexit.register(_shared.close)


def shared() -> ForkServer:
    """Return the one fork server of this process."""
    return _shared


def _clean_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # A fixed hash seed: the order of a set of names must not differ from run to run.
    return {"LANG": "C.UTF-8", **kept, **thread_variables(1), "PYTHONHASHSEED": "0"}


def serve(descriptor: int, preload: str) -> None:
    """Be the fork server: fork a supervisor for each request on the socket, until its other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core dump would hold patient data.
    adopt_orphans()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    caller = os.getppid()
    _load(preload)
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    supervisors: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if wake_read in ready:
                os.read(wake_read, 4096)
                _reap(supervisors)
            if control in ready:
                message, received, _, _ = socket.recv_fds(control, 65536, 2)
                if message in (b"", _END):
                    break
                supervisors.add(_fork(json.loads(message), received, [control.fileno(), wake_read, wake_write, selector]))
    kill_descendants()
    if message != _END:
        _clean_up_after(caller)


def _load(preload: str) -> None:
    """Import what all jobs share, out of sight of the garbage collector: hundreds of thousands of objects, and none ever goes.

    A job's collector would walk through all of them and, by writing into them, copy the memory that they lie in.
    """
    gc.disable()
    importlib.import_module(preload)
    gc.freeze()
    gc.enable()


def _clean_up_after(caller: int) -> None:
    """Remove the scratch folders of a caller that was killed: they may hold patient data."""
    for _ in range(200):  # Its files close a moment before it counts as dead.
        if os.getppid() != caller:
            break
        time.sleep(0.01)
    clean_scratch()


def clean_scratch() -> None:
    """Remove the scratch folders of killed runs from the folder for temporary files."""
    clean_leftovers(Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}.*"))


def _fork(limits: dict[str, Any], received: list[int], private: list[Any]) -> int:
    """Fork a supervisor; returns its process id in the server and never in the supervisor."""
    channel, job_pipe = received
    pid = os.fork()
    if pid:
        os.close(channel)
        os.close(job_pipe)
        return pid
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for resource_ in private:
            os.close(resource_) if isinstance(resource_, int) else resource_.close()
        supervise(Limits(**limits), channel, job_pipe)
    except BaseException:  # noqa: BLE001 - a supervisor must never go on as a second server
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


def _reap(supervisors: set[int]) -> None:
    """Bury dead children, and kill what a supervisor that was itself killed has left to us."""
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            if pid in supervisors:
                supervisors.discard(pid)
    # All of ours first, those in good hands second: a job forked between the two looks is in neither list, while the other
    # order would take it for an orphan and kill it.
    ours = descendants(os.getpid())
    below: set[int] = set()
    for pid in supervisors:
        below |= {pid, *descendants(pid)}
    for pid in set(ours) - below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
