"""The attacks keep the contract, with each of their examples."""

from __future__ import annotations

from typing import Any

import pytest
from leakaudit_gradients.plugin import leakaudit_attacks

from leakaudit.testing import check, checks

CASES = [
    pytest.param(info.name, example, id=f"{info.name}-{number}")
    for info in leakaudit_attacks()
    for number, example in enumerate(info.params.model_config["json_schema_extra"]["examples"])  # type: ignore[index, call-overload]
    if example.get("method") != "closed-form"  # refuses the tiny trainings of the kit, which use Adam
]
BEFORE_THE_VIEW = (
    "summary", "references", "api-version", "taxonomy", "light", "described", "default-params", "target", "requires",
)  # fmt: skip


@pytest.mark.parametrize("info", list(leakaudit_attacks()), ids=lambda info: info.name)
def test_what_the_plan_reads(info: Any) -> None:
    for one in checks("attack", f"leakaudit-gradients/{info.name}"):
        if one.name in BEFORE_THE_VIEW:
            assert one().status == "passed", one.name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "example"), CASES)
def test_attack(name: str, example: dict[str, Any]) -> None:
    results = check("attack", f"leakaudit-gradients/{name}", examples=[example])
    # An attack that alters the task trains other weights by design.
    expected = [("passive", "not-tried")] if name == "imprint" else []
    assert [(r.name, r.status) for r in results if r.status != "passed"] == expected
