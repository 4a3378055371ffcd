"""Broken plugins give ERROR cells with a reason for people, and an otherwise whole report."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Audit, Machine, attack, tiny

REASONS = {
    "requires": "cannot say what it needs: RuntimeError: no idea what I need",
    "raises": "RuntimeError: the decoder did not converge",
    "nan": "values that are not finite",
    "shape": "the cohort has",
    "rows": "rows about",
    "tokens": "says nothing about",
    "missing": "says nothing about 1 of 8 targets",
    "twice": "about 1 targets twice",
    "channel": "said to come from channel 'update'",
    "seat": "is about seat 'client-77'",
    "scores": "no targets that Scores can be about",
    "none": "run() returned a NoneType",
    "nothing": "run() returned no evidence",
    "exits": "its process exited with code 3",
    "quits": "its process exited with code 0",
    "files": "KeyboardInterrupt",
    "play-exits": "exited with code 3",
    "play-lies": "in the name of 'client-1'",
    "play-nan": "values that are not finite",
    "play-raises": "the server gave up",
    "play-nothing": "play() returned a NoneType",
}


@pytest.fixture(scope="session")
def audit(machine: Machine) -> Audit:
    broken = [attack("toy-broken", how, how=how) for how in REASONS]
    recipe = tiny("broken", attacks=[*broken, attack("toy-missing"), attack("toy-guess")])
    return machine.run(machine.write(recipe), machine.root / "broken")


@pytest.mark.parametrize("how", REASONS)
def test_it_is_an_error_with_a_reason(audit: Audit, how: str) -> None:
    pairing = audit.pairing(how)
    assert pairing["status"] == "ERROR"
    assert any(REASONS[how] in reason for reason in pairing["reasons"]), pairing["reasons"]
    assert not any("/tmp" in reason or str(audit.out) in reason for reason in pairing["reasons"])


def test_a_target_that_cannot_be_imported_is_an_error(audit: Audit) -> None:
    pairing = audit.pairing("toy-missing")
    assert pairing["status"] == "ERROR"
    assert any("the GPU library is not there" in reason for reason in pairing["reasons"]), pairing["reasons"]


def test_the_rest_of_the_report_is_whole(audit: Audit) -> None:
    pairing = audit.pairing("toy-guess")
    assert pairing["status"] == "control"
    assert {e["kind"] for e in pairing["endpoints"]} >= {"fidelity", "identity"}
    assert audit.report["cells"]["failed"] >= len(REASONS) - 1
    assert "the decoder did not converge" in (audit.out / "report.html").read_text()


def test_a_hanging_attack_is_stopped(audit: Audit, machine: Machine) -> None:
    recipe = tiny("broken", attacks=[attack("toy-broken", "hangs", how="hangs"), attack("toy-guess")])
    recipe["run"]["cell_timeout_s"] = 3
    path = machine.root / "hangs.yaml"
    machine.write({**recipe, "name": "hangs"})
    again = machine.run(path, audit.out)
    pairing = again.pairing("hangs")
    assert pairing["status"] == "ERROR"
    assert any("still running after its limit of 3 s" in reason for reason in pairing["reasons"]), pairing["reasons"]
    assert again.pairing("toy-guess")["endpoints"]


def test_a_named_plugin_that_raises_at_import_ends_the_run(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "leakaudit_crashing"
    source.mkdir()
    (source / "__init__.py").write_text("")
    (source / "plugin.py").write_text("raise RuntimeError('built for another Python')\n")
    elsewhere = Machine(tmp_path)
    elsewhere.install("leakaudit_crashing", source)
    elsewhere.allowed.append("leakaudit-crashing")
    recipe = elsewhere.write(tiny("named", attacks=[{"use": "leakaudit-crashing/never"}, {"use": "toy-guess"}]))
    code, output = elsewhere.call("run", recipe, "--out", tmp_path / "out", "--fail-on", "never")
    assert code == 5, output
    assert "built for another Python" in output
    assert "Traceback" not in output
    assert not (tmp_path / "out" / "report.json").exists()
