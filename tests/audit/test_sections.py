"""Sections of the report that installed plugins write: named by the recipe, shown or shown as failed, powerless over the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import TOYS, Audit, Machine, attack, tiny

NAMED = [{"use": "trainings", "params": {"opening": "Trained:"}}, "fragile", {"use": "odd", "name": "strange"}, "absent"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("sections"))
    machine.install("leakaudit_sections", TOYS / "leakaudit_sections")
    machine.allowed.append("leakaudit-sections")
    return machine


@pytest.fixture(scope="module")
def audit(place: Machine) -> Audit:
    recipe = tiny("sections", attacks=[attack("toy-guess")], report={"sections": NAMED})
    return place.run(place.write(recipe), place.root / "sections")


def test_sections_stand_in_the_order_of_the_recipe(audit: Audit) -> None:
    found = audit.report["sections"]
    assert [s["title"] for s in found] == ["All trainings", "fragile", "strange", "absent"]
    assert {s["plugin"].split("/")[0] for s in found} == {"leakaudit-sections"}
    works = found[0]
    assert works["failed"] is None
    assert works["paragraphs"] == ["Trained: 1 <b>of them</b>."]
    assert works["tables"] == [{"caption": "Trainings", "columns": ["protocol", "defense", "n"], "rows": [["split", "none", "5"]]}]


def test_a_section_that_fails_says_so_without_paths(audit: Audit) -> None:
    _, fragile, odd, absent = audit.report["sections"]
    assert fragile["failed"].startswith("FileNotFoundError: no such scan:")
    assert "DOE_JANE" not in json.dumps(audit.report)
    assert "hospital" not in fragile["failed"]
    assert "write() returned a int; expected text (str) or a SectionTable" in odd["failed"]
    assert absent["failed"].startswith("ModuleNotFoundError")
    assert all(s["paragraphs"] == s["tables"] == [] for s in (fragile, odd, absent))


def test_the_page_shows_them_escaped_and_the_failures_as_failures(audit: Audit) -> None:
    page = (audit.out / "report.html").read_text(encoding="utf-8")
    assert "Trained: 1 &lt;b&gt;of them&lt;/b&gt;." in page
    assert page.count("This section failed.") == 3
    assert "fragile" in page[page.index('id="failures"') : page.index('id="limits"')]
    plugins = page[page.index('id="provenance"') :]
    assert "someone else, not leakaudit" in plugins


def test_sections_change_neither_verdict_nor_numbers(place: Machine, audit: Audit) -> None:
    bare = place.run(place.write(tiny("bare", attacks=[attack("toy-guess")])), place.root / "bare").report
    assert bare["sections"] == []
    assert bare["verdict"] == audit.report["verdict"]
    assert bare["baselines"][0]["utility"] == audit.report["baselines"][0]["utility"]


def test_judging_anew_writes_the_sections_anew(place: Machine, audit: Audit, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("leakage_max: 0.2\n")
    before = audit.report["sections"]
    code, output = place.call("report", audit.out, "--policy", policy)
    assert code == 0, output
    assert audit.report["sections"] == before


def test_a_section_that_nobody_provides_is_an_error_with_its_place(place: Machine) -> None:
    recipe = place.write(tiny("typo", report={"sections": ["traninings"]}))
    code, output = place.call("validate", recipe)
    assert code == 2
    assert "report.sections.0" in output
    assert "trainings" in output


def test_the_conformance_kit_knows_sections(place: Machine) -> None:
    code, output = place.call("plugins", "check", "trainings")
    assert code == 0, output
    code, output = place.call("plugins", "check", "absent")
    assert code != 0
    assert "target" in output
