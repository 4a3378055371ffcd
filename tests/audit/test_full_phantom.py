"""The recipe that shows every verdict: what must pass and what must fail do, and each REVIEW gives its own reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

RECIPE = Path(__file__).parents[2] / "recipes" / "full-phantom.yaml"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("full") / "audit"
    command = [sys.executable, "-m", "leakaudit.cli", "run", str(RECIPE), "--out", str(out), "--fail-on", "never"]
    subprocess.run(command, check=True, timeout=3000)
    return dict(json.loads((out / "report.json").read_text()))


def pairing(report: dict[str, Any], defense: str) -> dict[str, Any]:
    return next(p for p in report["pairings"] if p["defense"] == defense)


@pytest.mark.timeout(3300)
def test_what_is_true_by_construction_is_found(report: dict[str, Any]) -> None:
    status = {b["defense"]: b["status"] for b in report["baselines"]}
    assert status["noise-3000"] == "PASS"
    assert status["noise-0.05"] == "FAIL"
    bits = next(e for e in pairing(report, "noise-0.05")["endpoints"] if e["kind"] == "canary")
    assert bits["leakage"]["value"] > 0.9


@pytest.mark.timeout(3300)
@pytest.mark.parametrize(
    ("defense", "words"),
    [
        ("noise-1000", "was not adaptive"),
        ("noise-2000", "the attack recovered"),
        ("noise-4", "patients are too few to pass"),
    ],
)
def test_each_review_says_why(report: dict[str, Any], defense: str, words: str) -> None:
    found = pairing(report, defense)
    assert found["status"] == "REVIEW"
    assert any(words in reason for reason in found["reasons"])
