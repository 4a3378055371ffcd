"""The plugin under test, the parameters it is tried with, and the sandbox in which it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.params import Params
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams

__all__ = ["COHORT", "PROTOCOLS", "TINY", "Subject", "all_facts"]

TINY: dict[str, Any] = {"rounds": 2, "network": {"channels": [4, 8]}, "training": {"batch_size": 4}}
"""Parameters that keep a training to a fraction of a second."""

PROTOCOLS: dict[str, dict[str, Any]] = {
    "leakaudit/centralized": TINY,
    "leakaudit/split": TINY | {"clients": [["flair", "t1"], ["t1ce", "t2"]]},
    "leakaudit/federated": TINY,
}
"""The built-in protocols, as plugins are tried under them."""

COHORT = CohortFacts(
    modalities=("flair", "t1", "t1ce", "t2"), shape=(32, 32), members=8, auxiliary=8, sites=("site-0", "site-1"), records=8
)
"""Facts of the tiny cohort."""


def all_facts() -> dict[str, ProtocolFacts]:
    """Return facts of every built-in protocol, the split with masks in each of its three places."""
    split = PROTOCOLS["leakaudit/split"]
    return {
        "centralized": CentralizedParams.model_validate(TINY).facts(COHORT),
        "split": SplitParams.model_validate(split).facts(COHORT),
        "split (labels sent)": SplitParams.model_validate(split | {"labels": "sent"}).facts(COHORT),
        "split (u-shaped)": SplitParams.model_validate(split | {"labels": "u-shaped"}).facts(COHORT),
        "federated": FederatedParams.model_validate(TINY).facts(COHORT),
    }


@dataclass
class Subject:
    """The plugin under test.

    Attributes:
        plugin: The installed plugin.
        given: Parameters that the caller offers to try it with; may be empty.
        memo: What one check leaves for those that build on it.
    """

    plugin: Plugin
    given: Sequence[Mapping[str, Any]] = ()
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def examples(self) -> list[Mapping[str, Any]]:
        """Parameters to try: the caller's, else the `examples` of the params model's JSON schema, else the defaults."""
        extra = self.plugin.info.params.model_config.get("json_schema_extra")
        offered = extra.get("examples") if isinstance(extra, dict) else None
        stated: list[Mapping[str, Any]] = [e for e in offered if isinstance(e, dict)] if isinstance(offered, list) else []
        return [*self.given] or stated or [{}]

    @property
    def params(self) -> Params:
        """The first example, validated."""
        return self.plugin.info.params.model_validate(dict(self.examples[0]))

    @property
    def entry(self) -> dict[str, Any]:
        """The plugin as an entry of a recipe."""
        return {"use": self.plugin.qualified, "name": "under-test", "params": self.params.key()}

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="leakaudit-check-")

    @property
    def folder(self) -> Path:
        """A folder that goes with this object."""
        return Path(self._temporary.name)
