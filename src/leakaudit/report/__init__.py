"""The report: data model and schema of `report.json`, the HTML page, JUnit and CSV. Rendered from `report.json` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakaudit._lazy import lazy

if TYPE_CHECKING:
    from leakaudit.report.csv import csv_text
    from leakaudit.report.files import read_report, write_report
    from leakaudit.report.junit import junit_xml
    from leakaudit.report.model import Report, Section, SectionTable
    from leakaudit.report.render import render_html
    from leakaudit.report.schema import report_schema
    from leakaudit.report.sections import SectionWriter
    from leakaudit.report.words import with_sentences

__all__ = [
    "Report", "Section", "SectionTable", "SectionWriter", "csv_text", "junit_xml", "read_report", "render_html", "report_schema",
    "with_sentences", "write_report",
]  # fmt: skip

__getattr__ = lazy(
    __name__,
    {
        "Report": "model",
        "Section": "model",
        "SectionTable": "model",
        "SectionWriter": "sections",
        "csv_text": "csv",
        "junit_xml": "junit",
        "read_report": "files",
        "render_html": "render",
        "report_schema": "schema",
        "with_sentences": "words",
        "write_report": "files",
    },
)
