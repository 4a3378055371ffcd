"""README and docs are executed: packages are built from their code, recipes validated, commands run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from blocks import ROOT, Block, Command, blocks, commands
from installed_plugins import Site
from typer.testing import CliRunner

from leakaudit.cli import app
from leakaudit.engine import api
from leakaudit.plugins.manager import ALLOW_LIST, get_manager
from leakaudit.recipes.loading import load_recipe
from leakaudit.recipes.models import Recipe
from leakaudit.testing import checks

GUIDE = ROOT / "docs" / "plugins.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
YAML_BLOCKS = [b for page in PAGES for b in blocks(page) if b.language == "yaml"]
MINIMAL = "{version: 1, name: minimal, data: phantom, protocols: [split], defenses: [gaussian-noise], attacks: [model-inversion]}"


class Guide:
    """The package of docs/plugins.md, written out from its blocks and installed in a folder outside the repository."""

    def __init__(self, root: Path) -> None:
        self.root, self.site, self.work = root, root / "site", root / "work"
        for block in blocks(GUIDE):
            if block.file is not None:
                self._write(root / "leakaudit-nearest" / block.file, block.text)
        shutil.copytree(root / "leakaudit-nearest" / "src", self.site)
        self._metadata(tomllib.loads((root / "leakaudit-nearest" / "pyproject.toml").read_text()))
        (recipe,) = [b for b in blocks(GUIDE) if b.language == "yaml"]
        self._write(self.work / "nearest.yaml", recipe.text)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _metadata(self, pyproject: Mapping[str, Any]) -> None:
        project = pyproject["project"]
        assert pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/leakaudit_nearest"]
        info = self.site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        self._write(info / "METADATA", f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in p.items()) for group, p in project["entry-points"].items()]
        self._write(info / "entry_points.txt", "\n".join(lines))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.site), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {k: v for k, v in os.environ.items() if k != ALLOW_LIST} | {"PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )


@pytest.fixture(scope="session")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Guide:
    return Guide(tmp_path_factory.mktemp("guide"))


@pytest.fixture(scope="session")
def audit(guide: Guide) -> Path:
    """The audit that docs/plugins.md runs: a real one, with its own plugin."""
    (command,) = [c for c in commands(GUIDE) if c.arguments[0] == "run"]
    result = guide.run("leakaudit.cli", *command.arguments)
    assert result.returncode == 0, result.stderr
    return guide.work / "nearest-audit"


def test_the_guides_package_is_found_and_passes_its_own_tests(guide: Guide) -> None:
    listed = guide.run("leakaudit.cli", "plugins", "list")
    assert re.search(r"^attack +nearest-patient +leakaudit-nearest 0.1.0 +third party", listed.stdout, re.M), listed.stderr
    result = guide.run("pytest", "-q", "-p", "no:cacheprovider", str(guide.root / "leakaudit-nearest" / "tests"))
    assert result.returncode == 0, result.stdout
    assert re.search(r"3[0-9] passed", result.stdout)


def test_the_guides_attack_is_scored(audit: Path) -> None:
    report = json.loads((audit / "report.json").read_text())
    assert not report["errors"]
    found = {(p["attack"], p["defense"]): p for p in report["pairings"]}
    assert set(found) == {("nearest-patient", "none"), ("nearest-patient", "coarse")}
    assert all(p["endpoints"] and p["leakage"]["value"] is not None for p in found.values())
    assert found["nearest-patient", "coarse"]["adaptive"] is True
    assert [(s["title"], s["failed"], len(s["tables"])) for s in report["sections"]] == [("Trainings by usefulness", None, 1)]
    assert any(p["distribution"] == "leakaudit-nearest" and not p["ours"] for p in report["provenance"]["plugins"])


def test_lists_of_checks_in_the_guide_are_complete() -> None:
    rows = {
        row[1]: re.findall(r"`([a-z-]+)`", row[2])
        for row in re.finditer(r"^\| (every|attack|defense|protocol|dataset) \| (`.*`) \|$", GUIDE.read_text(), re.M)
    }
    for kind, name in (("attack", "membership-loss"), ("defense", "dropout"), ("protocol", "split"), ("dataset", "phantom")):
        assert [*rows["every"], *rows[kind]] == [c.name for c in checks(kind, name)]


def test_the_readmes_plugin_is_found_and_trains(site: Site) -> None:
    files = {b.file.partition("/")[2]: b.text for b in blocks(ROOT / "README.md") if b.language == "python" and b.file}
    if not files:
        pytest.skip("the README shows no plugin")
    site.install("leakaudit-half", files)
    found = {c.name: c for c in checks("defense", "half")}
    for name in ("light", "described", "default-params", "target", "needs", "deterministic", "stochastic", "replica", "claim"):
        assert found[name]().status == "passed"


@pytest.fixture
def with_guide(guide: Guide, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(guide.site))
    monkeypatch.setenv("LEAKAUDIT_DATA", "Task01_BrainTumour")
    get_manager.cache_clear()
    yield
    get_manager.cache_clear()


@pytest.mark.usefixtures("with_guide")
@pytest.mark.parametrize("block", YAML_BLOCKS, ids=str)
def test_recipes_and_their_sections_are_valid(block: Block, tmp_path: Path) -> None:
    """A whole recipe is validated as it is, a section in place of that of a minimal recipe."""
    stated = yaml.safe_load(block.text)
    assert set(stated) <= set(Recipe.model_fields), f"{block}: not a recipe"
    path = tmp_path / "recipe.yaml"
    path.write_text(block.text if "version" in stated else yaml.safe_dump(yaml.safe_load(MINIMAL) | stated))
    assert load_recipe(path).protocols


COMMANDS = [(page, commands(page)) for page in PAGES]


@pytest.mark.usefixtures("with_guide")
@pytest.mark.parametrize(("page", "lines"), [p for p in COMMANDS if p[1]], ids=lambda p: getattr(p, "name", ""))
def test_commands_run(page: Path, lines: list[Command], audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of a page runs in order, in a folder that holds the page's recipes.

    `run` is parsed and its recipe validated; the audit that it leaves is the one of docs/plugins.md.
    """
    monkeypatch.chdir(tmp_path)
    for block in YAML_BLOCKS:
        stated = yaml.safe_load(block.text)
        if block.page == page.name and "version" in stated:
            Path(f"{stated['name']}.yaml").write_text(block.text)

    def run(recipe: Any, out: Path, **settings: Any) -> api.RunResult:
        assert recipe.attacks
        shutil.copytree(audit, out)
        files = {"report_json": out / "report.json", "report_html": out / "report.html"}
        return api.RunResult(status="REVIEW", exit_code=0, sentence="", **files)

    monkeypatch.setattr(api, "run", run)
    for line in lines:
        _lay_out(line, audit)
        for name, value in line.variables:
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, list(line.arguments))
        assert result.exit_code == 0, f"{line}\n{result.output}"


