"""Code as strangers write it, for the clean child; some of it searches for a secret that it must not find."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def honest(folder: Path) -> dict[str, Any]:
    print("foreign print")
    (folder / "evidence.txt").write_text((folder / "given.txt").read_text() * 2)
    return {"value": float(np.ones(3).sum()), "cwd": os.getcwd() == str(folder), "variables": sorted(os.environ)}


def raises(folder: Path) -> dict[str, Any]:
    raise RuntimeError(f"no reconstruction of {np.linspace(0, 1, 40)}")


def exits(folder: Path) -> dict[str, Any]:
    os._exit(5)


def crashes(folder: Path) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hangs(folder: Path) -> dict[str, Any]:
    time.sleep(60)
    return {}


def returns_list(folder: Path) -> list[int]:
    return [1, 2]


def returns_object(folder: Path) -> dict[str, Any]:
    return {"object": object()}


NEEDLE = re.compile("SECRET[-]TOKEN[-]42")  # Spelled so that neither this line nor the pattern is itself a hit.


def snoop(folder: Path) -> dict[str, Any]:
    """Search memory, process and files for the secret of the test."""
    places = {
        "frames": _frames(),
        "gc": _heap(),
        "environ": str(dict(os.environ)) + _read("/proc/self/environ"),
        "cmdline": _read("/proc/self/cmdline") + str(sys.argv) + str(sys.orig_argv) + str(sys.path),
        "cwd": os.getcwd(),
        "descriptors": _descriptors(),
        "beside": _beside(folder),
        "memory": _raw_memory(),
    }
    found = [name for name, text in places.items() if NEEDLE.search(text)]
    return {"found": found, "searched": {name: len(text) for name, text in places.items()}}


def _frames() -> str:
    frame, texts = sys._getframe(), []
    while frame is not None:
        texts += [repr(frame.f_locals), repr({k: v for k, v in frame.f_globals.items() if isinstance(v, (str, dict, list))})]
        frame = frame.f_back  # type: ignore[assignment]
    return "".join(texts)


def _heap() -> str:
    texts = []
    for thing in gc.get_objects():
        if type(thing) in (dict, list, tuple, set):
            values = list(thing.items()) if type(thing) is dict else list(thing)
            texts += [str(value) for pair in values for value in (pair if type(pair) is tuple else (pair,)) if type(value) is str]
    return "\n".join(texts)


def _descriptors() -> str:
    texts = []
    for name in os.listdir("/proc/self/fd"):
        try:
            texts.append(os.readlink(f"/proc/self/fd/{name}"))
            os.set_blocking(int(name), False)
            texts.append(os.read(int(name), 10**6).decode("utf-8", errors="replace"))
        except OSError as error:
            texts.append(str(error))
    return "\n".join(texts)


def _beside(folder: Path) -> str:
    return f"beside {folder.name}:" + "\n".join(f"{path}: {_read(path)}" for path in folder.parent.rglob("*"))


def _raw_memory() -> str:
    """What is found in all writable memory, freed objects included, after the number of bytes that were searched."""
    pattern, hits, searched = re.compile(NEEDLE.pattern.encode()), "", 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw"):
                memory.seek(start)
                block = memory.read(end - start)
                searched += len(block)
                hits += "".join(match.decode() for match in pattern.findall(block))
    return f"{searched} {hits}"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        return type(error).__name__


def escape(folder: Path) -> dict[str, Any]:
    """Try what Landlock forbids: read and list outside, write outside, signal the job's process, read its environment."""
    outside = folder.parent.parent
    tries: dict[str, Callable[[], object]] = {
        "list": lambda: os.listdir(outside),
        "write": lambda: (outside / "planted.txt").write_text("x"),
        "signal": lambda: os.kill(os.getppid(), 0),
        "environ": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "own files": lambda: (folder / "mine.txt").write_text("x"),
        "connect": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    }
    outcome = {}
    for name, attempt in tries.items():
        try:
            attempt()
            outcome[name] = "done"
        except OSError as error:
            outcome[name] = type(error).__name__
    return outcome
