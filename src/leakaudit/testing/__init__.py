"""The conformance kit that plugin authors run: named checks that a plugin keeps the contract.

```python
import pytest
from leakaudit.testing import checks

@pytest.mark.parametrize("check", checks("attack", "leakaudit-mean/mean-image"), ids=str)
def test_contract(check):
    check()
```

`check("attack", "mean-image")` runs all of them at once, as `leakaudit plugins check mean-image` does.
"""

from __future__ import annotations

from leakaudit.testing.kit import NamedCheck, check, check_attack, check_dataset, check_defense, check_protocol, checks
from leakaudit.testing.results import CheckResult, ConformanceError

__all__ = [
    "CheckResult", "ConformanceError", "NamedCheck", "check", "check_attack", "check_dataset", "check_defense",
    "check_protocol", "checks",
]  # fmt: skip
