"""Reading `report.json` and writing a report's files, each whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from leakaudit.errors import UserError
from leakaudit.report.csv import csv_text
from leakaudit.report.junit import junit_xml
from leakaudit.report.model import SCHEMA_VERSION, Report
from leakaudit.report.render import render_html
from leakaudit.report.words import with_sentences

__all__ = ["FILE_NAMES", "RESTRICTED", "Format", "read_report", "write_report"]

Format = Literal["json", "html", "junit", "csv"]
FILE_NAMES: dict[Format, str] = {"json": "report.json", "html": "report.html", "junit": "report.junit.xml", "csv": "report.csv"}

RESTRICTED = "restricted"
"""Folder for pages with images of patients; only its owner may enter it."""

_SHOWN = 5


def read_report(path: Path) -> Report:
    """Read a `report.json`.

    Args:
        path: The file, or the folder of a run that holds it.

    Raises:
        UserError: There is no such file, or it is not a report of this schema version.
    """
    file = path / FILE_NAMES["json"] if path.is_dir() else path
    try:
        return Report.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Expected the report.json of a run.") from error
    except ValidationError as error:
        # Only place and message of each problem: pydantic's own text would print the input.
        problems = [f"{'.'.join(str(part) for part in e['loc']) or 'the file'}: {e['msg']}" for e in error.errors()]
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        listing = "\n  ".join(problems[:_SHOWN])
        raise UserError(f"{file}: not a report.json of schema version {SCHEMA_VERSION}:\n  {listing}{more}") from None


def write_report(
    report: Report,
    folder: Path,
    *,
    formats: Sequence[Format] = ("json", "html"),
    fail_on: Literal["never", "fail", "review"] = "review",
) -> list[Path]:
    """Write the files of a report and return their paths.

    Images of real patients, where a flag asked for them, go into `restricted/report.restricted.html` (directory mode 0700)
    and nowhere else: `report.json` and `report.html` are written without them.

    Args:
        report: The report; its sentences are generated anew.
        folder: Where to write; made when missing.
        formats: Which files.
        fail_on: For JUnit, as on the command line.
    """
    report = with_sentences(report)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if report.contains_patient_images and "html" in formats:
        restricted = folder / RESTRICTED
        if restricted.is_symlink():
            raise UserError(f"{restricted} is a link. Images of patients belong into a folder of the run itself; remove the link.")
        restricted.mkdir(mode=0o700, exist_ok=True)
        restricted.chmod(0o700)
        written.append(_write(restricted / "report.restricted.html", render_html(report, restricted=True), 0o600))
    if report.contains_patient_images and not (report.data.synthetic or report.data.public):
        bare = [p.model_copy(update={"images": []}) for p in report.pairings]
        report = report.model_copy(update={"pairings": bare, "contains_patient_images": False})
    for name in formats:
        text = {
            "json": lambda r: r.model_dump_json(indent=1) + "\n",
            "html": render_html,
            "junit": lambda r: junit_xml(r, fail_on=fail_on),
            "csv": csv_text,
        }[name](report)
        written.append(_write(folder / FILE_NAMES[name], text, 0o644))
    return written


def _write(path: Path, text: str, mode: int) -> Path:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
