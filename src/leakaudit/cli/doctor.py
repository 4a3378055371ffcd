"""`leakaudit doctor`: whether this machine can run an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leakaudit.cli._output import JsonFlag, table, write_json

__all__ = ["doctor"]


def doctor(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder in which runs would be written.")] = Path(),
    json_output: JsonFlag = False,
) -> None:
    """Check Python, dependencies, accelerator, plugins and disk. Exit code 1 if something would stop a run."""
    from leakaudit.cli._checks import examine

    results = examine(out)
    if json_output:
        write_json([{"check": r.name, "status": r.status, "detail": r.detail} for r in results])
    else:
        table(("check", "status", "detail"), ((r.name, r.status, r.detail) for r in results))
    if any(r.status == "error" for r in results):
        raise typer.Exit(1)
