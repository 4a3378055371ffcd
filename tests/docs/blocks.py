"""Fenced blocks of a Markdown page: what a reader would copy."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "Command", "blocks", "commands"]

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"\bfile=(\S+)")
_NAMED = re.compile(r"`([\w./-]+\.py)`[^`]*\Z")
_SHELLS = ("bash", "console", "sh", "shell")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: File name of the page.
        line: Line of its content.
        language: Language of the fence.
        file: File it is the content of: from `file=...` of the fence, or the last `x.py` named before it.
        text: Content.
    """

    page: str
    line: int
    language: str
    file: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One `leakaudit` command line: where it is, its arguments, and variables set before it."""

    place: str
    arguments: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.place}: leakaudit {shlex.join(self.arguments)}"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        named = _FILE.search(match[2]) or (_NAMED.search(text[: match.start()]) if match[1] == "python" else None)
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(page.name, line, match[1], named[1] if named else None, match[3]))
    return found


def commands(page: Path) -> list[Command]:
    """Return the `leakaudit` commands of a page's shell blocks; other programs (pip, make, git) are not run."""
    found = []
    for block in blocks(page):
        if block.language not in _SHELLS:
            continue
        for offset, line in enumerate(block.text.replace("\\\n", "  ").splitlines()):
            words = shlex.split(line.removeprefix("$ "), comments=True)
            variables = [words.pop(0).split("=", 1) for word in list(words) if words and _VARIABLE.match(words[0])]
            if words and words[0].rpartition("/")[2] == "leakaudit":
                ends = [i for i, word in enumerate(words) if word in ("|", ">", "&&", ";", "2>")]
                arguments = tuple(words[1 : ends[0] if ends else None])
                found.append(Command(f"{block.page}:{block.line + offset}", arguments, tuple((k, v) for k, v in variables)))
    return found
