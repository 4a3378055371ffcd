"""Toy sections: one works, one raises, one returns what is no text."""

from __future__ import annotations

from collections.abc import Sequence

from leakaudit.plugins import Params
from leakaudit.report import Report, SectionTable, SectionWriter
from leakaudit_sections.params import Listing


class Trainings(SectionWriter[Listing]):
    """Lists the trainings and their Dice."""

    def write(self, report: Report) -> Sequence[str | SectionTable]:
        rows = [[b.protocol, b.defense, str(b.utility.n)] for b in report.baselines]
        return [
            f"{self.params.opening} {len(rows)} <b>of them</b>.",
            SectionTable(caption="Trainings", columns=["protocol", "defense", "n"], rows=rows),
        ]


class Fragile(SectionWriter[Params]):
    """Fails with the path of a scan in its message."""

    def write(self, report: Report) -> Sequence[str | SectionTable]:
        raise FileNotFoundError("no such scan: /data/hospital/DOE_JANE/t1.nii.gz")


class Odd(SectionWriter[Params]):
    """Returns a number."""

    def write(self, report: Report) -> Sequence[str | SectionTable]:
        return [report.verdict.exit_code]  # type: ignore[list-item]
