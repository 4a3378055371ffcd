"""Finds installed plugins and answers for them by kind and name."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

from leakaudit.errors import UserError, nearest
from leakaudit.plugins.descriptors import Kind
from leakaudit.plugins.errors import PluginLoadError
from leakaudit.plugins.hookspecs import EVENT_HOOKS, PROJECT
from leakaudit.plugins.loading import (
    CORE,
    FIRST_PARTY,
    BrokenPlugin,
    LoadedPlugin,
    Plugin,
    canonical,
    load_entry_point,
    provenance,
)

__all__ = ["ALLOW_LIST", "NO_THIRD_PARTY", "PluginManager", "get_manager"]

ALLOW_LIST = "LEAKAUDIT_PLUGINS"
"""Environment variable: distributions that may be loaded besides the core, joined by commas; empty allows none."""

NO_THIRD_PARTY = "LEAKAUDIT_NO_THIRD_PARTY"
"""Environment variable behind `--no-third-party`: a variable, because worker processes must inherit the choice."""

_LOG = logging.getLogger(__name__)


class PluginManager:
    """The plugins of this environment.

    Attributes:
        broken: Entry points that could not be used.
        blocked: Distributions that were left alone because of the allow-list or `--no-third-party`.
    """

    def __init__(self, loaded: Sequence[LoadedPlugin], broken: Sequence[BrokenPlugin] = (), blocked: Sequence[str] = ()) -> None:
        """Hold what `discover` found.

        Args:
            loaded: Usable entry points.
            broken: The others.
            blocked: Distributions that were not tried.
        """
        self._loaded = tuple(loaded)
        self.broken = tuple(broken)
        self.blocked = tuple(blocked)

    @classmethod
    def discover(cls, found: Iterable[EntryPoint] | None = None) -> PluginManager:
        """Load the plugin module of every allowed entry point, each in isolation.

        Args:
            found: Entry points to load; by default all installed ones of group `leakaudit`.
        """
        loaded: list[LoadedPlugin] = []
        broken: list[BrokenPlugin] = []
        blocked: dict[str, None] = {}
        owners: dict[tuple[str, str, str], str] = {}
        points = entry_points(group=PROJECT) if found is None else found
        for point in sorted(points, key=lambda point: (*provenance(point), point.name)):
            distribution = provenance(point)[0]
            if not _allowed(distribution):
                blocked[distribution] = None
                continue
            outcome = load_entry_point(point)
            if isinstance(outcome, LoadedPlugin):
                outcome = _refuse_twins(outcome, owners)
            if isinstance(outcome, LoadedPlugin):
                loaded.append(outcome)
            else:
                broken.append(outcome)
        return cls(loaded, broken, tuple(blocked))

    def plugins(self, kind: Kind | None = None) -> tuple[Plugin, ...]:
        """Return the usable plugins of one kind (or all), in order of kind, name and distribution."""
        every = (plugin for loaded in self._loaded for plugin in loaded.plugins)
        chosen = (plugin for plugin in every if kind is None or plugin.info.kind == kind)
        return tuple(sorted(chosen, key=lambda plugin: (plugin.info.kind, plugin.info.name, plugin.distribution)))

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Return the names under which the plugins of one kind are found: bare, or qualified where two share a name."""
        bare = [plugin.info.name for plugin in self.plugins(kind)]
        return tuple(plugin.info.name if bare.count(plugin.info.name) == 1 else plugin.qualified for plugin in self.plugins(kind))

    def find(self, kind: Kind, name: str) -> Plugin:
        """Return the plugin of this kind that has this name.

        Args:
            kind: Kind of plugin.
            name: Bare name, or `distribution/name`.

        Raises:
            PluginLoadError: It is, or may be, in a distribution that could not be loaded.
            UserError: There is no such plugin, or several share the bare name.
        """
        matches = [plugin for plugin in self.plugins(kind) if _answers_to(plugin, name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            providers = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in matches)
            choices = " or ".join(repr(plugin.qualified) for plugin in matches)
            raise UserError(f"{providers} both provide {_a(kind)} named {name!r}; write {choices}.")
        raise self._not_found(kind, name)

    def notify(self, event: str, **arguments: object) -> None:
        """Tell every tracker about a run event. A tracker that raises is warned about and cannot stop a run.

        Args:
            event: One of the event hooks, for example `"leakaudit_run_started"`.
            **arguments: The event's arguments.

        Raises:
            ValueError: There is no such event.
        """
        if event not in EVENT_HOOKS:
            raise ValueError(f"no run event {event!r}; there are {', '.join(EVENT_HOOKS)}")
        for loaded in self._loaded:
            try:
                getattr(loaded.host.hook, event)(**arguments)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a tracker must not take an audit down
                _LOG.warning("tracker %s %s failed in %s: %r", loaded.distribution, loaded.version, event, error)

    def _not_found(self, kind: Kind, name: str) -> UserError:
        """Return the error for an unknown name; a broken distribution may be the reason and is then said."""
        guilty = [broken for broken in self.broken if _may_provide(broken, name)]
        if guilty:
            reasons = "; ".join(broken.describe() for broken in guilty)
            return PluginLoadError(f"the {kind} {name!r} cannot be loaded: {reasons}.")
        others = sorted({plugin.info.kind for plugin in self.plugins() if _answers_to(plugin, name)})
        if others:
            return UserError(f"{name!r} is {_a(others[0])}, not {_a(kind)}.")
        hint = nearest(name, self.names(kind)) or f" No {kind} is installed."
        text = f"there is no {kind} named {name!r}.{hint}"
        if self.blocked and not hint.startswith(" Did you mean"):
            text += f" Not loaded because of {ALLOW_LIST} or --no-third-party: {', '.join(self.blocked)}."
        if self.broken:
            reasons = "; ".join(broken.describe() for broken in self.broken)
            return PluginLoadError(f"{text} It may belong to a plugin that could not be loaded: {reasons}.")
        return UserError(text)


@functools.cache
def get_manager() -> PluginManager:
    """Return the plugins of this environment, discovered once per process."""
    return PluginManager.discover()


def _allowed(distribution: str) -> bool:
    """Apply the allow-list and `--no-third-party`; the core is always loaded."""
    if distribution == CORE:
        return True
    if os.environ.get(NO_THIRD_PARTY, "") not in ("", "0") and distribution not in FIRST_PARTY:
        return False
    allow = os.environ.get(ALLOW_LIST)
    return allow is None or distribution in {canonical(name.strip()) for name in allow.split(",")}


def _refuse_twins(loaded: LoadedPlugin, owners: dict[tuple[str, str, str], str]) -> LoadedPlugin | BrokenPlugin:
    """Refuse a second plugin of the same kind and name in one distribution: `distribution/name` must be unique."""
    mine = [(plugin.info.kind, plugin.distribution, plugin.info.name) for plugin in loaded.plugins]
    for key in mine:
        if key in owners:
            return BrokenPlugin(
                distribution=loaded.distribution,
                version=loaded.version,
                entry_point=loaded.entry_point,
                reason=f"its {key[0]} {key[2]!r} is already provided by the same distribution's entry point {owners[key]!r}",
            )
    owners.update(dict.fromkeys(mine, loaded.entry_point))
    return loaded


def _answers_to(plugin: Plugin, name: str) -> bool:
    if "/" in name:
        distribution, _, bare = name.partition("/")
        return canonical(distribution) == plugin.distribution and bare == plugin.info.name
    return name == plugin.info.name


def _may_provide(broken: BrokenPlugin, name: str) -> bool:
    """Whether a name points at a broken entry point by its distribution or its own name."""
    if "/" in name:
        return canonical(name.partition("/")[0]) == broken.distribution
    wanted = canonical(name)
    return wanted in (
        canonical(broken.entry_point),
        broken.distribution,
        broken.distribution.removeprefix("leakaudit-"),
    )


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