def _lay_out(line: Command, audit: Path) -> None:
    """Put the finished audit where a page begins with one, as docs/report.md does."""
    if line.arguments[0] in ("report", "cache"):
        folder = Path(next(a for a in line.arguments[1:] if a.endswith("audit")))
        if not folder.exists():
            shutil.copytree(audit, folder)


def test_python_that_reads_a_report_runs(audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(audit, "small-audit")
    (block,) = [b for b in blocks(ROOT / "docs" / "report.md") if b.language == "python"]
    exec(compile(block.text, str(block), "exec"), {})
    assert "nearest-patient" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file) if file else page
        if path.suffix == ".png" and not path.exists():
            continue  # a picture is made by a release
        assert path.exists(), f"{page.name} links to {target}"
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}, target


def test_every_field_of_a_report_is_described() -> None:
    from leakaudit.report.model import Report

    page = (ROOT / "docs" / "report.md").read_text()
    assert not [name for name in Report.model_fields if f"`{name}`" not in page]
    assert not [f for f in Recipe.model_fields if f not in re.findall(r"[a-z]+", (ROOT / "docs" / "recipes.md").read_text())]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "recipes.md"], ids=lambda p: p.name)
def test_the_first_recipe_of_a_page_is_computed_as_written(page: Path, tmp_path: Path) -> None:
    """The reader's first run, for real: every command about the page's first whole recipe, in a process of its own."""
    recipe = next(b for b in YAML_BLOCKS if b.page == page.name and "version" in yaml.safe_load(b.text))
    name = yaml.safe_load(recipe.text)["name"]
    (tmp_path / f"{name}.yaml").write_text(recipe.text)
    lines = [c for c in commands(page) if any(a.startswith((f"{name}.yaml", f"{name}-audit")) for a in c.arguments)]
    verbs = [c.arguments[0] for c in lines]
    assert verbs[:3] == ["validate", "plan", "run"]
    for line in lines[: verbs.index("run") + 2]:
        command = [sys.executable, "-m", "leakaudit.cli", *line.arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
    report = json.loads((tmp_path / f"{name}-audit" / "report.json").read_text())
    assert report["cells"]["failed"] == 0
    assert all(p["endpoints"] for p in report["pairings"])
    assert (tmp_path / f"{name}-audit" / "report.html").stat().st_size > 50_000
