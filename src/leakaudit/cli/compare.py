"""`leakaudit compare`: what changed between two reports, and whether that is significant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leakaudit.cli._output import JsonFlag, note, table, write_json

if TYPE_CHECKING:
    from leakaudit.report.compare import Changes, NumberChange

__all__ = ["WORSE", "compare"]

WORSE = 3
"""Exit code: a leakage rose or Dice fell significantly, or a status got worse."""

_HELP = "folder of a run, or a report.json"


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help=f"The earlier run: {_HELP}.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help=f"The later run: {_HELP}.", show_default=False)],
    json_output: JsonFlag = False,
) -> None:
    """Show what changed from A to B, significantly or not; exit code 3 if anything got significantly worse, otherwise 0.

    Worse: a leakage that rose, a Dice that fell (95 % interval of the difference without 0), or a status that went from PASS
    to anything else or from REVIEW to FAIL or ERROR. The two runs are treated as independent, which is conservative for runs
    that share patients.
    """
    from leakaudit.report.compare import compare_reports
    from leakaudit.report.files import read_report

    changes = compare_reports(read_report(a), read_report(b))
    code = WORSE if changes.worse() else 0
    if json_output:
        write_json(changes.model_dump(mode="json") | {"exit_code": code})
    else:
        _print(changes)
    raise typer.Exit(code)


def _print(changes: Changes) -> None:
    """Write the changes as tables, most important first; warnings go to stderr."""
    for warning in changes.warnings:
        note(f"warning: {warning}")
    statuses = [*([changes.verdict] if changes.verdict else []), *changes.statuses]
    if statuses:
        rows = [(s.of, s.where or "-", s.before, s.after, s.direction) for s in statuses]
        _section(("status of", "where", "A", "B", "change"), rows)
    numbers = [*changes.leakage, *changes.dice]
    if numbers:
        _section(("number", "where", "A", "B", "B - A", "95 % interval", "change"), [_row(n) for n in numbers])
    only = [("A", name) for name in changes.only_a] + [("B", name) for name in changes.only_b]
    if only:
        _section(("only in", "what"), only)
    count = Counter(n.outcome for n in numbers)
    typer.echo(
        f"Numbers compared: {changes.compared}; changed: {len(numbers)} ({count['worse']} significantly worse, "
        f"{count['better']} significantly better, {count['not significant']} not significantly, "
        f"{count['not decidable']} not decidable). "
        f"Statuses changed: {len(statuses)} ({sum(s.direction == 'worse' for s in statuses)} for the worse)."
    )
    for text in changes.notes:
        typer.echo(text)


def _row(change: NumberChange) -> tuple[str, ...]:
    place = (change.protocol, change.defense, change.attack, change.endpoint)
    where = " / ".join(part for part in place if part is not None)
    ci = change.difference.ci
    interval = f"{ci[0]:+.3f} to {ci[1]:+.3f}" if ci else "-"
    why = f": {change.difference.reason}" if change.outcome == "not decidable" else ""
    shift = _number(change.difference.value, "+.3f")
    return change.quantity, where, _number(change.before), _number(change.after), shift, interval, f"{change.outcome}{why}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _section(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    # A report may come from elsewhere: its text must not steer the terminal.
    table(header, [tuple("".join(c if c.isprintable() else "?" for c in cell) for cell in row) for row in rows])
    typer.echo("")
