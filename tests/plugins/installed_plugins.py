"""Real installed distributions for tests: a package and its dist-info in a folder on sys.path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from leakaudit.plugins.manager import ALLOW_LIST, NO_THIRD_PARTY, PluginManager, get_manager
from leakaudit.plugins.sources import source_digest

__all__ = ["TOY_PARAMS", "TOY_PLUGIN", "Site", "site", "toys"]

TOY_PARAMS = """
from typing import Literal
from pydantic import Field, field_validator
from leakaudit.plugins import AttackParams, DatasetParams, DefenseParams, ExecutorParams, ProtocolParams

class Attack(AttackParams):
    iterations: int = Field(default=10, ge=1, description="How long.")
    style: Literal["learned", "optimized"] = Field(default="learned", description="Which way.")

class Picky(AttackParams):
    target: str = Field(description="What it wants.")

class Crashing(AttackParams):
    level: int = Field(default=0, description="Crashes when checked.")
    @field_validator("level")
    @classmethod
    def _crash(cls, value):
        raise KeyError("oops")

class Defense(DefenseParams):
    sigma: float = Field(default=0.5, gt=0, description="Noise.")

class Data(DatasetParams):
    root: str = Field(default="", description="Folder.")
    patients: int = Field(default=60, description="How many.")

class Protocol(ProtocolParams):
    rounds: int = Field(default=2, description="How many.")

class Executor(ExecutorParams):
    pass
"""

TOY_PLUGIN = """
from leakaudit.plugins import AttackInfo, DatasetInfo, DefenseInfo, ExecutorInfo, ProtocolInfo, hookimpl
from leakaudit_toys import params

COMMON = {"summary": "A toy.", "target": "leakaudit_toys.runtime:Toy", "api_version": "1.0"}

@hookimpl
def leakaudit_attacks():
    facts = {"family": "reconstruction", "evidence": ("images",), "channels": ("activation",)}
    yield AttackInfo(name="toy-inversion", params=params.Attack, **facts, **COMMON)
    yield AttackInfo(name="toy-picky", params=params.Picky, **facts, **COMMON)
    yield AttackInfo(name="toy-crashing", params=params.Crashing, **facts, **COMMON)

@hookimpl
def leakaudit_defenses():
    yield DefenseInfo(name="toy-noise", params=params.Defense, channels=("activation",), **COMMON)
    yield DefenseInfo(name="toy-dropout", params=params.Defense, channels=("activation",), **COMMON)

@hookimpl
def leakaudit_datasets():
    yield DatasetInfo(name="toy-data", params=params.Data, synthetic=True, **COMMON)

@hookimpl
def leakaudit_protocols():
    yield ProtocolInfo(name="toy-split", params=params.Protocol, **COMMON)
    yield ProtocolInfo(name="toy-federated", params=params.Protocol, **COMMON)

@hookimpl
def leakaudit_executors():
    yield ExecutorInfo(name="toy-executor", params=params.Executor, **COMMON)
"""

RUNTIME = """
raise RuntimeError("a target was imported by a listing")
"""


class Site:
    """A folder of installed distributions. Only what is installed here (and the core) is loaded."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._monkeypatch = monkeypatch
        self._names: list[str] = []
        monkeypatch.setenv(ALLOW_LIST, "")
        monkeypatch.delenv(NO_THIRD_PARTY, raising=False)

    def install(
        self, distribution: str, files: dict[str, str], *, version: str = "1.2.3", entry_points: dict[str, str] | None = None
    ) -> None:
        """Write a package `leakaudit_x` and the metadata of distribution `leakaudit-x`."""
        package = distribution.replace("-", "_")
        for name, text in {"__init__.py": "", **files}.items():
            path = self.root / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        info = self.root / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        points = entry_points or {distribution.removeprefix("leakaudit-"): f"{package}.plugin"}
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        (info / "entry_points.txt").write_text(f"[leakaudit]\n{lines}")
        (info / "RECORD").write_text("".join(f"{package}/{name},,\n" for name in files))
        self._names.append(distribution)
        self._monkeypatch.setenv(ALLOW_LIST, ",".join(self._names))

    def install_attack(self, distribution: str, name: str, *, api_version: str = "1.0", before: str = "") -> None:
        """Install a distribution with one attack; `before` is code at the top of its plugin module."""
        source = f"""
            {before}
            from leakaudit.plugins import AttackInfo, AttackParams, hookimpl

            @hookimpl
            def leakaudit_attacks():
                yield AttackInfo(
                    name={name!r}, summary="A toy.", params=AttackParams, target="nowhere:Toy",
                    api_version={api_version!r}, family="membership", evidence=("scores",), channels=("model",),
                )
        """
        self.install(distribution, {"plugin.py": source})

    def discover(self) -> PluginManager:
        """Return the plugins that are installed now."""
        return PluginManager.discover()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of installed distributions on sys.path."""
    root = tmp_path / "site"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))
    before = set(sys.modules)
    get_manager.cache_clear()
    source_digest.cache_clear()
    yield Site(root, monkeypatch)
    get_manager.cache_clear()
    source_digest.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(root)):
            del sys.modules[name]


@pytest.fixture
def toys(site: Site) -> Site:
    """One of everything, in distribution leakaudit-toys."""
    site.install("leakaudit-toys", {"plugin.py": TOY_PLUGIN, "params.py": TOY_PARAMS, "runtime.py": RUNTIME})
    return site
