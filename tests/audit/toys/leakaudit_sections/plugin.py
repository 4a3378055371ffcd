"""Hook implementations of the toy sections."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import Params, SectionInfo, hookimpl
from leakaudit_sections.params import Listing


@hookimpl
def leakaudit_report_sections() -> Iterator[SectionInfo]:
    common = {"api_version": "1.0"}
    yield SectionInfo(
        name="trainings", summary="Lists the trainings.", title="All trainings", params=Listing,
        target="leakaudit_sections.writers:Trainings", **common,
    )  # fmt: skip
    yield SectionInfo(name="fragile", summary="Fails.", params=Params, target="leakaudit_sections.writers:Fragile", **common)
    yield SectionInfo(name="odd", summary="Writes numbers.", params=Params, target="leakaudit_sections.writers:Odd", **common)
    yield SectionInfo(name="absent", summary="Is not there.", params=Params, target="leakaudit_sections.nowhere:Absent", **common)
