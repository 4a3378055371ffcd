"""Imports a plugin's class in the process that runs it, and fingerprints the code it comes from."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from leakaudit.errors import UserError
from leakaudit.plugins.descriptors import Info
from leakaudit.plugins.errors import PluginLoadError
from leakaudit.plugins.hookspecs import PROJECT
from leakaudit.plugins.loading import canonical, provenance
from leakaudit.plugins.targets import import_target

__all__ = ["resolve_target", "source_digest"]


def resolve_target(info: Info) -> type:
    """Import the class behind a descriptor. Only the process that runs the plugin calls this.

    Args:
        info: The descriptor.

    Raises:
        PluginLoadError: The module cannot be imported, or has no such class.
    """
    who = f"{info.kind} {info.name!r} (target {info.target!r})"
    try:
        found = import_target(info.target)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise PluginLoadError(f"{who} cannot be imported: {type(error).__name__}: {reason}.") from error
    if not isinstance(found, type):
        raise PluginLoadError(f"{who} is of type {type(found).__name__}, expected a class.")
    return found


@functools.cache
def source_digest(distribution: str) -> str:
    """Return the SHA-256 (hex) of a plugin distribution's Python sources, without importing them.

    The top module of each of its `leakaudit` entry points is hashed, file by file with its relative path, so that
    editable and regular installations of the same code agree.

    Args:
        distribution: Name of an installed distribution that provides plugins.

    Raises:
        UserError: It is not installed, provides no plugin, or its sources cannot be found.
    """
    wanted = canonical(distribution)
    points = [point for point in entry_points(group=PROJECT) if provenance(point)[0] == wanted]
    if not points:
        raise UserError(f"no installed distribution named {distribution!r} provides leakaudit plugins.")
    digest = hashlib.sha256()
    for top in sorted({point.module.partition(".")[0] for point in points}):
        for name, path in _sources(top, distribution):
            content = path.read_bytes()
            # Lengths keep "a" + "bc" apart from "ab" + "c".
            digest.update(f"{name}\n{len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def _sources(top: str, distribution: str) -> Iterator[tuple[str, Path]]:
    """Yield (relative name, path) of the Python files of a top-level module or package, in a stable order."""
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise UserError(f"the sources of {distribution!r} cannot be found: there is no module {top!r}.")
    if spec.submodule_search_locations is None:
        if spec.origin is None or not Path(spec.origin).is_file():
            raise UserError(f"the sources of {distribution!r} cannot be found: module {top!r} is not a file.")
        yield f"{top}.py", Path(spec.origin)
        return
    for root in sorted(Path(location) for location in spec.submodule_search_locations):
        files = ((path.relative_to(root).as_posix(), path) for path in root.rglob("*.py"))
        yield from sorted((f"{top}/{name}", path) for name, path in files)
