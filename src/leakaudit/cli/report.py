"""`leakaudit report`: render the report of a finished run again, without computing anything."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from leakaudit.cli._options import OutFolder

__all__ = ["Format", "report"]


class Format(StrEnum):
    """File formats of a report."""

    html = "html"
    json = "json"
    junit = "junit"
    csv = "csv"


def report(
    out: OutFolder,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="What to write; may be given twice. By default html.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="Judge by these thresholds instead of the recipe's.")] = None,
    patient_images: Annotated[
        bool,
        typer.Option("--patient-images", help="With --policy, confirm report.images: all; the restricted page is written anew."),
    ] = False,
) -> None:
    """Render the report of a run again and print the files written."""
    from leakaudit.engine import api

    chosen: tuple[Any, ...] = tuple(dict.fromkeys(form.value for form in formats or [Format.html]))
    for path in api.render(out, chosen, policy, patient_images=patient_images):
        typer.echo(str(path))
