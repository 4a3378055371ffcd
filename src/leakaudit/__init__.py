"""Audit what leaks when hospitals train one segmentation model together.

Public packages: `leakaudit.plugins` (descriptors, hook marker, params models), `leakaudit.threats`, `leakaudit.facts`,
`leakaudit.errors`, `leakaudit.cohorts`, `leakaudit.models`, `leakaudit.wire`, `leakaudit.defenses`, `leakaudit.protocols`,
`leakaudit.attacks` and `leakaudit.testing`. Whatever is not in the `__all__` of one of these may change at any time.
"""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("leakaudit")
