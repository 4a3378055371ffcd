"""Reads YAML as data: scalars, lists and mappings with their line numbers, and nothing else.

The parser's events are used directly, so size, nesting, tags and aliases are judged before any structure is built, and
scalars follow YAML 1.2 (`1e-3` is a number, `no` is a word).
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml import events

from leakaudit.errors import UserError
from leakaudit.recipes.documents import Document, Place

__all__ = ["parse_document", "parse_value", "read_document"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 20_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Args:
        path: File to read.

    Returns:
        The document; its data is a mapping.

    Raises:
        UserError: There is no such file, or it is not a plain YAML mapping of reasonable size and depth.
    """
    if path.is_dir():
        raise UserError(f"{path}: this is a folder, expected a YAML file.")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.{_neighbor(path)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB, which no recipe needs; is it the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file in UTF-8.") from error
    return parse_document(text, str(path))


def parse_document(text: str, name: str) -> Document:
    """Parse YAML text that must be one mapping.

    Args:
        text: The YAML.
        name: How messages call it.

    Raises:
        UserError: It is not a plain YAML mapping of reasonable depth.
    """
    document = _Composer(text, name).compose()
    if document.data is None:
        raise UserError(f"{name}: the file is empty, expected a mapping such as 'version: 1'.")
    if not isinstance(document.data, dict):
        raise UserError(f"{name}:1: expected a mapping ('key: value' lines), got a {_kind(document.data)}.")
    return document


def parse_value(text: str, name: str) -> Any:
    """Parse one YAML value, for example of `--set`.

    Args:
        text: The YAML.
        name: How messages call it.

    Raises:
        UserError: It is not plain YAML.
    """
    document = _Composer(text, name).compose()
    for _, message in document.duplicates:
        raise UserError(f"{name}: {message}")
    return document.data


@dataclass(slots=True)
class _Built:
    """A value with what it costs when an alias repeats it."""

    value: Any
    nodes: int = 1
    height: int = 1


class _Composer:
    """Builds plain values from parser events."""

    def __init__(self, text: str, name: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
        self._document = Document(name)
        self._anchors: dict[str, _Built] = {}
        self._nodes = 0

    def compose(self) -> Document:
        try:
            next(self._events)
            event = next(self._events)
            if isinstance(event, events.DocumentStartEvent):
                self._document.data = self._node(next(self._events), ()).value
                next(self._events)
                event = next(self._events)
            if not isinstance(event, events.StreamEndEvent):
                raise self._error(event, "a second document starts here ('---'), expected one only.")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            what = ", ".join(str(part) for part in (error.context, error.problem) if part)
            raise UserError(f"{self._document.name}{line}: not valid YAML: {what}.") from error
        except yaml.YAMLError as error:
            what = " ".join(str(error).split())
            raise UserError(f"{self._document.name}: not valid YAML: {what}.") from error
        return self._document

    def _error(self, event: Any, message: str) -> UserError:
        return UserError(f"{self._document.name}:{event.start_mark.line + 1}: {message}")

    def _node(self, event: Any, path: Place, depth: int = 1) -> _Built:
        """Build the node that starts with `event`."""
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep, which no recipe needs.")
        self._document.lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, events.AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise self._error(event, f"the tag {tag!r} is not allowed: a recipe is data, never code. Write the plain value.")
        self._count(event, 1)
        if isinstance(event, events.ScalarEvent):
            built = _Built(_scalar(event.value) if event.implicit[0] else event.value)
        elif isinstance(event, events.SequenceStartEvent):
            built = self._sequence(path, depth)
        else:
            built = self._mapping(path, depth)
        if event.anchor:
            self._anchors[event.anchor] = built
        return built

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._error(event, f"more than {MAX_NODES:,} values (aliases counted in full), which no recipe needs.")

    def _alias(self, event: Any, depth: int) -> _Built:
        built = self._anchors.get(event.anchor)
        if built is None:
            raise self._error(event, f"the alias *{event.anchor} refers to nothing that is complete before it.")
        self._count(event, built.nodes)
        if depth + built.height - 1 > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep, which no recipe needs.")
        return _Built(copy.deepcopy(built.value), built.nodes, built.height)

    def _sequence(self, path: Place, depth: int) -> _Built:
        built = _Built([])
        while not isinstance(event := next(self._events), events.SequenceEndEvent):
            self._grow(built, item := self._node(event, (*path, len(built.value)), depth + 1))
            built.value.append(item.value)
        return built

    def _mapping(self, path: Place, depth: int) -> _Built:
        built = _Built({})
        while not isinstance(event := next(self._events), events.MappingEndEvent):
            key = self._key(event)
            here = (*path, key)
            line = event.start_mark.line + 1
            if key in built.value:
                first = self._document.lines[here]
                message = f"{self._document.name}:{line}: {'.'.join(map(str, here))}: this key already stands in line {first}."
                self._document.duplicates.append((here, message))
            self._document.lines.setdefault(here, line)
            self._grow(built, item := self._node(next(self._events), here, depth + 1))
            built.value[key] = item.value
        return built

    def _key(self, event: Any) -> str:
        if not isinstance(event, events.ScalarEvent) or event.tag is not None:
            raise self._error(event, "a key must be a plain word.")
        if event.implicit[0] and event.value == "<<":
            raise self._error(event, "merge keys ('<<') are not supported; write the fields out.")
        return str(event.value)

    @staticmethod
    def _grow(built: _Built, item: _Built) -> None:
        built.nodes += item.nodes
        built.height = max(built.height, item.height + 1)


def _scalar(text: str) -> str | int | float | bool | None:
    """Resolve a plain scalar by the core schema of YAML 1.2, without infinities and NaN."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else "single value"


def _neighbor(path: Path) -> str:
    """Suggest a YAML file in the same folder whose name is very similar."""
    files = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, files, n=1, cutoff=0.8)
    return f" Did you mean {near[0]!r}?" if near else ""
