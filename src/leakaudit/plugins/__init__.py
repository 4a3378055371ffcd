"""What a plugin author imports: the hook marker, the descriptors and the base classes of parameters.

```python
# leakaudit_noise/plugin.py, named by [project.entry-points.leakaudit] in pyproject.toml
from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_noise.params import NoiseParams          # a module without torch

@hookimpl
def leakaudit_defenses():
    yield DefenseInfo(
        name="noise", summary="Gaussian noise on every activation.", params=NoiseParams,
        target="leakaudit_noise.defense:Noise", api_version="1.0", channels=("activation",),
    )
```

Write `api_version` as a literal: it states the contract the plugin was written for, not the one that is installed.
"""

from __future__ import annotations

from leakaudit.plugins.descriptors import (
    API_VERSION,
    AttackInfo,
    DatasetInfo,
    DefenseInfo,
    ExecutorInfo,
    Info,
    Kind,
    ProtocolInfo,
    SectionInfo,
)
from leakaudit.plugins.hookspecs import hookimpl
from leakaudit.plugins.params import (
    AttackParams,
    DatasetParams,
    DefenseParams,
    ExecutorParams,
    Params,
    ProtocolParams,
    ShadowTraining,
    Victim,
)

__all__ = [
    "API_VERSION", "AttackInfo", "AttackParams", "DatasetInfo", "DatasetParams", "DefenseInfo", "DefenseParams",
    "ExecutorInfo", "ExecutorParams", "Info", "Kind", "Params", "ProtocolInfo", "ProtocolParams",
    "SectionInfo", "ShadowTraining", "Victim", "hookimpl",
]  # fmt: skip
