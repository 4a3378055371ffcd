"""Getting rid of what a run keeps: cells, and everything beside them that depends on patients."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from leakaudit.engine.forkserver import clean_scratch
from leakaudit.engine.logs import PRIVATE_LOG
from leakaudit.engine.owners import size_of
from leakaudit.engine.salt import SALT
from leakaudit.engine.store import RunStore
from leakaudit.errors import UserError
from leakaudit.report.files import RESTRICTED

__all__ = ["prune"]


def prune(out: Path, store: RunStore, *, sensitive: bool) -> dict[str, Any]:
    """Remove stored cells: all of them, or only those that depend on patients, and with those the restricted page.

    In both cases the salt of the pseudonyms goes (they can then be tied to nobody, not even by who knows all keys), the
    private log, and what killed runs left in the folder for temporary files.

    Returns:
        `freed_bytes`, `kept_entries`, and `in_use`: folders that other runs are writing at this moment, which stay.

    Raises:
        UserError: Something could not be removed.
    """
    others = [store.root / SALT, store.root / PRIVATE_LOG, *out.glob(".report.*")]
    others += [out / RESTRICTED] if sensitive else []
    try:
        freed = store.prune(sensitive=sensitive) + sum(_removed(path) for path in others)
    except OSError as error:
        name = Path(error.filename).name if error.filename else "A file"
        raise UserError(f"{out}: {name} could not be removed ({error.strerror}), so patient data is still there.") from error
    clean_scratch()
    return {"freed_bytes": freed, "kept_entries": store.info().count, "in_use": store.unfinished()}


def _removed(path: Path) -> int:
    """Remove a file, a folder or a link (never what it leads to) and return its bytes; 0 where there is none."""
    if not path.exists() and not path.is_symlink():
        return 0
    freed = size_of(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return freed
