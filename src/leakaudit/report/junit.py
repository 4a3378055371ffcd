"""JUnit XML for CI: one test suite for each protocol, one test case for each pairing."""

from __future__ import annotations

import re
from typing import Literal
from xml.etree import ElementTree as ET

from leakaudit.report.model import Report
from leakaudit.report.pairings import Endpoint, Pairing
from leakaudit.report.phrases import measured, number, percent, place, probability

__all__ = ["junit_xml"]

# XML 1.0 has no way to write these, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLURALS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _outcome(pairing: Pairing, fail_on: str) -> str | None:
    """Return the JUnit element of a pairing's status, None where the test case simply passed."""
    if pairing.status == "ERROR":
        return "error"
    if pairing.status == "FAIL":
        return "skipped" if fail_on == "never" else "failure"
    if pairing.status == "REVIEW":
        return "failure" if fail_on == "review" else "skipped"
    return None if pairing.status == "PASS" else "skipped"


def junit_xml(report: Report, *, fail_on: Literal["never", "fail", "review"] = "review") -> str:
    """Return the report as JUnit XML.

    FAIL is a failure, ERROR an error, N/A and undefended controls are skipped. REVIEW is a failure of type REVIEW, because
    it is not a mild PASS; with `fail_on="fail"` it is skipped instead, with `"never"` so is FAIL. The numbers of every endpoint
    stand in the test case's `system-out`.

    Args:
        report: The report.
        fail_on: As on the command line.
    """
    root = ET.Element("testsuites", name=_clean(report.recipe.name))
    for protocol in dict.fromkeys(p.protocol for p in report.pairings):
        pairings = [p for p in report.pairings if p.protocol == protocol]
        outcomes = [_outcome(p, fail_on) for p in pairings]
        counts = {many: str(outcomes.count(one)) for many, one in _PLURALS.items()}
        suite = ET.SubElement(root, "testsuite", {"name": _clean(protocol), "tests": str(len(pairings)), **counts})
        for pairing, outcome in zip(pairings, outcomes, strict=True):
            case = ET.SubElement(
                suite, "testcase", classname=_clean(f"{protocol}.{pairing.defense}"), name=_clean(pairing.attack),
                time=f"{pairing.cost.seconds or 0:.3f}",
            )  # fmt: skip
            if outcome is not None:
                message = _clean(f"{pairing.status}: {'; '.join(pairing.reasons) or 'undefended, never a gate'}")
                kind: dict[str, str] = {} if outcome == "skipped" else {"type": pairing.status}
                ET.SubElement(case, outcome, {"message": message, **kind})
            if pairing.endpoints:
                ET.SubElement(case, "system-out").text = _clean("\n".join(_line(e) for e in pairing.endpoints))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _line(endpoint: Endpoint) -> str:
    """Return the numbers of an endpoint in one line."""
    leakage, test = endpoint.leakage, endpoint.controls.evidence_shuffle
    shown = measured(leakage, leakage.patients, canaries=endpoint.kind == "epsilon")
    parts = [f"{endpoint.name} ({place(endpoint)}): {endpoint.status}, leakage {shown}"]
    parts.append(f"limit {number(endpoint.limit)}" if endpoint.limit is not None else "no limit")
    if leakage.worst is not None:
        parts.append(f"worst patient {number(leakage.worst.value)}")
    if leakage.above is not None and leakage.above.value is not None:
        parts.append(f"{percent(leakage.above.value)} of patients above patient_max")
    if test is not None:
        adjusted = "" if test.adjusted is None else f", adjusted {probability(test.adjusted)}"
        parts.append(f"p {probability(test.p)}{adjusted}")
    return "; ".join([*parts, f"scope: {leakage.scope}"])


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
