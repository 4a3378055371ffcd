"""The membership attacks pass leakaudit's conformance kit, from other positions and offline too."""

from __future__ import annotations

from typing import Any

import pytest

from leakaudit.testing import checks

CHECKS = [
    *(
        (name, c)
        for name in ("loss", "lira", "rmia", "loss-map")
        for c in checks("attack", f"leakaudit-membership/membership-{name}")
    ),
    *(
        ("lira by the aggregator", c)
        for c in checks(
            "attack", "leakaudit-membership/membership-lira", examples=[{"shadows": 4, "position": "aggregator", "rounds": 2}]
        )
    ),
    *(
        ("loss by a site", c)
        for c in checks("attack", "leakaudit-membership/membership-loss", examples=[{"position": "site", "rounds": 1}])
    ),
    *(
        ("loss-map offline", c)
        for c in checks(
            "attack", "leakaudit-membership/membership-loss-map", examples=[{"shadows": 4, "grid": 2, "mode": "offline"}]
        )
    ),
    *(
        (f"epsilon-audit, {canary}", c)
        for canary in ("mislabeled", "gradient")
        for c in checks("attack", "leakaudit-membership/epsilon-audit", examples=[{"canaries": 8, "canary": canary}])
    ),
]


@pytest.mark.parametrize("check", [c for _, c in CHECKS], ids=[f"{name}: {c}" for name, c in CHECKS])
def test_it_keeps_the_contract(check: Any) -> None:
    result = check()
    active = check.name == "passive" and "epsilon-audit" in repr(check)  # it plants canaries: there is no passivity to check
    assert result.status == ("not-tried" if active else "passed"), result.detail
