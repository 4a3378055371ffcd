"""The run store: one folder for each finished cell, written whole or not at all, safe for several processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakaudit.engine.entry import CorruptError, Entry, load_entry, seal, sync
from leakaudit.engine.keys import canonical_json
from leakaudit.engine.owners import clean_leftovers, is_alive, owned_name, size_of
from leakaudit.errors import UserError

__all__ = ["Entry", "RunStore", "StoreInfo"]

_log = logging.getLogger(__name__)
_SHELF = re.compile(r"[0-9A-Za-z]{2}")


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds: number of entries, bytes by kind, and bytes of entries marked sensitive."""

    count: int
    bytes_by_kind: Mapping[str, int]
    sensitive_bytes: int

    @property
    def bytes(self) -> int:
        """Bytes of all entries."""
        return sum(self.bytes_by_kind.values())


class RunStore:
    """Results of cells under `root/cells/<first two digits>/<key>/`, each with an `entry.json`.

    Entries are written into a temporary folder beside their place and renamed, so a reader sees all of one or nothing.
    Opening a store removes what killed writers left.

    Args:
        root: The store's folder; made with mode 0700 (it may hold patient data) and a `.gitignore` of everything.

    Raises:
        UserError: The folder of its cells is a link.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._cells = self.root / "cells"
        self._hashed: set[str] = set()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(self.root.stat().st_mode) & 0o077:
            self.root.chmod(0o700)  # An older one, or a copy that came with other rights.
        self._cells.mkdir(mode=0o700, exist_ok=True)
        self._refuse_links()
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        clean_leftovers(path for path in self._listed() if path.name.startswith("."))

    def has(self, key: str) -> bool:
        """Whether `get(key)` returns an entry."""
        return self.get(key) is not None

    def get(self, key: str) -> Entry | None:
        """Return the entry of a key, or None when it is missing.

        File sizes are compared every time, contents (SHA-256) the first time this object opens the entry. What does not
        match is removed with a warning and counts as missing.
        """
        folder = self._folder(key)
        if folder.is_symlink():
            return self._drop_if_corrupt(key, folder)
        try:
            entry = load_entry(folder, full=key not in self._hashed)
        except FileNotFoundError:
            return None
        except CorruptError:
            return self._drop_if_corrupt(key, folder)
        self._hashed.add(key)
        return entry

    @contextlib.contextmanager
    def write(self, key: str, meta: Mapping[str, Any]) -> Iterator[Path]:
        """Give a folder to write a cell's files into; the entry appears, complete, when the block ends without an error.

        When another process has finished the same entry meanwhile, that one stays and this one is thrown away.

        Args:
            key: The cell's key.
            meta: JSON-able facts with at least `kind: str` and `sensitive: bool`.

        Yields:
            An empty folder.

        Raises:
            ValueError: `meta` lacks `kind` or `sensitive`, or a written name is `entry.json` or a link.
        """
        if not isinstance(meta.get("kind"), str) or not isinstance(meta.get("sensitive"), bool):
            raise ValueError("The meta of a store entry needs 'kind' (text) and 'sensitive' (true or false).")
        folder = self._folder(key)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = folder.parent / owned_name(f".{key}")
        temporary.mkdir(mode=0o700)
        try:
            yield temporary
            if self.get(key) is None:
                seal(temporary, {"key": key, "meta": json.loads(canonical_json(dict(meta))), "created": time.time()})
                self._publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def info(self) -> StoreInfo:
        """Count entries and bytes."""
        by_kind: dict[str, int] = {}
        count = sensitive = 0
        for entry in self._entries():
            count += 1
            by_kind[entry.meta["kind"]] = by_kind.get(entry.meta["kind"], 0) + entry.bytes
            sensitive += entry.bytes if entry.meta["sensitive"] else 0
        return StoreInfo(count, dict(sorted(by_kind.items())), sensitive)

    def prune(self, sensitive: bool = False, keep: Set[str] = frozenset()) -> int:
        """Remove entries, and with them whatever else lies among them without being one: nobody knows what it holds.

        Folders that a living process is still writing stay. Links are removed and never followed.

        Args:
            sensitive: Of the entries, remove only those marked sensitive.
            keep: Keys that stay.

        Returns:
            Bytes freed.

        Raises:
            OSError: Something could not be removed.
        """
        freed = 0
        whole = {entry.folder: entry for entry in self._entries()}
        for path in self._listed():
            entry = whole.get(path)
            if entry is not None and (entry.key in keep or (sensitive and not entry.meta["sensitive"])):
                continue
            if entry is None and is_alive(path):
                continue
            freed += size_of(path) if entry is None else entry.bytes
            with self._lock():
                self._remove(path, strict=True)
        return freed

    def unfinished(self) -> int:
        """Count folders that other processes, alive, are still writing."""
        return sum(is_alive(path) for path in self._listed())

    def _folder(self, key: str) -> Path:
        if len(key) < 3 or not key.isalnum():
            raise ValueError(f"{key!r} is not a key: expected hex digits.")
        return self._cells / key[:2] / key

    def _entries(self) -> Iterator[Entry]:
        """Entries whose sizes are right; contents are not read."""
        for folder in self._listed():
            if not folder.name.startswith(".") and not folder.is_symlink():
                with contextlib.suppress(FileNotFoundError, CorruptError):
                    yield load_entry(folder, full=False)

    def _listed(self) -> list[Path]:
        """Everything on the shelves, hidden folders included."""
        shelves = [path for path in sorted(self._cells.iterdir()) if _SHELF.fullmatch(path.name) and not path.is_symlink()]
        return [path for shelf in shelves if shelf.is_dir() for path in sorted(shelf.iterdir())]

    def _refuse_links(self) -> None:
        """Take links from among the shelves: through them a store would write, read and remove what is not its own.

        Raises:
            UserError: The folder of all shelves is a link.
        """
        if self._cells.is_symlink():
            raise UserError(f"{self._cells} is a link. A run store keeps its cells itself; put the folder back in its place.")
        for path in self._cells.iterdir():
            if path.is_symlink():
                path.unlink()
                _log.warning("Removed a link from the run store; nothing that it led to was touched.")

    def _drop_if_corrupt(self, key: str, folder: Path) -> Entry | None:
        """Remove a corrupt entry, unless another process has put a good one there since it was read."""
        with self._lock():
            try:
                if folder.is_symlink():
                    raise CorruptError
                return load_entry(folder, full=True)
            except FileNotFoundError:
                return None
            except CorruptError:
                self._remove(folder)
        _log.warning("Dropped the corrupt result %s from the run store; it will be computed again.", key[:12])
        return None

    def _publish(self, temporary: Path, folder: Path) -> None:
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            return  # Another process was faster: its entry is as good as ours.
        sync(folder.parent)

    def _remove(self, path: Path, *, strict: bool = False) -> None:
        """Take something out of sight in one step, then delete it.

        Raises:
            OSError: `strict`, and it could not be deleted.
        """
        self._hashed.discard(path.name)
        trash = path.parent / owned_name(f".{path.name[:80]}")
        try:
            path.rename(trash)
        except FileNotFoundError:
            return
        if trash.is_symlink() or not trash.is_dir():
            trash.unlink()
        else:
            shutil.rmtree(trash, ignore_errors=not strict)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the store's lock for removals; the kernel frees it when a process dies."""
        with (self.root / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
