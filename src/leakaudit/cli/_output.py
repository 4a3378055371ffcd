"""Writes data to stdout: plain columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

__all__ = ["JsonFlag", "note", "table", "write_json"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
"""The `--json` option that every listing has."""


def write_json(value: Any) -> None:
    """Write a value as indented JSON to stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write aligned columns to stdout; the last column is as long as it needs to be."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def note(text: str) -> None:
    """Write something that is not data to stderr."""
    typer.echo(text, err=True)
