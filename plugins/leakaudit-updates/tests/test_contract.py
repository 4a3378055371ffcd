"""Each defense passes leakaudit's conformance kit with the first of its examples."""

from __future__ import annotations

from typing import Any

import pytest

from leakaudit.testing import checks

DEFENSES = (
    "update-noise", "update-clipping", "update-pruning", "update-quantization", "percentile-sharing", "selective-sharing", "svt",
    "secure-aggregation",
)  # fmt: skip
NAMED = [(name, check) for name in DEFENSES for check in checks("defense", f"leakaudit-updates/{name}")]


@pytest.mark.parametrize("check", [c for _, c in NAMED], ids=[f"{name}-{c}" for name, c in NAMED])
def test_it_keeps_the_contract(check: Any) -> None:
    check()
