"""One entry of the run store: what a finished cell left, how it is sealed when written and verified when read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = ["CorruptError", "Entry", "load_entry", "seal", "sync"]

_ENTRY = "entry.json"


class CorruptError(Exception):
    """An entry's folder does not hold what its `entry.json` says."""


@dataclass(frozen=True)
class Entry:
    """A finished cell.

    Attributes:
        key: The cell's key.
        folder: Where its files lie.
        meta: What the writer said of it; holds at least `kind` (text) and `sensitive` (bool).
        files: Size in bytes and SHA-256 of every file, by name relative to `folder`.
    """

    key: str
    folder: Path
    meta: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Sum of the sizes of its files."""
        return sum(int(facts["size"]) for facts in self.files.values())

    def path(self, name: str) -> Path:
        """Return the path of one of its files.

        Raises:
            KeyError: The entry has no such file.
        """
        if name not in self.files:
            raise KeyError(f"The {self.meta['kind']} entry {self.key[:12]} has no file {name!r}, only {sorted(self.files)}.")
        return self.folder / name

    def json(self, name: str) -> Any:
        """Read one of its files as JSON."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))


def load_entry(folder: Path, full: bool) -> Entry:
    """Read and verify an entry.

    Args:
        folder: Its folder, named by its key.
        full: Whether to verify contents (SHA-256) and not only sizes.

    Raises:
        FileNotFoundError: There is none.
        CorruptError: It is not as written.
    """
    os.stat(folder)
    try:
        record = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        entry = Entry(folder.name, folder, MappingProxyType(record["meta"]), MappingProxyType(record["files"]))
        _ = entry.meta["kind"], entry.meta["sensitive"]
        intact = all(_matches(folder / name, facts, full) for name, facts in entry.files.items())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError from error
    if not intact or record["key"] != folder.name:
        raise CorruptError
    return entry


def seal(folder: Path, record: dict[str, Any]) -> None:
    """Write `entry.json` with size and hash of every file, and force all of it to the disk."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or name == _ENTRY:
            raise ValueError(f"A store entry can hold neither links nor a file named {_ENTRY}; found {name!r}.")
        if path.is_file():
            files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
        sync(path)
    target = folder / _ENTRY
    target.write_text(json.dumps({**record, "files": files}, sort_keys=True, indent=1), encoding="utf-8")
    sync(target)
    sync(folder)


def _matches(path: Path, facts: Mapping[str, Any], full: bool) -> bool:
    return path.stat().st_size == facts["size"] and (not full or _sha256(path) == facts["sha256"])


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
