"""The clean child: a process for foreign code, forked before its parent learns what the job is.

Within one process privacy is fiction: frames and the garbage collector lead to everything. So the child is forked while the
job's process knows nothing yet; job, paths, seeds and data come later, through a pipe that the child has closed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leakaudit.engine.childlife import live
from leakaudit.engine.processes import exit_sentence

__all__ = ["ChildDied", "ChildError", "ChildTimeout", "CleanChild"]

_LARGEST_ANSWER = 2**24


class ChildError(Exception):
    """The code in the clean child failed; the message is one sentence that says how.

    Attributes:
        public: The sentence without the words of code that is not leakaudit's.
    """

    def __init__(self, message: str, public: str | None = None) -> None:
        super().__init__(message)
        self.public = message if public is None else public


class ChildTimeout(ChildError):
    """The code in the clean child was still running at the end of its time and was killed."""


class ChildDied(ChildError):
    """The clean child's process ended without an answer."""


class CleanChild:
    """Handle of a clean child, held by the job's process. It answers one call.

    Attributes:
        sandbox: `landlock` or `none`: whether the kernel keeps the child off all other files. Known after a call.
    """

    def __init__(self, pid: int, request: int, answer: int, output: int) -> None:
        self._pid, self._request, self._answer, self._output = pid, request, answer, output
        self._used = False
        self._torch = (1, True)
        self._log: Callable[[str], None] = lambda line: None
        self.sandbox = ""

    @classmethod
    def fork(cls) -> CleanChild:
        """Fork the child. To be called before anything that it must not know is in memory, and from a single thread."""
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        output_read, output_write = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            live(parent, request_read, answer_write, output_write)
        for descriptor in (request_read, answer_write, output_write):
            os.close(descriptor)
        return cls(pid, request_write, answer_read, output_read)

    def configure(self, threads: int, deterministic: bool, log: Callable[[str], None]) -> None:
        """Set how torch is set up in the child and where the lines that it prints go."""
        self._torch, self._log = (threads, deterministic), log

    def call(self, target: str, folder: Path, timeout: float | None = None) -> dict[str, Any]:
        """Call `function(folder)` in the child, with `folder` as working directory, and end the child.

        Args:
            target: Import string `module:function`.
            folder: The one folder that the child may read and write.
            timeout: Seconds after which the child is killed; None for as long as the job may take.

        Returns:
            The JSON object that the function returned.

        Raises:
            ChildTimeout: It did not answer in time.
            ChildDied: It exited, crashed or was killed.
            ChildError: It raised, or returned something other than a small JSON object; or this is a second call.
        """
        if self._used:
            raise ChildError("The clean child answers only one call.")
        self._used = True
        threads, deterministic = self._torch
        request = {"target": target, "folder": os.fspath(folder), "path": _import_folders(target)}
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._request, "w") as pipe:
            pipe.write(json.dumps({**request, "threads": threads, "deterministic": deterministic}))
        try:
            answer = self._wait(timeout)
        finally:
            status = self._end()
        if answer is None:
            raise ChildDied(f"The process of {target} gave no answer: {exit_sentence(status)}.")
        if "error" in answer:
            self._log(answer.get("traceback", ""))
            raise ChildError(str(answer["error"]), str(answer.get("public", "")))
        if not isinstance(answer.get("result"), dict):
            raise ChildError(f"{target} returned a {type(answer.get('result')).__name__}; expected a JSON object (a dict).")
        return dict(answer["result"])

    def _wait(self, timeout: float | None) -> dict[str, Any] | None:
        """Read until the answer is there, the child is dead or time is up; None when it died."""
        end = None if timeout is None else time.monotonic() + timeout
        death = os.pidfd_open(self._pid)
        poll = select.poll()
        for descriptor in (self._answer, self._output, death):
            poll.register(descriptor, select.POLLIN)
        received = bytearray()
        try:
            while True:
                left = None if end is None else max(0.0, end - time.monotonic())
                ready = {descriptor for descriptor, _ in poll.poll(None if left is None else left * 1000)}
                if not ready:
                    raise ChildTimeout(f"Still running after its {timeout:g} s.")
                if self._output in ready and not self._relay():
                    poll.unregister(self._output)
                if self._answer in ready:
                    chunk = os.read(self._answer, 2**16)
                    received += chunk
                    answer = self._parse(received)
                    if answer is not None:
                        return answer
                    if not chunk:
                        poll.unregister(self._answer)
                elif death in ready:
                    return None
        finally:
            os.close(death)

    def _parse(self, received: bytearray) -> dict[str, Any] | None:
        """Read the first line (the sandbox, written before foreign code runs) and the second (the answer) once complete."""
        if len(received) > _LARGEST_ANSWER:
            raise ChildError("It returned more than 16 MB; large results belong into files in its folder.")
        lines = bytes(received).split(b"\n", 2)
        if len(lines) > 1 and not self.sandbox:
            self.sandbox = "landlock" if b'"landlock"' in lines[0] else "none"
        if len(lines) < 3:
            return None
        try:
            answer = json.loads(lines[1])
        except ValueError:
            answer = None
        broken = "It wrote something that is not an answer."
        return answer if isinstance(answer, dict) else {"error": broken, "public": broken}

    def _relay(self) -> bool:
        """Pass on what the child printed; False at the end of its output."""
        text = os.read(self._output, 2**16).decode("utf-8", errors="replace")
        for line in text.splitlines():
            self._log(line)
        return bool(text)

    def _end(self) -> int:
        """Kill the child's session and return its wait status."""
        os.set_blocking(self._output, False)
        with contextlib.suppress(BlockingIOError):
            while self._relay():
                pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        for descriptor in (self._answer, self._output):
            os.close(descriptor)
        return os.waitpid(self._pid, 0)[1]


def _import_folders(target: str) -> list[str]:
    """Folders to import the target's package from: all that the child is told of this process's import path.

    The rest may name the caller's working directory. Installed packages are on the child's own import path.
    """
    try:
        spec = importlib.util.find_spec(target.partition(":")[0].split(".", 1)[0])
    except ValueError:  # A module without a spec, such as `__main__`.
        return []
    if spec is None:
        return []
    places = list(spec.submodule_search_locations or []) or [spec.origin or ""]
    return [str(Path(place).parent) for place in places if os.path.isabs(place)]
