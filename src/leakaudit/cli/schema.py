"""`leakaudit schema`: the JSON Schema of recipes, for editors."""

from __future__ import annotations

from leakaudit.cli._output import write_json

__all__ = ["schema"]


def schema() -> None:
    """Write the JSON Schema of recipes, including the parameters of the installed plugins."""
    from leakaudit.recipes.schema import recipe_schema

    write_json(recipe_schema())
