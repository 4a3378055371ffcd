"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["OutFolder", "RecipeFile", "Sets"]

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe, a YAML file.", show_default=False)]
OutFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run (its --out).", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change the recipe, for example attacks.0.params.iterations=200."),
]
