"""Errors of the plugin host."""

from __future__ import annotations

from leakaudit.errors import UserError

__all__ = ["PluginLoadError"]


class PluginLoadError(UserError):
    """A plugin that the recipe names cannot be loaded: going on without it would be a false all-clear."""

    exit_code = 5
