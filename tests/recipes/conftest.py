from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))

from installed_plugins import Site, site, toys

from leakaudit.recipes.loading import load_recipe
from leakaudit.recipes.resolved import ResolvedRecipe

__all__ = ["load", "site", "toys"]

MINIMAL = """\
version: 1
name: toy
data: toy-data
protocols: [toy-split]
run: {executor: toy-executor}
"""

Load = Callable[..., ResolvedRecipe]


@pytest.fixture
def load(toys: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a recipe made of a minimal one and some more text, as `recipe.yaml` in the current folder."""
    monkeypatch.chdir(tmp_path)

    def loads(text: str = "", *overrides: str, minimal: str = MINIMAL, **options: bool) -> ResolvedRecipe:
        Path("recipe.yaml").write_text(minimal + text)
        return load_recipe(Path("recipe.yaml"), overrides, manager=toys.discover(), **options)

    return loads
