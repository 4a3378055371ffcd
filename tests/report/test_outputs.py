"""JUnit, CSV, pseudonyms, sanitized text and the files of a report."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from leakaudit.errors import UserError
from leakaudit.report.csv import COLUMNS, csv_text
from leakaudit.report.files import read_report, write_report
from leakaudit.report.junit import junit_xml
from leakaudit.report.model import Report
from leakaudit.report.privacy import pseudonym, sanitize
from leakaudit.report.svg import ticks


def test_ticks_are_round_and_inside():
    assert ticks(-0.03, 0.66) == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert ticks(0.0, 1.0, 5) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(("fail_on", "failed"), [("review", {"FAIL", "REVIEW"}), ("fail", {"FAIL"}), ("never", set())])
def test_junit_counts(report, fail_on, failed):
    root = ET.fromstring(junit_xml(report, fail_on=fail_on))
    statuses = [p.status for p in report.pairings]
    assert len(root.findall(".//testcase")) == len(statuses)
    assert len(root.findall(".//failure")) == sum(s in failed for s in statuses)
    assert len(root.findall(".//error")) == statuses.count("ERROR") == sum(int(s.get("errors")) for s in root)
    outcomes = [e for c in root.iter("testcase") for e in c if e.tag != "system-out"]
    assert len(root.findall(".//testcase")) - len(outcomes) == statuses.count("PASS")


def test_junit_carries_the_numbers_of_every_endpoint(report):
    cases = list(ET.fromstring(junit_xml(report)).iter("testcase"))
    texts = {(c.get("classname"), c.get("name")): c.findtext("system-out", "") for c in cases}
    for p in report.pairings:
        lines = texts[f"{p.protocol}.{p.defense}", p.attack].splitlines()
        assert len(lines) == len(p.endpoints)
        for line, e in zip(lines, p.endpoints, strict=True):
            assert f"leakage {e.leakage.value:.2f} (95 % interval" in line.replace("\u2212", "-")
            assert f"36 patients); limit {e.limit:.2f};" in line
            assert (
                f"; p {e.controls.evidence_shuffle.p:.3f}, adjusted {e.controls.evidence_shuffle.adjusted:.3f}; scope: 3 tr" in line
            )
            assert ("of patients above patient_max" in line) is (e.kind != "membership")


def test_junit_survives_characters_that_xml_forbids(factory):
    data = factory.make_dict(20)
    data["pairings"][5]["reasons"] = ["bad \x00\x1b[31m <b>"]
    root = ET.fromstring(junit_xml(Report.model_validate(data)))
    messages = [e.get("message", "") for case in root.iter("testcase") for e in case]
    assert any(m.endswith("bad \ufffd\ufffd[31m <b>") for m in messages)


def test_csv_is_long_form_and_safe_for_spreadsheets(factory):
    data = factory.make_dict(20)
    data["pairings"][5]["reasons"] = ["=HYPERLINK(1)"]
    report = Report.model_validate(data)
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == sum(max(1, len(p.endpoints)) for p in report.pairings)
    assert "'=HYPERLINK(1)" in {row["reasons"] for row in rows}
    assert float(rows[0]["leakage"]) == report.pairings[0].endpoints[0].leakage.value
    e = report.pairings[0].endpoints[0]
    first = {name: float(rows[0][name]) for name in ("low", "high", "q05", "q95", "p", "p_adjusted", "above_low", "negative_high")}
    assert [first["low"], first["high"]] == e.leakage.ci
    assert (first["q05"], first["q95"]) == (e.leakage.quantiles.low, e.leakage.quantiles.high)
    assert (first["p"], first["p_adjusted"]) == (e.controls.evidence_shuffle.p, e.controls.evidence_shuffle.adjusted)
    assert (first["above_low"], first["negative_high"]) == (e.leakage.above.ci[0], e.controls.negative.ci[1])
    assert (rows[0]["scope"], rows[0]["patients"], rows[0]["attack_seeds"]) == ("3 trainings, 36 patients", "36", "3")
    assert (rows[0]["positive_passed"], rows[0]["planted_passed"]) == ("true", "")
    member = next(row for row in rows if row["kind"] == "membership")
    assert (member["blind"], member["confounded"], member["worst"]) == ("0.06", "false", "")
    error = next(row for row in rows if row["status"] == "ERROR")
    assert error["leakage"] == ""
    assert "nan" not in csv_text(report).lower().replace("returned nan", "")


def test_pseudonyms_depend_on_the_salt():
    one, two = pseudonym(b"a" * 16, "BraTS20_001"), pseudonym(b"b" * 16, "BraTS20_001")
    assert one != two
    assert one == pseudonym(b"a" * 16, "BraTS20_001")
    with pytest.raises(ValueError, match="16 random bytes"):
        pseudonym(b"short", "x")


@pytest.mark.parametrize(
    "secret",
    [
        "/data/hospital/DOE_JANE/t1.nii.gz", "C:\\scans\\DOE\\t1.dcm", "~/scans/doe/x.nii", "imagesTr/BRATS_001.nii.gz",
        "doe_t1.nii.gz",
        "1.2.840.113619.2.55.3.604688119", "MRN 00481234", "https://pacs.example.org/doe", "jane.doe@example.org",
        "array([[0.1, 0.2],\n [0.3, 0.4]])", "[0.123 0.456 0.789 0.111 0.222 0.333 0.444 0.555]", "case DOE-77 failed",
    ],
)  # fmt: skip
def test_sanitized_text_keeps_the_message_and_loses_identifiers(secret):
    clean = sanitize(f"shapes differ: {secret}", known=("DOE-77",))
    assert clean.startswith("shapes differ: ")
    for part in ("DOE", "doe", "JANE", "BRATS_001", "604688119", "00481234", "0.1", "0.456", "pacs"):
        assert part not in clean


def test_sanitize_leaves_plain_messages_alone():
    text = "The attack returned 3 of 36 images with shape (64, 48); expected (64, 64) and/or masks at level0 (0.25 s)."
    assert sanitize(text) == text


def test_files_round_trip(factory, tmp_path):
    report = factory.make_report(20)
    written = write_report(report, tmp_path / "out", formats=("json", "html", "junit", "csv"))
    assert [p.name for p in written] == ["report.json", "report.html", "report.junit.xml", "report.csv"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in written)
    assert read_report(tmp_path / "out") == report
    again = write_report(read_report(tmp_path / "out"), tmp_path / "again")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in written[:2]]


def test_real_images_stay_in_a_private_folder(factory, tmp_path):
    data = factory.make_dict(1, synthetic=False) | {"contains_patient_images": True}
    written = write_report(Report.model_validate(data), tmp_path, formats=("json", "html", "csv"))
    private = [p for p in written if "iVBORw0KGgo" in p.read_text()]
    assert private == [tmp_path / "restricted" / "report.restricted.html"]
    assert (tmp_path / "restricted").stat().st_mode & 0o777 == 0o700


def test_unreadable_reports_give_a_sentence(tmp_path, factory):
    with pytest.raises(UserError, match="cannot be read"):
        read_report(tmp_path / "missing.json")
    file = tmp_path / "report.json"
    data = factory.make_dict(1) | {"schema_version": "9.0"}
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"schema_version: Input should be '1\.0'"):
        read_report(tmp_path)


def test_report_room_does_not_import_torch():
    code = "import sys, leakaudit.report.files, leakaudit.report.schema; print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "set()"
