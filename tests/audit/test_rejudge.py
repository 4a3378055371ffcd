"""Judging stored evidence by another policy: no new attack, the same numbers, and never a lost report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from leakaudit.engine import api, graph
from leakaudit.errors import UserError
from leakaudit.recipes.loading import load_recipe

RECIPE = {
    "version": 1, "name": "rejudged",
    "data": {
        "use": "phantom", "params": {"patients": 34, "size": 32, "visits": 1},
        "split": {"members": 10, "validation": 5, "test": 5, "non_members": 0, "auxiliary": 8},
    },
    "protocols": [{"use": "split", "params": {"rounds": 1, "cut": 0, "network": {"channels": [4, 8]}}}],
    "defenses": [{"use": "gaussian-noise"}],
    "attacks": [{"use": "model-inversion", "params": {"iterations": 5, "clients": ["client-1"]}}],
    "run": {"workers": 2, "device": "cpu"},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rejudged")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    api.run(load_recipe(folder / "recipe.yaml"), folder / "out", fail_on="never", progress=False)
    return folder / "out"


def policy(tmp_path: Path) -> Path:
    path = tmp_path / "lax.yaml"
    path.write_text("leakage_max: {value: 0.95, owner: a test, reason: to see a change}\n")
    return path


def numbers(out: Path) -> list[object]:
    report = json.loads((out / "report.json").read_text())
    return [[e["name"], e["leakage"]["value"], e["leakage"]["ci"]] for p in report["pairings"] for e in p["endpoints"]]


def test_another_policy_changes_limits_and_no_number(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an upgrade, when keys made anew would be others."""
    before = numbers(finished)
    monkeypatch.setattr(graph, "core_digest", lambda *rooms: "another version")
    api.render(finished, ["html"], policy(tmp_path))
    report = json.loads((finished / "report.json").read_text())
    assert numbers(finished) == before
    assert before
    limits = {t["name"]: t["value"] for t in report["policy"]["thresholds"]}
    assert limits["leakage_max"] == 0.95
    assert all(e["limit"] == 0.95 for p in report["pairings"] for e in p["endpoints"])


def test_a_pruned_run_keeps_its_report(finished: Path, tmp_path: Path) -> None:
    text = (finished / "report.json").read_text()
    api.cache_prune(finished, sensitive=True)
    with pytest.raises(UserError, match="pruned"):
        api.render(finished, ["html"], policy(tmp_path))
    assert (finished / "report.json").read_text() == text
