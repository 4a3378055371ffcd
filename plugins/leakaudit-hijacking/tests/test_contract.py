"""Each attack passes leakaudit's conformance kit with the first of its examples."""

from __future__ import annotations

from typing import Any

import pytest

from leakaudit.testing import checks

ATTACKS = ("feature-space-hijack", "sdar", "pcat")
NAMED = [(name, check) for name in ATTACKS for check in checks("attack", f"leakaudit-hijacking/{name}")]


@pytest.mark.parametrize("check", [c for _, c in NAMED], ids=[f"{name}-{c}" for name, c in NAMED])
def test_it_keeps_the_contract(check: Any) -> None:
    check()
