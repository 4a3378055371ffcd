from __future__ import annotations

import pytest
from installed_plugins import Site

from leakaudit.errors import UserError
from leakaudit.plugins.errors import PluginLoadError
from leakaudit.plugins.lookup import describe, describe_params, find_any
from leakaudit.plugins.sources import resolve_target, source_digest


def test_target_is_imported_on_demand(toys: Site) -> None:
    (toys.root / "leakaudit_toys" / "runtime.py").write_text("class Toy: pass\nmaker = Toy()\n")
    info = toys.discover().find("attack", "toy-inversion").info
    assert resolve_target(info).__name__ == "Toy"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import sys; sys.exit()", "SystemExit"),
        ("class Tpy: pass", "has no 'Toy'"),
        ("Toy = 3", "is of type int, expected a class"),
        ("import not_there", "No module named 'not_there'"),
    ],
)
def test_target_that_cannot_be_used(toys: Site, source: str, expected: str) -> None:
    (toys.root / "leakaudit_toys" / "runtime.py").write_text(source)
    info = toys.discover().find("attack", "toy-inversion").info
    with pytest.raises(PluginLoadError, match="attack 'toy-inversion'") as caught:
        resolve_target(info)
    assert expected in str(caught.value)


def test_digest_follows_the_code_and_nothing_else(toys: Site) -> None:
    def digest() -> str:
        source_digest.cache_clear()
        return source_digest("leakaudit_toys")

    first = digest()
    assert len(first) == 64
    (toys.root / "leakaudit_toys" / "notes.txt").write_text("no code")
    assert digest() == first
    path = toys.root / "leakaudit_toys" / "runtime.py"
    path.write_text(path.read_text() + "\n# changed\n")
    changed = digest()
    assert changed != first
    path.rename(path.with_name("renamed.py"))
    assert digest() not in (first, changed)


def test_digest_of_the_core_and_of_nothing(site: Site) -> None:
    assert len(source_digest("leakaudit")) == 64
    with pytest.raises(UserError, match="no installed distribution named 'leakaudit-nothing'"):
        source_digest("leakaudit-nothing")


def test_a_plugin_is_found_without_its_kind(toys: Site) -> None:
    manager = toys.discover()
    assert find_any("toy-noise", manager=manager).info.kind == "defense"
    assert describe(find_any("toy-data", manager=manager))["synthetic"] is True
    lines = describe_params(find_any("toy-inversion", manager=manager))
    assert lines[0] == "iterations (default 10): How long."
    assert describe_params(find_any("toy-picky", manager=manager)) == ["target (required): What it wants."]
    with pytest.raises(UserError, match="Did you mean 'toy-noise'"):
        find_any("toy-nois", manager=manager)


def test_one_name_in_two_kinds_needs_the_kind(toys: Site) -> None:
    toys.install_attack("leakaudit-clash", "toy-noise")
    with pytest.raises(UserError, match="add --kind"):
        find_any("toy-noise", manager=toys.discover())
    assert find_any("toy-noise", "attack", manager=toys.discover()).distribution == "leakaudit-clash"
