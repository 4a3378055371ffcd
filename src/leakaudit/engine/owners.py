"""Names of temporary folders that tell whose they are, so that those of killed processes can be cleaned and no others."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["clean_leftovers", "is_alive", "owned_name", "size_of", "start_ticks"]

_TAG = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}$")
_FOREIGN_SECONDS = 7 * 24 * 3600


def owned_name(prefix: str) -> str:
    """Return `prefix.host-pid-start-random`: a fresh name that this process owns until it dies."""
    return f"{prefix}.{_host()}-{os.getpid()}-{start_ticks(os.getpid())}-{secrets.token_hex(4)}"


def clean_leftovers(folders: Iterable[Path]) -> int:
    """Remove those of `folders` whose owner is dead; names without an owner's tag are left alone.

    The owner is dead when no process has its id, or one that started at another time (ids are used again). Folders of
    another machine on a shared disk are removed when a week old.

    Returns:
        How many were removed.
    """
    removed = 0
    for folder in folders:
        match = _TAG.search(folder.name)
        if match and _is_dead(folder, match):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def is_alive(folder: Path) -> bool:
    """Whether a folder bears the tag of a process that still lives, or may live on another machine."""
    match = _TAG.search(folder.name)
    return match is not None and not _is_dead(folder, match)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; links count as nothing and are not followed."""
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(path) for name in names)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot, or -1 when there is none or it is dead and unburied."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[0] in "ZX" else int(fields[19])


def _is_dead(folder: Path, match: re.Match[str]) -> bool:
    if match["host"] == _host():
        return start_ticks(int(match["pid"])) != int(match["start"])
    try:
        return time.time() - folder.stat().st_mtime > _FOREIGN_SECONDS
    except FileNotFoundError:
        return False


def _host() -> str:
    """Eight hex digits of this machine's name: names of folders should not spell it out."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
