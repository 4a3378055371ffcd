"""Loads one entry point in isolation: whatever it does wrong becomes a reason, never an exception of the host."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pluggy

from leakaudit.errors import nearest
from leakaudit.plugins.descriptors import API_VERSION, Info
from leakaudit.plugins.hookspecs import DESCRIPTOR_HOOKS, EVENT_HOOKS, PROJECT, new_host

__all__ = [
    "CORE", "FIRST_PARTY", "BrokenPlugin", "LoadedPlugin", "Plugin", "canonical", "load_entry_point", "provenance",
]  # fmt: skip

CORE = "leakaudit"

FIRST_PARTY = frozenset({CORE} | {f"leakaudit-{name}" for name in (
    "inversion", "hijacking", "gradients", "membership", "cut", "dp", "updates",
)})  # fmt: skip
"""Distributions maintained with the core. All others are labeled third party in listings and reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One usable plugin.

    Attributes:
        info: Its descriptor.
        distribution: Canonical name of the distribution that provides it.
        version: Version of that distribution.
        third_party: Whether somebody else maintains it.
    """

    info: Info
    distribution: str
    version: str
    third_party: bool

    @property
    def qualified(self) -> str:
        """`distribution/name`, which is unique in a kind."""
        return f"{self.distribution}/{self.info.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPlugin:
    """An entry point that could not be used, and why (one line)."""

    distribution: str
    version: str
    entry_point: str
    reason: str

    def describe(self) -> str:
        """Return one line that names distribution, version, entry point and reason."""
        return f"{self.distribution} {self.version} (entry point {self.entry_point!r}): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPlugin:
    """A loaded entry point: its descriptors, and its own pluggy manager so that no plugin can break another's hooks."""

    distribution: str
    version: str
    entry_point: str
    plugins: tuple[Plugin, ...]
    host: pluggy.PluginManager


class _Unusable(Exception):
    """The plugin breaks the contract; the message is the reason."""


def canonical(distribution: str) -> str:
    """Return the normalized name of a distribution: lower case, words joined by `-`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def provenance(entry_point: EntryPoint) -> tuple[str, str]:
    """Return canonical distribution name and version of an entry point."""
    dist = entry_point.dist
    if dist is None:
        return "unknown", "unknown"
    return canonical(dist.name or "unknown"), dist.version or "unknown"


def load_entry_point(entry_point: EntryPoint) -> LoadedPlugin | BrokenPlugin:
    """Import an entry point's light module and collect its descriptors; their targets are never imported here.

    Args:
        entry_point: An entry point of group `leakaudit`.

    Returns:
        The loaded plugin, or what is wrong with it. All of an entry point's plugins are usable, or none is: half an
        attack package silently missing would be a false all-clear.
    """
    distribution, version = provenance(entry_point)
    try:
        # Whatever a plugin prints while it is imported must not mix with the data on stdout.
        with contextlib.redirect_stdout(sys.stderr):
            host = _register(entry_point.load(), entry_point.name)
            infos = list(_descriptors(host))
    except _Unusable as error:
        reason = str(error)
    except SystemExit as error:
        reason = f"it called sys.exit({error.code!r}) while it was loaded"
    except Exception as error:  # noqa: BLE001 - isolation: the reason is kept and shown
        reason = f"{type(error).__name__}: {_one_line(str(error))}"
    else:
        plugins = tuple(
            Plugin(info=info, distribution=distribution, version=version, third_party=distribution not in FIRST_PARTY)
            for info in infos
        )
        return LoadedPlugin(distribution=distribution, version=version, entry_point=entry_point.name, plugins=plugins, host=host)
    return BrokenPlugin(distribution=distribution, version=version, entry_point=entry_point.name, reason=reason)


def _register(module: object, name: str) -> pluggy.PluginManager:
    """Return a pluggy manager that holds only this plugin, after checking its hook names and arguments."""
    _check_markers(module)
    host = new_host()
    host.register(module, name=name)
    known = (*DESCRIPTOR_HOOKS, *EVENT_HOOKS)
    implemented = [caller.name for caller in host.get_hookcallers(module) or ()]
    for hook in implemented:
        if hook not in known:
            raise _Unusable(f"it implements the unknown hook {hook!r}.{nearest(hook, known)}")
    host.check_pending()
    if not implemented:
        raise _Unusable(f"it implements no hook; the entry point must name the module with the {PROJECT}_... functions")
    return host


def _check_markers(module: object) -> None:
    """Refuse functions that look like hooks but lack the marker: pluggy would silently ignore them."""
    for name, member in inspect.getmembers(module, inspect.isfunction):
        here = member.__module__ == getattr(module, "__name__", None)
        if here and name.startswith(f"{PROJECT}_") and not hasattr(member, f"{PROJECT}_impl"):
            raise _Unusable(f"its function {name} lacks the @hookimpl marker of leakaudit.plugins")


def _descriptors(host: pluggy.PluginManager) -> Iterator[Info]:
    """Yield the plugin's descriptors, each checked."""
    seen: set[tuple[str, str]] = set()
    for hook, expected in DESCRIPTOR_HOOKS.items():
        for result in getattr(host.hook, hook)():
            for info in result:
                if not isinstance(info, expected):
                    raise _Unusable(f"{hook} yields a {type(info).__name__}, expected {expected.__name__}")
                if (info.kind, info.name) in seen:
                    raise _Unusable(f"{hook} yields two plugins named {info.name!r}")
                seen.add((info.kind, info.name))
                _check_api_version(info)
                yield info


def _check_api_version(info: Info) -> None:
    """Accept plugins of our major version that need no newer minor one."""
    found = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", str(info.api_version))
    if not found:
        raise _Unusable(f"{info.kind} {info.name!r}: api_version {info.api_version!r} is not of the form 'major.minor'")
    major, minor = int(found[1]), int(found[2])
    our_major, our_minor = (int(part) for part in API_VERSION.split("."))
    if major != our_major or minor > our_minor:
        side = "leakaudit" if (major, minor) > (our_major, our_minor) else "the plugin"
        raise _Unusable(
            f"{info.kind} {info.name!r} was written for plugin contract {info.api_version}, this leakaudit offers "
            f"{API_VERSION}; update {side}"
        )


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "(no message)"
