"""`leakaudit plan`: what a run would compute, without computing it."""

from __future__ import annotations

import typer

from leakaudit.cli._options import RecipeFile, Sets
from leakaudit.cli._output import JsonFlag, write_json

__all__ = ["plan"]


def plan(recipe: RecipeFile, overrides: Sets = None, json_output: JsonFlag = False) -> None:
    """Show the cells that a run would compute, and the pairings that make no sense, with the reason."""
    from leakaudit.recipes.loading import load_recipe

    resolved = load_recipe(recipe, overrides or (), allow_patient_images=True)

    from leakaudit.engine import api

    cells = api.plan(resolved)
    if json_output:
        write_json(cells.to_json())
    else:
        for line in cells.lines():
            typer.echo(line)
