"""What the layout promises: plugins use public names only, committed schemas match the code, nothing is left lying about."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leakaudit.plugins.manager import get_manager

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "leakaudit", "leakaudit.plugins", "leakaudit.threats", "leakaudit.facts", "leakaudit.errors", "leakaudit.cohorts",
    "leakaudit.models", "leakaudit.wire", "leakaudit.defenses", "leakaudit.protocols", "leakaudit.attacks", "leakaudit.testing",
    "leakaudit.report",
}  # fmt: skip
SOURCES = sorted((ROOT / "plugins").glob("*/src/**/*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "plugins")))
def test_plugins_import_only_public_names(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "leakaudit":
            assert node.module in PUBLIC, f"{path.name} imports from {node.module}, which is not public"
            offered = importlib.import_module(node.module).__all__
            for name in node.names:
                assert name.name in offered, f"{path.name} imports {name.name}, which {node.module} does not offer"
        if isinstance(node, ast.Import):
            assert not any(n.name.startswith("leakaudit.") for n in node.names), f"{path.name} imports a module by path"


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_every_public_name_exists(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_committed_recipe_schema_is_that_of_the_core_alone() -> None:
    """`leakaudit schema` of the core without plugins; regenerate with LEAKAUDIT_PLUGINS= leakaudit schema."""
    environment = {**os.environ, "LEAKAUDIT_PLUGINS": ""}
    command = [sys.executable, "-m", "leakaudit.cli", "schema"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    committed = (ROOT / "src/leakaudit/recipes/recipe.schema.json").read_text()
    assert json.loads(printed) == json.loads(committed)


def test_first_party_plugins_are_all_installed_and_whole() -> None:
    manager = get_manager()
    folders = {p.name for p in (ROOT / "plugins").iterdir() if p.is_dir()}
    assert folders <= {p.distribution for p in manager.plugins()}
    assert not manager.broken


@pytest.mark.parametrize("folder", sorted((ROOT / "plugins").iterdir()), ids=lambda p: p.name)
def test_every_plugin_package_stands_alone(folder: Path) -> None:
    text = (folder / "pyproject.toml").read_text()
    for needed in ("[project.entry-points.leakaudit]", 'license = "Apache-2.0"', "leakaudit>=0.1,<0.2"):
        assert needed in text
    assert (folder / "README.md").stat().st_size > 300
    assert list(folder.glob("tests/test_*.py"))
    assert list(folder.glob("src/*/py.typed"))


def test_the_repository_speaks_of_no_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    forbidden = re.compile(r"/work/(main|shared)|/tmp/w/|pypi-more|files\.pythonhosted|\.\./shared")
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ".cff", ".css", ".j2", ".txt"} and path != Path(__file__):
            found = forbidden.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{name} speaks of {found.group(0) if found else ''}"
