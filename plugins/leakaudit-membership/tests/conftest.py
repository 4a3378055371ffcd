"""A finished audit of the membership attacks, with what every attack's process was given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakaudit.attacks import View
from leakaudit.engine.plan import Plan
from leakaudit.engine.planner import make_plan
from leakaudit.recipes.loading import load_recipe
from leakaudit.testing.stage import Stage


class Audited:
    """A finished audit, cell by cell in this process."""

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        path = folder / "recipe.yaml"
        path.write_text(json.dumps(recipe))
        self.stage = Stage(folder)
        self.plan: Plan = make_plan(load_recipe(path))
        self.stage.run(self.plan, "cohort", "train", "record")
        self.stage.run(self.plan, "shadows", "attack")
        self.stage.run(self.plan, "score")

    def pairing(self, attack: str) -> Any:
        return next(p for p in self.plan.pairings if p.attack == attack)

    def json(self, key: str, name: str) -> Any:
        entry = self.stage.store.get(key)
        assert entry is not None
        return json.loads((entry.folder / name).read_text())

    def endpoint(self, attack: str, which: str = "endpoints") -> Any:
        (piece,) = self.json(self.pairing(attack).scores[0], "score.json")["evidence"]
        return piece[which][0]

    def auc(self, attack: str, which: str = "endpoints") -> float:
        found = self.endpoint(attack, which)
        scores, member = np.array(found["score"]), np.array(found["member"])
        a, b = scores[member], scores[~member]
        return float(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))

    def view(self, attack: str, messages: str = "messages") -> View:
        return View(self.stage.views[self.pairing(attack).attacks[0]] / "view", messages)


@pytest.fixture(scope="session")
def audit_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], Audited]:
    """Run the audit of a recipe."""
    return lambda recipe: Audited(tmp_path_factory.mktemp("audit"), recipe)
