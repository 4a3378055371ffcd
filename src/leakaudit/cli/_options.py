"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["OutFolder", "RecipeFile", "Sets"]


def _packaged(value: Path) -> Path:
    """Return the packaged recipe of this name where there is no such file; reading says what is wrong with any other."""
    if value.exists():
        return value
    from leakaudit.recipes.library import packaged_recipes

    return next((recipe.path for recipe in packaged_recipes() if recipe.name == str(value)), value)


RecipeFile = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", help="Recipe: a YAML file, or the name of a packaged one.", show_default=False, callback=_packaged
    ),
]
OutFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run (its --out).", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change the recipe, for example attacks.0.params.iterations=200."),
]
