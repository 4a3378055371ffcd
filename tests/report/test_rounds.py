"""Two rounds of one level are two endpoints, in every form of a report."""

from __future__ import annotations

import copy
import csv
import html
import io
import re
from xml.etree import ElementTree as ET

import pytest
from factory_pairings import blob

from leakaudit.report.compare import compare_reports
from leakaudit.report.csv import csv_text
from leakaudit.report.junit import junit_xml
from leakaudit.report.model import Report
from leakaudit.report.pairing_tables import endpoints_table
from leakaudit.report.render import render_html

ROUNDS = (0, 5, None)


@pytest.fixture
def data(factory):
    """A pairing whose endpoints have the same name and differ in the round only."""
    found = copy.deepcopy(factory.make_dict(2, images=False))
    first = found["pairings"][0]["endpoints"][0]
    found["pairings"][0]["endpoints"] = [copy.deepcopy(first) | {"round": r} for r in ROUNDS]
    return found


def test_csv_has_a_column_for_the_round(data):
    rows = list(csv.DictReader(io.StringIO(csv_text(Report.model_validate(data)))))
    assert [row["round"] for row in rows[:3]] == ["0", "5", ""]
    assert {row["level"] for row in rows[:3]} == {"level0"}


def test_junit_names_the_round(data):
    case = next(ET.fromstring(junit_xml(Report.model_validate(data))).iter("testcase"))
    places = [re.search(r"\((activation[^)]*)\)", line)[1] for line in case.findtext("system-out").splitlines()]
    assert places == [f"activation, client-0, level0{tail}" for tail in (", round 0", ", round 5", "")]


def test_the_table_of_endpoints_names_the_round(data):
    table = endpoints_table(Report.model_validate(data).pairings[0])
    for tail in (", round 0", ", round 5", ""):
        assert f"<small>client-0, level0{tail}</small>" in table


def test_a_change_in_one_round_is_a_change_of_that_round(data):
    after = copy.deepcopy(data)
    after["pairings"][0]["endpoints"][1]["leakage"] |= {"value": 0.1, "ci": [0.05, 0.15]}
    del after["pairings"][0]["endpoints"][0]
    changes = compare_reports(Report.model_validate(data), Report.model_validate(after))
    assert [c.endpoint for c in changes.leakage] == ["masked-ssim (activation, client-0, level0, round 5)"]
    assert [name for name in changes.only_a if name.startswith("endpoint")] == [
        "endpoint split / none / model-inversion / masked-ssim (activation, client-0, level0, round 0)"
    ]


def test_a_picture_says_its_round(data):
    data["pairings"][0]["images"] = [
        {"patient": "P-0a1b2c3d", "level": "level0", "round": r, "original": blob(1, 0), "reconstruction": blob(1, 5)}
        for r in ROUNDS
    ]
    page = html.unescape(render_html(Report.model_validate(data)))
    captions = re.findall(r"<figcaption>(P-0a1b2c3d[^<]*)</figcaption>", page)
    assert captions == ["P-0a1b2c3d, level0, round 0", "P-0a1b2c3d, level0, round 5", "P-0a1b2c3d, level0"]
