"""Plain-JSON forms of what the planner decided: they make the keys and travel to the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.params import Params
from leakaudit.plugins.targets import target_of

__all__ = ["as_json", "plugin_spec"]


def as_json(value: Any) -> Any:
    """Return a dataclass of the contract as plain JSON (tuples become lists)."""
    return _plain(asdict(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def plugin_spec(plugin: Plugin, params: Params, **facts: Any) -> dict[str, Any]:
    """Return what a worker needs to rebuild a plugin with its parameters."""
    return {
        "name": plugin.info.name, "target": plugin.info.target, "params_target": target_of(type(params)),
        "params": params.key(), **facts,
    }  # fmt: skip
