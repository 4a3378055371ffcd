"""`leakaudit run`: train, attack, defend, attack again, and write the report."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from leakaudit.cli._options import RecipeFile, Sets
from leakaudit.cli._output import JsonFlag, note, write_json

__all__ = ["FailOn", "run"]


class FailOn(StrEnum):
    """Which verdicts make the exit code non-zero."""

    never = "never"
    fail = "fail"
    review = "review"


def run(
    recipe: RecipeFile,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of results; by default NAME-audit.")] = None,
    overrides: Sets = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="Verdicts with a non-zero exit code: never, fail (3), review (also 4). By default the policy's."),
    ] = None,
    patient_images: Annotated[
        bool, typer.Option("--patient-images", help="Confirm report.images: all. The report then shows patients.")
    ] = False,
    progress: Annotated[bool, typer.Option(help="Show progress on stderr.")] = True,
    json_output: JsonFlag = False,
) -> None:
    """Run an audit and write its report.

    A run that was interrupted goes on where it stopped when the same command is given again.
    Exit codes: 0 PASS, 1 internal error, 2 invalid recipe, 3 FAIL, 4 no verdict, 5 plugin not loadable.
    """
    from leakaudit.recipes.loading import load_recipe

    resolved = load_recipe(recipe, overrides or (), allow_patient_images=patient_images)

    from leakaudit.engine import api

    folder = out or Path(f"{resolved.name}-audit")
    gate = fail_on.value if fail_on else resolved.policy.fail_on
    result = api.run(resolved, folder, fail_on=gate, progress=progress)
    if result.private_log is not None:
        note(f"What failed is told in full, with names of patients and files, in {result.private_log}. Do not pass it on.")
    if json_output:
        write_json(
            {
                "status": result.status,
                "exit_code": result.exit_code,
                "sentence": result.sentence,
                "report_json": str(result.report_json),
                "report_html": str(result.report_html),
            }
        )
    else:
        typer.echo(f"{result.status}: {result.sentence}")
        typer.echo(f"Report: {result.report_html}")
    raise typer.Exit(result.exit_code)
