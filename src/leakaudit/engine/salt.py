"""The salt of a run's pseudonyms: random, readable by its owner only, and never outside the run's store."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from leakaudit.errors import UserError

__all__ = ["SALT", "run_salt"]

SALT = "salt"
"""Name in the store's folder."""

_BYTES = 32


def run_salt(store: Path) -> bytes:
    """Return a run's salt, made when there is none.

    Args:
        store: Folder of the run's store.

    Raises:
        UserError: What lies there is a link, or too short to be a salt.
    """
    path = store / SALT
    # One that is there already stays: this run goes on where an earlier one ended.
    with (
        contextlib.suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file,
    ):
        file.write(secrets.token_bytes(_BYTES))
    if path.is_symlink() or len(salt := path.read_bytes()) < _BYTES:
        raise UserError(f"{path} is not the salt that a run made. Remove it: the next report then has new pseudonyms.")
    return salt
