"""Import strings: `"package.module:Name"`, imported where the code runs and nowhere else."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["import_target", "target_of"]


def import_target(target: str) -> Any:
    """Import `"package.module:Name"`.

    Raises:
        ImportError: The module cannot be imported or has no such name.
    """
    module, _, name = target.partition(":")
    found = importlib.import_module(module)
    try:
        return getattr(found, name)
    except AttributeError as error:
        raise ImportError(f"module {module!r} has no {name!r}") from error


def target_of(cls: type) -> str:
    """Return the import string of a class at module level."""
    return f"{cls.__module__}:{cls.__qualname__}"
