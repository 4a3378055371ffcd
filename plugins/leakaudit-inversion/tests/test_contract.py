"""Every attack of this package keeps the contract, with each of its examples."""

from __future__ import annotations

from typing import Any

import pytest
from leakaudit_inversion.plugin import leakaudit_attacks

from leakaudit.testing import check

CASES = [
    pytest.param(info.name, example, id=f"{info.name}-{number}")
    for info in leakaudit_attacks()
    for number, example in enumerate(info.params.model_config["json_schema_extra"]["examples"])  # type: ignore[index, call-overload]
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "example"), CASES)
def test_attack(name: str, example: dict[str, Any]) -> None:
    results = check("attack", f"leakaudit-inversion/{name}", examples=[example])
    assert [(r.name, r.status) for r in results if r.status != "passed"] == []
