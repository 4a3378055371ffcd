"""Whatever stands in a recipe, people get a message and never a traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from installed_plugins import Site

from leakaudit.errors import UserError
from leakaudit.recipes.loading import load_recipe

RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "toy",
    "data": {"use": "toy-data", "params": {"root": "x"}, "split": {"members": 20}},
    "protocols": ["toy-split"],
    "defenses": [{"chain": ["toy-dropout", {"use": "toy-noise", "params": {"sigma": 2.0}}], "name": "both"}],
    "attacks": [{"use": "toy-inversion", "params": {"iterations": 3}, "only": {"protocols": ["toy-split"]}}],
    "policy": {"leakage_max": {"value": 0.2}},
    "run": {"executor": {"use": "toy-executor"}, "workers": 2},
    "report": {"images": "none"},
}


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*here, key)
        yield from places(item, (*here, key))


@pytest.mark.parametrize("odd", [None, -1, "none", [], {}, [None], {"use": "none"}, "${NOT_SET_ANYWHERE}"], ids=repr)
def test_any_value_anywhere(toys: Site, tmp_path: Path, odd: Any) -> None:
    manager = toys.discover()
    path = tmp_path / "recipe.yaml"
    refused = 0
    for place in places(RECIPE):
        recipe = copy.deepcopy(RECIPE)
        here: Any = recipe
        for part in place[:-1]:
            here = here[part]
        here[place[-1]] = odd
        path.write_text(yaml.safe_dump(recipe))
        try:
            load_recipe(path, manager=manager)
        except UserError as error:
            refused += 1
            assert all(line.startswith(str(tmp_path)) for line in str(error).splitlines())  # noqa: PT017
    assert refused > 5
