from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from installed_plugins import Site
from typer.testing import CliRunner, Result

import leakaudit.engine
import leakaudit.testing
from leakaudit.cli import app
from leakaudit.errors import UserError

RECIPE = """\
version: 1
name: toy
data: toy-data
protocols: [toy-split]
attacks: [toy-inversion]
run: {executor: toy-executor}
"""


@pytest.fixture
def recipe(toys: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@dataclass
class Outcome:
    status: str = "FAIL"
    exit_code: int = 3
    sentence: str = "model inversion recovers more than allowed."
    report_json: Path = Path("out/report.json")
    report_html: Path = Path("out/report.html")
    private_log: Path | None = None


class Cells:
    def lines(self) -> list[str]:
        return ["train toy-split/none", "attack toy-inversion"]

    def to_json(self) -> dict[str, Any]:
        return {"cells": 2}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An engine that only remembers how it was called; `calls["raise"]` is raised by `run`."""
    calls: dict[str, Any] = {}
    api = ModuleType("leakaudit.engine.api")

    def run(recipe: Any, out: Path, *, fail_on: str, progress: bool) -> Outcome:
        out.mkdir(exist_ok=True)
        if "raise" in calls:
            raise calls["raise"]
        calls["run"] = (recipe.name, out, fail_on, progress)
        return Outcome()

    def render(out: Path, formats: tuple[str, ...], policy: Path | None, *, patient_images: bool) -> list[Path]:
        calls["render"] = (out, formats, policy)
        return [out / f"report.{form}" for form in formats]

    def cache_prune(out: Path, *, sensitive: bool) -> dict[str, Any]:
        return {"removed": 3, "sensitive": sensitive}

    api.__dict__.update(
        run=run, render=render, plan=lambda recipe: Cells(), cache_info=lambda out: {"cells": 2}, cache_prune=cache_prune
    )
    monkeypatch.setitem(sys.modules, "leakaudit.engine.api", api)
    monkeypatch.setattr(leakaudit.engine, "api", api, raising=False)
    return calls


def test_validate(recipe: Path) -> None:
    result = call("validate", recipe)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{recipe}: valid. toy: dataset toy-data; protocols toy-split; defenses none; attacks toy-inversion.\n"
    )
    facts = json.loads(call("validate", recipe, "--set", "seed=4", "--json").stdout)
    assert facts["recipe"]["seed"] == 4
    assert facts["recipe"]["attacks"][0]["params"]["iterations"] == 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RECIPE.replace("toy-inversion", "toy-invertion"), "Did you mean 'toy-inversion'?"),
        (RECIPE.replace("[toy-inversion]", "[{use: toy-inversion, params: {iteration: 3}}]"), "Did you mean 'iterations'?"),
        (RECIPE + "repeats: often\n", "recipe.yaml:7: repeats: got 'often', expected a valid integer"),
        (RECIPE.replace("[toy-split]", "[toy-split, toy-split]"), "the name 'toy-split' is already taken by protocols.0"),
        (RECIPE + "seed: !!python/object/apply:os.getpid []\n", "recipe.yaml:7: the tag '!!python/object/apply:os.getpid'"),
        ("[" * 5_000_000 + "]" * 5_000_000, "larger than 1 MB"),
        ("a: " + "[" * 100_000, "nested more than 40 levels deep"),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "plan", "run"])
def test_an_invalid_recipe_is_exit_code_2_and_one_message(recipe: Path, verb: str, text: str, expected: str) -> None:
    recipe.write_text(text)
    result = call(verb, recipe)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_recipe(recipe: Path) -> None:
    result = call("run", "recipes.yaml")
    assert (result.exit_code, result.stderr) == (2, "recipes.yaml: there is no such file. Did you mean 'recipe.yaml'?\n")


def test_a_broken_plugin_that_is_named_is_exit_code_5(recipe: Path, toys: Site) -> None:
    toys.install_attack("leakaudit-bad", "bad", before="import sys; sys.exit(0)")
    recipe.write_text(RECIPE.replace("[toy-inversion]", "[bad]"))
    result = call("validate", recipe)
    assert result.exit_code == 5
    assert "leakaudit-bad 1.2.3 (entry point 'bad'): it called sys.exit(0)" in result.stderr


def test_a_broken_plugin_that_is_not_named_is_a_warning(recipe: Path, toys: Site) -> None:
    toys.install_attack("leakaudit-bad", "bad", before="import not_there")
    assert call("validate", recipe).exit_code == 0
    result = call("plugins", "list")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: not loaded: leakaudit-bad 1.2.3")
    broken = json.loads(call("plugins", "list", "--json").stdout)["broken"]
    assert [entry["distribution"] for entry in broken] == ["leakaudit-bad"]


def test_plugins_list_show(toys: Site) -> None:
    listed = json.loads(call("plugins", "list", "--kind", "attack", "--json").stdout)["plugins"]
    assert [plugin["name"] for plugin in listed] == ["toy-crashing", "toy-inversion", "toy-picky"]
    assert "third party" in call("plugins", "list").stdout
    shown = call("plugins", "show", "toy-inversion").stdout
    assert "iterations (default 10): How long." in shown
    facts = json.loads(call("plugins", "show", "toy-inversion", "--json").stdout)
    assert facts["params"]["properties"]["iterations"]["minimum"] == 1
    result = call("plugins", "show", "toy-invertion")
    assert (result.exit_code, result.stdout) == (2, "")


def test_plugins_check_runs_the_kit(toys: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(kind: str, name: str, examples: list[dict[str, object]]) -> list[object]:
        if name != "leakaudit-toys/toy-inversion":
            raise UserError(f"{kind} {name}: run returns no evidence.")
        return []

    monkeypatch.setattr(leakaudit.testing, "check", check, raising=False)
    assert call("plugins", "check", "toy-inversion").exit_code == 0
    result = call("plugins", "check", "toy-noise")
    assert (result.exit_code, result.stderr) == (2, "defense leakaudit-toys/toy-noise: run returns no evidence.\n")


def test_no_third_party(toys: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKAUDIT_NO_THIRD_PARTY", "0")
    result = call("--no-third-party", "plugins", "list", "--json")
    facts = json.loads(result.stdout)
    assert "leakaudit-toys" in facts["blocked"]
    assert {plugin["distribution"] for plugin in facts["plugins"]} == {"leakaudit"}


def test_run_prints_the_verdict_and_exits_with_its_code(recipe: Path, engine: dict[str, Any]) -> None:
    result = call("run", recipe, "--out", "out", "--no-progress", "--fail-on", "fail")
    assert result.exit_code == 3
    assert result.stdout == "FAIL: model inversion recovers more than allowed.\nReport: out/report.html\n"
    assert engine["run"] == ("toy", Path("out"), "fail", False)
    facts = json.loads(call("run", recipe, "--json").stdout)
    assert facts["status"] == "FAIL"
    assert engine["run"] == ("toy", Path("toy-audit"), "review", True)


def test_fail_on_is_the_policys_unless_said(recipe: Path, engine: dict[str, Any]) -> None:
    call("run", recipe, "--set", "policy.fail_on=never")
    assert engine["run"][2] == "never"
    call("run", recipe, "--set", "policy.fail_on=never", "--fail-on", "review")
    assert engine["run"][2] == "review"


def test_patient_images_need_a_confirmation(recipe: Path, engine: dict[str, Any]) -> None:
    arguments = ("run", recipe, "--set", "report.images=all")
    result = call(*arguments)
    assert result.exit_code == 2
    assert "--patient-images" in result.stderr
    assert call(*arguments, "--patient-images").exit_code == 3


def test_plan_report_cache(recipe: Path, engine: dict[str, Any]) -> None:
    assert call("plan", recipe).stdout == "train toy-split/none\nattack toy-inversion\n"
    assert json.loads(call("plan", recipe, "--json").stdout) == {"cells": 2}
    assert call("report", "out", "--format", "html", "--format", "json").stdout == "out/report.html\nout/report.json\n"
    assert engine["render"] == (Path("out"), ("html", "json"), None)
    assert json.loads(call("cache", "info", "out", "--json").stdout) == {"cells": 2}
    assert json.loads(call("cache", "prune", "out", "--sensitive", "--json").stdout)["sensitive"] is True
    assert "cells  2" in call("cache", "info", "out").stdout


def test_interrupt_is_130(recipe: Path, engine: dict[str, Any]) -> None:
    engine["raise"] = KeyboardInterrupt()
    result = call("run", recipe)
    assert result.exit_code == 130
    assert result.stderr == "interrupted; run the same command again to go on.\n"


def test_an_internal_error_is_one_line_and_a_log(recipe: Path, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine["raise"] = ZeroDivisionError("a\nb")
    Path("out/store").mkdir(parents=True)
    result = call("run", recipe, "--out", "out")
    assert result.exit_code == 1
    what, where = result.stderr.splitlines()
    # What other code says may name patients: on stderr there is the place only.
    assert re.fullmatch(r"internal error: ZeroDivisionError \(test_cli\.py:\d+ in run\)", what)
    assert where == "The traceback is in out/store/private.log."
    assert "ZeroDivisionError: a\nb" in Path("out/store/private.log").read_text()
    assert Path("out/store/private.log").stat().st_mode & 0o777 == 0o600
    assert not Path("out/run.log").exists()
    monkeypatch.setenv("LEAKAUDIT_DEBUG", "1")
    assert "Traceback" in call("run", recipe, "--out", "out").stderr


def test_usage_errors_are_2(recipe: Path) -> None:
    assert call("run").exit_code == 2
    assert call("run", recipe, "--fail-on", "sometimes").exit_code == 2
    assert call("rnu").exit_code == 2


def test_recipes_and_schema_and_version(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leakaudit.recipes import library

    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "first.yaml").write_text(f"# A first audit.\n{RECIPE}")
    monkeypatch.setattr(library, "library_folder", lambda: folder)
    assert call("recipes", "list").stdout == "name   description\nfirst  A first audit.\n"
    assert json.loads(call("recipes", "list", "--json").stdout) == [{"name": "first", "description": "A first audit."}]
    assert call("recipes", "copy", "first").stdout == "first.yaml\n"
    assert call("recipes", "copy", "first").exit_code == 2
    assert call("recipes", "show", "first").stdout == Path("first.yaml").read_text()
    assert json.loads(call("schema").stdout)["title"] == "leakaudit recipe"
    assert set(json.loads(call("version", "--json").stdout)) == {"leakaudit", "plugin-contract", "python", "torch"}


def test_doctor(toys: Site, tmp_path: Path) -> None:
    result = call("doctor", "--out", tmp_path / "not" / "yet", "--json")
    found = {check["check"]: check["status"] for check in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert found["torch"] == found["folder"] == found["plugins"] == "ok"
