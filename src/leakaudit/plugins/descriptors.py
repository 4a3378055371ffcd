"""Frozen descriptors: what a plugin says about itself without importing anything heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from leakaudit.plugins.params import AttackParams, DatasetParams, DefenseParams, ExecutorParams, Params, ProtocolParams
from leakaudit.threats import Channel

__all__ = [
    "API_VERSION", "AttackInfo", "DatasetInfo", "DefenseInfo", "ExecutorInfo", "Info", "Kind", "ProtocolInfo",
    "SectionInfo",
]  # fmt: skip

API_VERSION = "1.0"
"""SemVer (major.minor) of the plugin contract, independent of the package's version."""

Kind = Literal["attack", "defense", "protocol", "dataset", "executor", "section"]

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What every plugin says about itself.

    Attributes:
        name: Kebab-case, unique in its kind; on a collision both plugins are reachable as `distribution/name`.
        summary: One line for listings and reports.
        params: Params model; its module must not import torch.
        target: `"package.module:Class"`, imported only in the process that runs it.
        api_version: Contract version the plugin was written for, `"major.minor"`.
        references: Papers or pages, one each.
    """

    kind: ClassVar[Kind]
    params_base: ClassVar[type[Params]] = Params

    name: str
    summary: str
    params: type[Params]
    target: str
    api_version: str
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"plugin name {self.name!r} is not kebab-case (lower-case words joined by '-')")
        if not self.summary or "\n" in self.summary:
            raise ValueError(f"plugin {self.name!r}: summary must be one non-empty line")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"plugin {self.name!r}: target {self.target!r} is not of the form 'package.module:Class'")
        if not (isinstance(self.params, type) and issubclass(self.params, self.params_base)):
            raise TypeError(f"plugin {self.name!r}: params must be a subclass of {self.params_base.__qualname__}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackInfo(Info):
    """An attack.

    Attributes:
        family: What is attacked for; the policy requires families per channel.
        evidence: Evidence types that `run` returns.
        channels: Channels it can work from.
        taxonomy: Tags such as `"atlas:AML.T0024.001"` (MITRE ATLAS) or `"owasp:ML03:2023"`.
        learned: For attacks on updates: whether images come from a map that was learned on simulated updates, instead of from a
            search for what explains an update. The report says by it whether a search that found little was all that was run.
    """

    kind: ClassVar[Kind] = "attack"
    params_base: ClassVar[type[Params]] = AttackParams

    family: Literal["reconstruction", "membership", "label", "property", "identity"]
    evidence: tuple[Literal["images", "masks", "scores", "values"], ...]
    channels: tuple[Channel, ...]
    taxonomy: tuple[str, ...] = ()
    learned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenseInfo(Info):
    """A defense.

    Attributes:
        channels: Channels it acts on.
        claim: The formal claim in words (for example `"(epsilon, delta)-DP of the shared model"`), or `"none"`.
        stochastic: Whether what it sends is randomized, so that an adversary may average repeated observations.
        detector: Whether it may raise an alarm: trainings then keep every round that an attack might read, because nobody
            knows ahead which will have been the last.
    """

    kind: ClassVar[Kind] = "defense"
    params_base: ClassVar[type[Params]] = DefenseParams

    channels: tuple[Channel, ...]
    claim: str = "none"
    stochastic: bool = False
    detector: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolInfo(Info):
    """A protocol."""

    kind: ClassVar[Kind] = "protocol"
    params_base: ClassVar[type[Params]] = ProtocolParams


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo(Info):
    """A dataset.

    Attributes:
        synthetic: No real patient is in it.
        public: Images of it may be shown in a report.
        license: License or terms in a few words.
    """

    kind: ClassVar[Kind] = "dataset"
    params_base: ClassVar[type[Params]] = DatasetParams

    synthetic: bool = False
    public: bool = False
    license: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorInfo(Info):
    """An executor."""

    kind: ClassVar[Kind] = "executor"
    params_base: ClassVar[type[Params]] = ExecutorParams


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionInfo(Info):
    """A further section of the report.

    Attributes:
        title: Heading of the section.
    """

    kind: ClassVar[Kind] = "section"

    title: str = field(default="")
