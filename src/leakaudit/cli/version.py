"""`leakaudit version`: versions, without importing anything heavy."""

from __future__ import annotations

import typer

from leakaudit.cli._output import JsonFlag, write_json

__all__ = ["version"]


def version(json_output: JsonFlag = False) -> None:
    """Show the versions of leakaudit, its plugin contract, Python and PyTorch."""
    from leakaudit.cli._checks import versions

    found = versions()
    if json_output:
        write_json(found)
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in found.items()))
