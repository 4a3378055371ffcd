"""Recordings: messages on disk, written as they cross the wire and read lazily."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from leakaudit.wire.messages import Message

__all__ = ["MessageLog", "Recorder", "read_tensors", "write_tensors"]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors; views are copied, so that no hidden storage travels along."""
    save_file({k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}, str(path))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read named tensors."""
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


class Recorder:
    """Writes the messages that taps ask for.

    Args:
        folder: Where `index.jsonl` and one file per message are written.
        wanted: For a message, the tensor names to keep (None keeps all) and the rows to keep (None keeps all), or None
            to skip the message.
    """

    def __init__(self, folder: Path, wanted: Callable[[Message], tuple[tuple[str, ...] | None, list[int] | None] | None]):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._wanted = wanted
        self._index = (folder / "index.jsonl").open("w")
        self._count = 0

    def record(self, message: Message) -> None:
        """Write `message` as far as a tap asks for it, before anybody else can touch it."""
        what = self._wanted(message)
        if what is None:
            return
        names, rows = what
        tensors = {k: t for k, t in message.tensors.items() if names is None or k in names}
        samples = message.samples
        if rows is not None:
            tensors = {k: t[rows] for k, t in tensors.items()}
            samples = tuple(samples[i] for i in rows)
        file = f"{self._count:06d}.safetensors"
        write_tensors(self.folder / file, tensors)
        self._count += 1
        entry = {
            "file": file, "channel": message.channel, "sender": message.sender, "receiver": message.receiver,
            "round": message.round, "step": message.step, "samples": samples, "weight": message.weight,
            "behind": message.behind,
        }  # fmt: skip
        self._index.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Finish the index."""
        self._index.close()


class MessageLog:
    """Messages of a folder, read one at a time in the order they crossed the wire.

    Args:
        folder: A folder that a `Recorder` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = folder / "index.jsonl"
        lines = index.read_text().splitlines() if index.exists() else []
        self.entries: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def messages(self, **where: str | int) -> Iterator[Message]:
        """Yield the messages whose fields equal `where` (`channel=`, `sender=`, `receiver=`, `round=`, `step=`)."""
        for entry in self.entries:
            if all(entry[key] == value for key, value in where.items()):
                yield self.read(entry)

    def read(self, entry: Mapping[str, Any]) -> Message:
        """Read one message of the index."""
        fields = {k: entry[k] for k in ("channel", "sender", "receiver", "round", "step", "weight")}
        tensors = read_tensors(self.folder / entry["file"])
        return Message(tensors=tensors, samples=tuple(entry["samples"]), behind=tuple(entry["behind"]), **fields)
