"""`leakaudit recipes list|show|copy`: the recipes that come with leakaudit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from leakaudit.cli._output import JsonFlag, table, write_json

__all__ = ["VERBS", "copy", "list_recipes", "show"]

Name = Annotated[str, typer.Argument(help="Name of a packaged recipe.", show_default=False)]


def list_recipes(json_output: JsonFlag = False) -> None:
    """List the packaged recipes."""
    from leakaudit.recipes.library import packaged_recipes

    recipes = packaged_recipes()
    if json_output:
        write_json([{"name": recipe.name, "description": recipe.description} for recipe in recipes])
    else:
        table(("name", "description"), ((recipe.name, recipe.summary) for recipe in recipes))


def show(name: Name, json_output: JsonFlag = False) -> None:
    """Print a packaged recipe."""
    from leakaudit.recipes.library import find_recipe

    recipe = find_recipe(name)
    text = recipe.path.read_text(encoding="utf-8")
    if json_output:
        write_json({"name": recipe.name, "description": recipe.description, "text": text})
    else:
        typer.echo(text, nl=False)


def copy(
    name: Name,
    target: Annotated[Path | None, typer.Argument(help="File or folder; by default NAME.yaml here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Copy a packaged recipe, to be edited, and print where it is."""
    from leakaudit.recipes.library import copy_recipe

    typer.echo(str(copy_recipe(name, target, force=force)))


VERBS: dict[str, Callable[..., None]] = {"list": list_recipes, "show": show, "copy": copy}
