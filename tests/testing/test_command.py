"""`leakaudit plugins check`: the kit on the command line."""

from __future__ import annotations

import json
import subprocess
import sys

from faulty import FAULTY
from installed_plugins import Site
from typer.testing import CliRunner

from leakaudit.cli import app


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["plugins", "check", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_sound_plugin_is_listed_check_by_check(site: Site) -> None:
    site.install("leakaudit-faulty", FAULTY)
    code, out, _ = call("s", "--kind", "dataset")
    assert code == 0
    assert "z-scores         passed" in out
    assert out.endswith("dataset leakaudit-faulty/s 1.2.3 keeps the contract.\n")
    code, out, _ = call("s", "--json", "--params", '{"patients": 3}')
    assert {r["status"] for r in json.loads(out)} == {"passed", "not-tried"}


def test_a_broken_plugin_is_exit_code_1_and_a_fix(site: Site) -> None:
    site.install("leakaudit-faulty", FAULTY)
    code, out, err = call("s", "--params", '{"fault": "raw"}')
    assert (code, out) == (1, "")
    assert err.startswith("dataset leakaudit-faulty/s breaks the plugin contract in 1 check of 14:\n  z-scores: ")
    assert "Fix: z-score each sample over its brain." in err
    code, out, _ = call("s", "--params", '{"fault": "raw"}', "--json")
    assert code == 1
    assert [r["name"] for r in json.loads(out) if r["status"] == "failed"] == ["z-scores"]


def test_params_that_are_no_json_object_are_exit_code_2(site: Site) -> None:
    site.install("leakaudit-faulty", FAULTY)
    for text in ('{"fault"', "[1]"):
        code, out, err = call("s", "--params", text)
        assert (code, out) == (2, "")
        assert err.startswith("--params: ")


def test_the_command_line_does_not_load_the_kit_before_it_is_asked_for() -> None:
    code = "import sys, leakaudit.cli; print('leakaudit.testing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
