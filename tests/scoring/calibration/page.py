"""docs/evidence.md and its tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from calibration import chance, controls, epsilon, membership, multiplicity, passing, patients, rates, repeats, utility
from calibration.figures import Table

__all__ = ["PAGE", "TABLES", "ours", "replaced", "shown"]

PAGE = Path(__file__).parents[3] / "docs" / "evidence.md"
MODULES = (patients, repeats, passing, chance, multiplicity, controls, epsilon, membership, rates, utility)
TABLES: tuple[Table, ...] = tuple(table for module in MODULES for table in module.TABLES)


def shown(text: str, name: str) -> list[str]:
    """Return the lines of a table of the page."""
    return _block(name).search(text)[2].splitlines()


def replaced(text: str, name: str, lines: Sequence[str]) -> str:
    """Return the page with other lines in one table."""
    return _block(name).sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[3], text)


def ours(line: str, labels: int) -> list[float]:
    """Return our figures of one line of a table, after its labels."""
    cells = [cell.strip() for cell in line.strip("| \n").split(" | ")][labels:]
    return [float(cell.rpartition(" / ")[2].partition(" ± ")[0]) for cell in cells]


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- table: {re.escape(name)} -->\n)(.*?)(<!-- end -->)", re.S)
