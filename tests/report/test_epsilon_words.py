"""What canaries show is said of canaries: a bound from below and its ceiling, never a share of recovery."""

from __future__ import annotations

from typing import Any

import pytest

from leakaudit.report.junit import junit_xml
from leakaudit.report.model import Report
from leakaudit.report.words import with_sentences


@pytest.fixture
def audited(report: Report) -> Report:
    report_data: dict[str, Any] = report.model_dump(mode="json")
    pairing = next(p for p in report_data["pairings"] if p["endpoints"] and p["defense"] != "none")
    endpoint = pairing["endpoints"][0]
    endpoint |= {"name": "canaries", "kind": "epsilon", "blind": None, "confounded": False}
    endpoint["leakage"] |= {"value": 0.6, "ci": [0.6, 1.0], "patients": 200, "per_patient": [], "worst": None, "above": None}
    endpoint["raw"] = {"epsilon_lower_bound": {"value": 1.39}, "epsilon_ceiling": {"value": 2.78}}
    pairing |= {"endpoints": [endpoint], "status": "FAIL", "claim": None}
    pairing["leakage"] = {"value": 0.6, "ci": [0.6, 1.0], "endpoint": "canaries", "kind": "epsilon"}
    return with_sentences(Report.model_validate(report_data))


def test_the_sentence_is_about_epsilon(audited: Report) -> None:
    said = [line for p in audited.pairings for line in p.sentences if "canaries" in line]
    assert any("200 canaries show an epsilon of at least 1.39" in line and "would have shown 2.78" in line for line in said), said
    assert not any("canaries: the attack got" in line for line in said)


def test_canaries_are_not_called_patients_in_junit(audited: Report) -> None:
    text = junit_xml(audited)
    line = next(line for line in text.splitlines() if "canaries (" in line)
    assert "200 canaries" in line
    assert "200 patients" not in line
