"""Changes to a parsed recipe before validation: short forms, `--set path=value`, and `${VAR}` in dataset parameters."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from leakaudit.errors import UserError, nearest
from leakaudit.recipes.documents import Document, Place
from leakaudit.recipes.models import Recipe, raw_label
from leakaudit.recipes.reading import parse_value

__all__ = ["apply_overrides", "expand_variables", "normalize"]

_SECTIONS = ("protocols", "defenses", "attacks")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def normalize(data: dict[str, Any]) -> None:
    """Write short forms out, in place: bare plugin names become entries, and empty fields are left to their defaults.

    Args:
        data: The recipe as parsed.
    """
    _drop_empty(data)
    if "data" in data:
        data["data"] = _entry(data["data"])
    for section in _SECTIONS:
        if isinstance(data.get(section), list):
            data[section] = [_entry(item) for item in data[section]]
    run = data.get("run")
    if isinstance(run, dict) and "executor" in run:
        run["executor"] = {} if run["executor"] is None else _entry(run["executor"])
    report = data.get("report")
    if isinstance(report, dict) and isinstance(report.get("sections"), list):
        report["sections"] = [_entry(item) for item in report["sections"]]


def _entry(item: Any) -> Any:
    """Return an entry in its long form; whatever is no entry is returned as it is, for validation to judge."""
    if isinstance(item, str):
        return {"use": item}
    if isinstance(item, dict):
        _drop_empty(item)
        if isinstance(item.get("chain"), list):
            item["chain"] = [_entry(link) for link in item["chain"]]
    return item


def _drop_empty(mapping: dict[str, Any]) -> None:
    # `attacks:` with every line below it commented out is null in YAML, and means "none".
    for key in [key for key, value in mapping.items() if value is None]:
        del mapping[key]


def apply_overrides(document: Document, overrides: Sequence[str]) -> None:
    """Apply `path=value` overrides in order, in place.

    A path is dotted; list items are named by index or by label. Values are YAML.

    Args:
        document: A normalized recipe.
        overrides: For example `["attacks.model-inversion.params.iterations=200"]`.

    Raises:
        UserError: An override is malformed, or its path leads nowhere.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        origin = f"--set {override}"
        if not equals or not path.strip():
            raise UserError(f"{origin}: expected path=value, for example --set repeats=3.")
        parts = path.strip().split(".")
        if parts[0] not in Recipe.model_fields:
            raise UserError(f"{origin}: unknown field {parts[0]!r}.{nearest(parts[0], Recipe.model_fields)}")
        document.override(_assign(document.data, parts, parse_value(text, origin), origin), origin)
        normalize(document.data)


def _assign(data: Any, parts: list[str], value: Any, origin: str) -> Place:
    """Set one value, creating mappings on the way, and return where it is."""
    here: Any = data
    place: list[int | str] = []
    while True:
        if isinstance(here, list):
            key, parts = _list_step(here, parts, place, origin)
        elif isinstance(here, dict):
            key, parts = parts[0], parts[1:]
        else:
            dotted = ".".join(map(str, place))
            raise UserError(f"{origin}: {dotted} is the single value {here!r}, there is nothing inside it to set.")
        place.append(key)
        if not parts:
            here[key] = value
            return tuple(place)
        if isinstance(here, dict) and key not in here:
            if key in _SECTIONS:
                raise UserError(f"{origin}: the recipe has no {key}; set the whole list, for example --set '{key}=[NAME]'.")
            here[key] = {}
        here = here[key]


def _list_step(items: list[Any], parts: list[str], place: list[int | str], origin: str) -> tuple[Any, list[str]]:
    """Resolve an index or a label (which may contain dots) and return it with the parts that are left."""
    dotted = ".".join(map(str, place))
    if re.fullmatch(r"-?\d+", parts[0]):
        index = int(parts[0])
        if not -len(items) <= index < len(items):
            raise UserError(f"{origin}: {dotted} has {len(items)} items, there is no item {index} (the first is 0).")
        return index % len(items), parts[1:]
    labels = [raw_label(item) for item in items]
    for length in range(len(parts), 0, -1):
        label = ".".join(parts[:length])
        if labels.count(label) > 1:
            raise UserError(f"{origin}: several items of {dotted} are called {label!r}; use the index.")
        if label in labels:
            return labels.index(label), parts[length:]
    raise UserError(f"{origin}: {dotted} has no item {parts[0]!r}.{nearest(parts[0], [x for x in labels if x])}")


def expand_variables(values: dict[str, Any]) -> tuple[dict[str, Any], set[str], list[tuple[Place, str]]]:
    """Replace `${VAR}` in every string of a dataset's parameters.

    Args:
        values: Parameters as written.

    Returns:
        The expanded parameters, the names of those that had a variable in them, and (place, variable) for every
        variable that is not set.
    """
    missing: list[tuple[Place, str]] = []

    def expand(value: Any, here: Place) -> Any:
        if isinstance(value, dict):
            return {key: expand(item, (*here, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [expand(item, (*here, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        missing.extend((here, match[1]) for match in _VARIABLE.finditer(value) if match[1] not in os.environ)
        return _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), value)

    expanded = {key: expand(value, (key,)) for key, value in values.items()}
    return expanded, {key for key in values if expanded[key] != values[key]}, missing
