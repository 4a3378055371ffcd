"""A parsed YAML file that remembers in which line everything stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Document", "Place"]

Place = tuple[int | str, ...]
"""Where something stands in a document: keys and list indices."""


@dataclass(slots=True)
class Document:
    """A parsed YAML file.

    Attributes:
        name: How messages call it.
        data: Plain Python values.
        lines: Line (from 1) of every key and list item.
        origins: Values that do not come from the file, with what they come from (`--set a=1`).
        duplicates: Keys that stand twice in one mapping.
    """

    name: str
    data: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    origins: dict[Place, str] = field(default_factory=dict)
    duplicates: list[tuple[Place, str]] = field(default_factory=list)

    def where(self, path: Place) -> str:
        """Return `file:line` of the nearest enclosing thing that has a line, or the override that set it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}"
        return self.name

    def override(self, path: Place, origin: str) -> None:
        """Note that `path` and everything under it now comes from `origin`."""
        for table in (self.lines, self.origins):
            for old in [old for old in table if old[: len(path)] == path]:
                del table[old]
        self.origins[path] = origin
