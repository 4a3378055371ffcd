"""A toy that looks everywhere for what it must not find, and raises when it finds it.

It does not know what it looks for: forbidden texts are spelled backwards, images and noise are known by their hashes.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leakaudit.attacks import Attack, View
from leakaudit.attacks.evidence import Values
from leakaudit.wire import Seat
from leakaudit.wire.seats import Secret
from leakaudit_toys.params import Snooping
from leakaudit_toys.watchers import volumes


def fingerprint(row: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(row, dtype=np.float32).tobytes()).hexdigest()


class Snoop(Attack[Snooping]):
    def __init__(self, params: Snooping, seat: Seat) -> None:
        super().__init__(params, seat)
        self.searched = 0
        self._read: set[str] = set()

    def run(self, view: View) -> Values:
        hidden = None
        if self.params.planted:
            hidden = self._plant(view)
        found = list(dict.fromkeys(getattr(self, f"_{self.params.way}")(view)))
        if found:
            raise AssertionError(f"found by {self.params.way}: {', '.join(found)}")
        assert self.searched > 0, f"{self.params.way} searched nothing"
        print(f"searched {self.params.way}: {self.searched}")
        del hidden
        return volumes(view, self.params.way)

    def _plant(self, view: View) -> object:
        """Hide the last forbidden word (for images: the first auxiliary image, whose hash the test gave)."""
        word = self.params.words[-1][::-1] if self.params.words else ""
        match self.params.way:
            case "files":
                (Path.cwd() / "note.txt").write_text(word)
            case "processes":
                os.environ["NOTE"] = word
        return {"note": word, "image": torch.from_numpy(np.array(view.auxiliary.images))}

    # What is recognized --------------------------------------------------------------------------------------------

    def _text(self, text: str, where: str) -> Iterator[str]:
        self.searched += len(text)
        for i, word in enumerate(self.params.words):
            if word[::-1] in text:
                yield f"word {i} in {where}"

    def _array(self, array: np.ndarray, where: str, side: int) -> Iterator[str]:
        if array.dtype != np.float32 or array.size < side * side or array.size % (side * side):
            return
        for image in array.reshape(-1, side, side):
            self.searched += 1
            if fingerprint(image[side // 2]) in self.params.images:
                yield f"a patient's image in {where}"

    def _things(self, things: Iterable[Any], where: str, side: int) -> Iterator[str]:
        for thing in things:
            if isinstance(thing, str):
                if thing not in self._read:  # Names of attributes stand in a million dictionaries.
                    self._read.add(thing)
                    yield from self._text(thing, where)
            elif isinstance(thing, bytes) and len(thing) < 10**6:
                yield from self._text(thing.decode("latin-1"), where)
            elif isinstance(thing, torch.Tensor) and thing.dtype == torch.float32 and thing.device.type == "cpu":
                # The storage, not the tensor: a slice may hide the rest of its batch.
                yield from self._array(torch.tensor([], dtype=torch.float32).set_(thing.untyped_storage()).numpy(), where, side)
            elif isinstance(thing, np.ndarray):
                base = thing
                while isinstance(base.base, np.ndarray):
                    base = base.base
                yield from self._array(np.asarray(base), where, side)

    # Where it looks ------------------------------------------------------------------------------------------------

    def _frames(self, view: View) -> Iterator[str]:
        frame = sys._getframe()
        while frame is not None:
            for scope in (frame.f_locals, frame.f_globals):
                yield from self._text(repr({k: v for k, v in scope.items() if isinstance(v, str | dict | list | Path)}), "a frame")
                yield from self._things(list(scope.values()), "a frame", view.auxiliary.shape[0])
            frame = frame.f_back

    def _heap(self, view: View) -> Iterator[str]:
        side = view.auxiliary.shape[0]
        gc.unfreeze()  # What was there before the job counts, too.
        for thing in gc.get_objects():
            if isinstance(thing, dict):
                yield from self._things([*thing.keys(), *thing.values()], "the heap", side)
            elif isinstance(thing, list | tuple | set | frozenset):
                yield from self._things(thing, "the heap", side)
            else:
                yield from self._things([thing], "the heap", side)

    def _memory(self, view: View) -> Iterator[str]:
        """Search all writable memory, freed objects included."""
        patterns = _patterns(self.params.words)
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
            spans = [line.split() for line in maps]
            for span, rights, *_ in spans:
                start, end = (int(part, 16) for part in span.split("-"))
                if not rights.startswith("rw"):
                    continue
                for at in range(start, end, 2**24):
                    memory.seek(at)
                    block = memory.read(min(end - at, 2**24 + 64))
                    self.searched += len(block)
                    yield from ("a word in memory" for pattern in patterns if pattern.search(block))

    def _tensors(self, view: View) -> Iterator[str]:
        messages = list(view.messages())
        assert messages
        for message in messages:
            for name, tensor in message.tensors.items():
                self.searched += 1
                if tensor.grad_fn is not None or tensor.requires_grad:
                    yield f"the graph of {name}"
                if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size():
                    yield f"more than its rows in the storage of {name}"
        wanted = {t.token for t in view.targets}
        if {s for m in messages for s in m.samples} - wanted:
            yield "rows of patients that were not tapped"

    def _files(self, view: View) -> Iterator[str]:
        here = Path.cwd()
        roots = [here, *list(here.parents)[:-1], Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/root"), Path("/home")]
        for root in dict.fromkeys(roots):
            for path in _walk(root):
                yield from self._text(str(path), "a path") if path != here and here not in path.parents else ()
                try:
                    if path.stat().st_size < 2 * 10**7:
                        data = path.read_bytes()
                        yield from self._text(data.decode("latin-1"), f"a file {path.suffix}")
                        side = view.auxiliary.shape[0]
                        if path.suffix == ".npy":
                            yield from self._array(np.load(path), "a file", side)
                except (OSError, ValueError):
                    continue

    def _processes(self, view: View) -> Iterator[str]:
        yield from self._text(str(dict(os.environ)) + str(sys.argv) + str(sys.orig_argv) + str(sys.path), "the process")
        for name in ("environ", "cmdline", "cwd", "exe", "fd", "maps", "mountinfo", "status"):
            for folder in _listed(Path("/proc")):
                if folder.name.isdigit() or folder.name in ("self", "thread-self"):
                    yield from self._text(_proc(folder / name), f"/proc/<pid>/{name}")
        parent = Path("/proc") / str(os.getppid())
        for name in ("environ", "cmdline", "cwd", "root", "mem", "maps"):
            yield from self._text(_proc(parent / name), f"the parent's {name}")

    def _seeds(self, view: View) -> Iterator[str]:
        """Derive the clients' noise from every key within reach, and from every seed that a recipe is likely to have."""
        keys = {bytes.fromhex(k) for f in Path.cwd().rglob("*.json") for k in re.findall(r"\b[0-9a-f]{64}\b", f.read_text())}
        assert len(keys) >= 2, "the view's own secrets were not found"
        stems = [Secret(k) for k in keys]
        for seed in range(2000):
            for context in (("training",), ("training", ""), ("attack",)):
                stems += [Secret.from_seed(seed, *context, "repeat-0")]
        self.searched = len(stems)
        for stem in stems:
            for branch in ((), ("seat",), ("training", "repeat-0", "seat"), ("replica",)):
                for seat in ("client-0", "client-1"):
                    generator = stem.branch(*branch, seat, "noise").generator()
                    if fingerprint(torch.randn(8, generator=generator).numpy()) in self.params.noise:
                        yield f"the noise of {seat}"


def _patterns(words: Iterable[str]) -> list[re.Pattern[bytes]]:
    """Return what finds words spelled backwards here, as few patterns as there are first letters, which is quicker."""
    by_first: dict[str, list[bytes]] = {}
    for word in words:
        # Letter by letter: a string spelled forwards would itself be found.
        letters = b"".join(b"[" + re.escape(letter.encode()) + b"]" for letter in reversed(word))
        by_first.setdefault(word[-1], []).append(letters)
    return [re.compile(b"|".join(spelled)) for spelled in by_first.values()]


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield Path(folder)
        yield from (Path(folder) / name for name in names)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        near = range(max(1, os.getpid() - 200), os.getpid() + 20)
        return [Path("/proc/self"), *(Path(f"/proc/{pid}") for pid in (*range(1, 50), *near))]


def _proc(path: Path) -> str:
    try:
        if path.name == "fd":
            return json.dumps([os.readlink(p) for p in path.iterdir()])
        return os.readlink(path) if path.name in ("cwd", "root", "exe") else path.read_bytes().decode("latin-1")
    except OSError as error:
        return type(error).__name__
