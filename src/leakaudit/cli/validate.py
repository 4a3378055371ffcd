"""`leakaudit validate`: check a recipe and nothing else."""

from __future__ import annotations

import typer

from leakaudit.cli._options import RecipeFile, Sets
from leakaudit.cli._output import JsonFlag, write_json

__all__ = ["validate"]


def validate(recipe: RecipeFile, overrides: Sets = None, json_output: JsonFlag = False) -> None:
    """Check a recipe against the installed plugins; exit code 2 and every problem if it is invalid.

    With --json the resolved recipe is written, every default explicit.
    """
    from leakaudit.recipes.loading import load_recipe

    resolved = load_recipe(recipe, overrides or (), allow_patient_images=True)
    if json_output:
        write_json({"valid": True, "sha256": resolved.sha256, "recipe": resolved.document})
        return
    typer.echo(
        f"{recipe}: valid. {resolved.name}: dataset {resolved.data.label}; "
        f"protocols {', '.join(choice.label for choice in resolved.protocols)}; "
        f"defenses {', '.join(choice.label for choice in resolved.defenses)}; "
        f"attacks {', '.join(choice.label for choice in resolved.attacks) or 'none'}."
    )
