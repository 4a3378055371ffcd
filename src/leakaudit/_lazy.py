"""Public packages whose names are imported on first use, so that light modules beside them never import torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ["lazy"]


def lazy(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """Return a module `__getattr__` (PEP 562) that imports each of `names` from its module on first use.

    Args:
        package: Name of the package that offers the names.
        names: Module, relative to the package, by public name.
    """

    def __getattr__(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return __getattr__
