"""Collects everything that is wrong with a recipe and says it for people: file, line, path, expectation, nearest name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from leakaudit.errors import UserError, nearest
from leakaudit.recipes.documents import Document, Place

__all__ = ["Problems", "RecipeError", "explain"]

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


class RecipeError(UserError):
    """A recipe is invalid. The message has one line for each problem.

    Attributes:
        lines: The problems.
        exit_code: 2, or 5 when nothing is wrong but that plugins named by the recipe cannot be loaded.
    """

    def __init__(self, lines: Iterable[str], exit_code: int = 2) -> None:
        """Keep the problems.

        Args:
            lines: One sentence each, with file and line.
            exit_code: Exit code of the command line.
        """
        self.lines = tuple(lines)
        self.exit_code = exit_code
        super().__init__("\n".join(self.lines))


class Problems:
    """A growing list of problems, each located in the document it was found in."""

    def __init__(self) -> None:
        """Start without problems."""
        self._found: dict[str, tuple[int, int]] = {}

    def add(self, document: Document, path: Place, message: str, exit_code: int = 2) -> None:
        """Add one problem.

        Args:
            document: Where it was found.
            path: Path in the document; its line, or that of the nearest thing around it, is shown.
            message: What was expected and what to do.
            exit_code: 5 for a plugin that cannot be loaded.
        """
        where = document.where(path)
        dotted = ".".join(str(part) for part in path)
        self.add_line(f"{where}: {dotted}: {message}" if dotted else f"{where}: {message}", exit_code)

    def add_line(self, line: str, exit_code: int = 2) -> None:
        """Add a problem that already says where it is.

        Args:
            line: One line that begins with file and line, or with the override it comes from.
            exit_code: 5 for a plugin that cannot be loaded.
        """
        number = re.match(r".*?:(\d+): ", line)
        self._found.setdefault(line, (int(number[1]) if number else 0, exit_code))

    def validated(self, document: Document, path: Place, model: type[BaseModel], raw: Mapping[str, Any]) -> BaseModel | None:
        """Return `raw` as an instance of `model`, or None after adding what is wrong with it.

        Args:
            document: Where `raw` stands.
            path: Path of `raw` in the document.
            model: Expected pydantic model.
            raw: Plain values.
        """
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            for inner, message in explain(error, model, raw):
                self.add(document, (*path, *inner), message)
        return None

    def raise_any(self) -> None:
        """Raise what was collected.

        Raises:
            RecipeError: There is at least one problem.
        """
        if self._found:
            lines = sorted(self._found, key=lambda line: self._found[line][0])
            raise RecipeError(lines, exit_code=min(code for _, code in self._found.values()))


def explain(error: ValidationError, model: type[BaseModel], raw: object) -> list[tuple[Place, str]]:
    """Translate pydantic's errors: one (path, message) for each place that is wrong.

    Args:
        error: What `model` raised.
        model: Model that was validated against.
        raw: Value that was validated.
    """
    messages: dict[Place, list[str]] = {}
    values: dict[Place, str] = {}
    for detail in error.errors(include_url=False, include_context=True):
        kind = detail["type"]
        path = _place(detail["loc"], raw, keep_last=kind == "missing")
        if kind == "extra_forbidden":
            fields = _fields_at(model, detail["loc"][:-1])
            message = f"unknown field {str(path[-1])!r}.{nearest(str(path[-1]), fields) if fields else ''}"
        elif kind == "missing":
            about = _description(model, detail["loc"])
            message = f"this field is required{': ' + about if about else ''}"
        elif kind == "string_pattern_mismatch":
            # People read what the field is for, not a regular expression.
            about = _description(model, detail["loc"])
            message = f"got {_shown(detail['input'])}, which does not fit: {about or detail['msg']}"
        elif kind in ("value_error", "assertion_error"):
            message = str(detail.get("ctx", {}).get("error", detail["msg"]))
        else:
            message = _expectation(detail["msg"], detail.get("ctx", {}), detail["input"])
            values[path] = _shown(detail["input"])
        if message not in messages.setdefault(path, []):
            messages[path].append(message)
    # The branches of a union each complain about one place: say it once.
    return [
        (path, (f"got {values[path]}, " if path in values else "") + " or ".join(texts).replace(" or expected ", " or "))
        for path, texts in messages.items()
    ]


def _expectation(message: str, context: Mapping[str, Any], value: object) -> str:
    """Turn `Input should be ...` into `expected ...`, with the nearest choice where there are choices."""
    text = message.replace("Input should be ", "expected ", 1)
    text = re.sub(r", unable to parse.*|, got a number.*| or (an )?instance of \w+", "", text)
    for pydantics, ours in (
        ("expected greater", "expected a value greater"),
        ("expected less", "expected a value less"),
        ("a valid tuple", "a list"),
        ("a valid list", "a list"),
        ("a valid dictionary", "a mapping"),
    ):
        text = text.replace(pydantics, ours, 1)
    text = text[0].lower() + text[1:]
    choices = [part.strip("'") for part in str(context.get("expected", "")).replace(" or ", ", ").split(", ") if part]
    if isinstance(value, str) and len(choices) > 1:
        near = nearest(value, choices)
        text += f".{near}" if near.startswith(" Did you mean") else ""
    return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _place(location: tuple[int | str, ...], raw: object, *, keep_last: bool) -> Place:
    """Return the part of a pydantic location that exists in the document (tags of union branches do not)."""
    path: list[int | str] = []
    here: Any = raw
    for index, part in enumerate(location):
        in_list = isinstance(here, list | tuple) and isinstance(part, int) and part < len(here)
        if in_list or (isinstance(here, Mapping) and part in here):
            here = here[part]
        elif not (keep_last and index == len(location) - 1):
            continue
        path.append(part)
    return tuple(path)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the pydantic models inside an annotation such as `tuple[Entry, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _models_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """Return the models that may stand at a pydantic location inside `model`."""
    models = [model]
    for part in location:
        if not isinstance(part, str):
            continue
        deeper = [m for owner in models if part in owner.model_fields
                  for m in _models_in(owner.model_fields[part].annotation)]  # fmt: skip
        named = [m for m in models if m.__name__ == part or _tagged(m, part)]
        models = deeper or named or models
    return models


def _tagged(model: type[BaseModel], tag: str) -> bool:
    """Return whether a model is the branch of a union that has this tag."""
    return any(get_args(field.annotation) == (tag,) for field in model.model_fields.values())


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    return sorted({name for owner in _models_at(model, location) for name in owner.model_fields})


def _description(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    name = str(location[-1])
    for owner in _models_at(model, location[:-1]):
        field = owner.model_fields.get(name)
        if field is not None and field.description:
            return field.description
    return ""
