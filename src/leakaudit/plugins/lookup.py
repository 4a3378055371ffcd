"""Finds a plugin by name when people do not say its kind, and describes it."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from pydantic import BaseModel

from leakaudit.errors import UserError, nearest
from leakaudit.plugins.descriptors import Kind
from leakaudit.plugins.errors import PluginLoadError
from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.manager import PluginManager, get_manager

__all__ = ["describe", "describe_params", "find_any"]


def find_any(name: str, kind: Kind | None = None, manager: PluginManager | None = None) -> Plugin:
    """Return the plugin that has this name, of whatever kind.

    Args:
        name: Bare name, or `distribution/name`.
        kind: Its kind, where the name alone is not enough.
        manager: Installed plugins; by default those of this environment.

    Raises:
        PluginLoadError: It is, or may be, in a distribution that could not be loaded.
        UserError: There is no such plugin, or several kinds have one.
    """
    plugins = manager or get_manager()
    if kind is not None:
        return plugins.find(kind, name)
    bare = name.rpartition("/")[2]
    kinds: list[Kind] = [k for k in get_args(Kind) if any(p.info.name == bare for p in plugins.plugins(k))]
    if len(kinds) == 1:
        return plugins.find(kinds[0], name)
    if kinds:
        raise UserError(f"{name!r} is the name of {' and '.join(f'a plugin of kind {k}' for k in kinds)}; add --kind.")
    every = [found for k in get_args(Kind) for found in plugins.names(k)]
    text = f"there is no plugin named {name!r}.{nearest(name, every)}"
    if plugins.broken:
        reasons = "; ".join(broken.describe() for broken in plugins.broken)
        raise PluginLoadError(f"{text} It may belong to a plugin that could not be loaded: {reasons}.")
    raise UserError(text)


def describe(plugin: Plugin) -> dict[str, Any]:
    """Return a plugin's descriptor and origin as plain JSON, without its params model."""
    facts = {field.name: getattr(plugin.info, field.name) for field in dataclasses.fields(plugin.info)}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items() if key != "params"}
    origin = {"distribution": plugin.distribution, "version": plugin.version, "third_party": plugin.third_party}
    return {"kind": plugin.info.kind} | plain | origin


def describe_params(plugin: Plugin) -> list[str]:
    """Return one line for each parameter: name, default and description."""
    lines = []
    for name, field in plugin.info.params.model_fields.items():
        if field.is_required():
            default = "required"
        elif getattr(field, "default_factory_takes_validated_data", False):
            default = "default depends on the others"
        else:
            value = field.get_default(call_default_factory=True)
            default = f"default {value.model_dump(mode='json') if isinstance(value, BaseModel) else value!r}"
        lines.append(f"{name} ({default}): {field.description}")
    return lines
