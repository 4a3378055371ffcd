from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from installed_plugins import Site
from jsonschema import Draft7Validator

from leakaudit.recipes.schema import recipe_schema

RECIPE = """
version: 1
name: toy
data: {use: toy-data, params: {patients: 80}, split: {}}
protocols: [toy-split, {use: toy-split, name: short, params: {rounds: 1}}]
defenses: [none, toy-noise, {use: toy-noise, name: n, params: {sigma: 0.1}}, {chain: [toy-dropout, {use: toy-noise}], name: c}]
attacks: [toy-inversion, {use: toy-picky, params: {target: all}, only: {defenses: [none]}}]
policy: {min_repeats: {value: 3}}
run: {executor: toy-executor, workers: auto}
"""


@pytest.fixture
def schema(toys: Site) -> dict[str, Any]:
    return recipe_schema(toys.discover())


@pytest.fixture
def recipe() -> dict[str, Any]:
    return dict(yaml.safe_load(RECIPE))


def test_it_is_draft_07_and_accepts_a_recipe(schema: dict[str, Any], recipe: dict[str, Any]) -> None:
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(schema)
    assert [error.message for error in Draft7Validator(schema).iter_errors(recipe)] == []


def test_it_knows_the_parameters_of_plugins(schema: dict[str, Any]) -> None:
    params = schema["definitions"]["attack.leakaudit-toys.toy-inversion"]
    assert params["properties"]["iterations"]["description"] == "How long."
    assert "recipe.Entry" not in schema["definitions"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("attacks", 0), "toy-invertion"),
        (("attacks", 1, "params"), {"targets": "x"}),
        (("attacks", 1, "params"), {}),
        (("attacks", 1, "use"), "toy-noise"),
        (("defenses", 2, "params", "sigma"), 0),
        (("defenses", 3, "chain", 0), "toy-drop"),
        (("defenses", 3, "chain"), []),
        (("data", "params"), {"patient": 3}),
        (("run", "executor"), "slurm"),
        (("run", "workers"), 0),
        (("version",), 2),
        (("surprise",), 1),
    ],
)
def test_it_refuses_mistakes(schema: dict[str, Any], recipe: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    broken: Any = copy.deepcopy(recipe)
    here = broken
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    assert list(Draft7Validator(schema).iter_errors(broken))
