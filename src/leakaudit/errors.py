"""Errors that are shown to people as one message, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "nearest"]


class UserError(Exception):
    """Something in the user's input is wrong. The message says what, where, what was expected, and what to do.

    Attributes:
        exit_code: Exit code of the command line (2: usage or recipe; 5: a plugin that the recipe names cannot be loaded).
    """

    exit_code = 2


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the valid choice nearest to `word`, or the list of choices when none is near."""
    valid = sorted(choices)
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Valid choices: {', '.join(valid)}." if valid else ""
