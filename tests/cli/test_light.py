from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from installed_plugins import Site

COMMANDS = [
    ["--help"],
    ["run", "--help"],
    ["plugins", "list"],
    ["plugins", "list", "--json"],
    ["plugins", "show", "toy-inversion"],
    ["recipes", "list"],
    ["version"],
]

PROBE = """
import sys
from leakaudit.cli import main
sys.argv[0] = "leakaudit"
try:
    main()
finally:
    heavy = {"torch", "monai", "opacus", "nibabel", "scipy", "skimage", "leakaudit_toys.runtime"} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""


def call(site: Site, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site.root)}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_listings_import_nothing_heavy(toys: Site, command: list[str]) -> None:
    result = call(toys, "-c", PROBE, *command)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "heavy: []"
    assert result.stdout


def test_checking_a_recipe_imports_no_torch(toys: Site, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\nname: toy\ndata: toy-data\nprotocols: [toy-split]\nattacks: [toy-inversion]\nrun: {executor: toy-executor}\n"
    )
    for verb in (["validate", str(recipe)], ["schema"]):
        result = call(toys, "-c", PROBE, *verb)
        assert result.returncode == 0, result.stderr
        assert result.stderr.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("command", [["--help"], ["plugins", "list"], ["recipes", "list"], ["version"]], ids=" ".join)
def test_listings_answer_at_once(toys: Site, command: list[str]) -> None:
    """Processor time, which for one thread is the wall time of an idle machine: a busy one must not fail the test."""
    fastest = float("inf")
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert call(toys, "-m", "leakaudit.cli", *command).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        fastest = min(fastest, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if fastest < 0.6:
            break
    assert fastest < 0.6


def test_a_reader_that_goes_away_is_no_error(toys: Site) -> None:
    environment = {**os.environ, "PYTHONPATH": str(toys.root)}
    process = subprocess.Popen(
        [sys.executable, "-m", "leakaudit.cli", "plugins", "list"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert errors == ""
