"""`membership-loss-map` passes leakaudit's conformance kit with the first of its examples."""

from __future__ import annotations

from typing import Any

import pytest

from leakaudit.testing import checks

CHECKS = checks("attack", "leakaudit-membership/membership-loss-map")


@pytest.mark.parametrize("check", CHECKS, ids=[str(c) for c in CHECKS])
def test_it_keeps_the_contract(check: Any) -> None:
    check()
