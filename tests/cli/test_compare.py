from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from leakaudit.cli import app

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from factory import make_dict


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two run folders; in the second, one leakage is far higher, a label holds an escape, and the version differs."""

    def write(name: str, report: dict[str, Any]) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report))
        return tmp_path / name

    first, second = make_dict(4, images=False), make_dict(4, images=False)
    second["leakaudit_version"] = "0.2.0"
    second["pairings"][0]["endpoints"][0]["leakage"] |= {"value": 0.95, "ci": [0.9, 0.99]}
    second["pairings"][1]["attack"] = "odd\x1b[31m"
    return write("a", first), write("b", second)


def test_a_leakage_that_rose_is_exit_code_3(runs: tuple[Path, Path]) -> None:
    result = call(*runs)
    assert result.exit_code == 3, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("leakage")]
    assert "split / none / model-inversion / masked-ssim (activation, client-0, level0)" in line
    assert line.endswith("worse")
    assert "treated as independent, which is conservative for runs that share patients" in result.stdout
    assert "odd?[31m" in result.stdout
    assert result.stderr == "warning: The versions of leakaudit differ: 0.1.0 and 0.2.0.\n"


def test_json_and_the_way_back(runs: tuple[Path, Path]) -> None:
    a, b = runs
    result = call(b, a / "report.json", "--json")
    assert result.exit_code == 0
    changes = json.loads(result.stdout)
    assert changes["exit_code"] == 0
    assert [change["outcome"] for change in changes["leakage"]] == ["better"]
    assert changes["only_a"] == ["pairing split / none / odd\x1b[31m"]
    assert call(a, a).stdout.startswith("Numbers compared: 8; changed: 0 (0 significantly worse")


def test_what_cannot_be_compared_is_exit_code_2(runs: tuple[Path, Path], tmp_path: Path) -> None:
    result = call(runs[0], tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr
    (tmp_path / "odd.json").write_text("{}")
    result = call(runs[0], tmp_path / "odd.json")
    assert result.exit_code == 2
    assert "not a report.json" in result.stderr
    assert call(runs[0]).exit_code == 2
