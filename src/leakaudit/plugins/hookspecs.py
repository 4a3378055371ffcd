"""The hooks that a plugin may implement: six that yield descriptors, three that tell trackers how a run goes."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from leakaudit.plugins.descriptors import (
    AttackInfo,
    DatasetInfo,
    DefenseInfo,
    ExecutorInfo,
    Info,
    ProtocolInfo,
    SectionInfo,
)

__all__ = ["DESCRIPTOR_HOOKS", "EVENT_HOOKS", "PROJECT", "LeakauditSpecs", "hookimpl", "hookspec", "new_host"]

PROJECT = "leakaudit"
"""pluggy project name and entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin module as the implementation of the hook that has its name."""


class LeakauditSpecs:
    """Specifications of the hooks. An implementation may take fewer arguments than its specification, never more."""

    @hookspec
    def leakaudit_attacks(self) -> Iterable[AttackInfo]:
        """Yield the attacks of this plugin.

        Example:
            ```python
            @hookimpl
            def leakaudit_attacks():
                yield AttackInfo(
                    name="mean-image", summary="Guesses the mean image.", params=MeanImageParams,
                    target="leakaudit_mean.attack:MeanImage", api_version="1.0",
                    family="reconstruction", evidence=("images",), channels=("activation",),
                )
            ```
        """
        raise NotImplementedError

    @hookspec
    def leakaudit_defenses(self) -> Iterable[DefenseInfo]:
        """Yield the defenses of this plugin."""
        raise NotImplementedError

    @hookspec
    def leakaudit_protocols(self) -> Iterable[ProtocolInfo]:
        """Yield the protocols of this plugin."""
        raise NotImplementedError

    @hookspec
    def leakaudit_datasets(self) -> Iterable[DatasetInfo]:
        """Yield the datasets of this plugin."""
        raise NotImplementedError

    @hookspec
    def leakaudit_executors(self) -> Iterable[ExecutorInfo]:
        """Yield the executors of this plugin."""
        raise NotImplementedError

    @hookspec
    def leakaudit_report_sections(self) -> Iterable[SectionInfo]:
        """Yield further sections of the report."""
        raise NotImplementedError

    @hookspec
    def leakaudit_run_started(self, name: str, cells: int) -> None:
        """Hear that a run begins.

        Args:
            name: Name of the recipe.
            cells: Number of cells in the plan, cached ones included.
        """

    @hookspec
    def leakaudit_cell_finished(self, kind: str, label: str, status: str, seconds: float) -> None:
        """Hear that a cell ended.

        Args:
            kind: `"prepare"`, `"train"`, `"shadows"`, `"attack"` or `"score"`.
            label: What it computed, in the recipe's labels; never a patient.
            status: How it ended, for example `"ok"`, `"cached"` or `"error"`.
            seconds: Wall-clock seconds it took; 0 for a cached cell.
        """

    @hookspec
    def leakaudit_run_finished(self, status: str) -> None:
        """Hear that a run ended.

        Args:
            status: The verdict's word.
        """


DESCRIPTOR_HOOKS: dict[str, type[Info]] = {
    "leakaudit_attacks": AttackInfo,
    "leakaudit_defenses": DefenseInfo,
    "leakaudit_protocols": ProtocolInfo,
    "leakaudit_datasets": DatasetInfo,
    "leakaudit_executors": ExecutorInfo,
    "leakaudit_report_sections": SectionInfo,
}
"""Hooks that yield descriptors, and of which type."""

EVENT_HOOKS = ("leakaudit_run_started", "leakaudit_cell_finished", "leakaudit_run_finished")
"""Hooks that only listen."""


def new_host() -> pluggy.PluginManager:
    """Return an empty pluggy manager that knows the hooks."""
    host = pluggy.PluginManager(PROJECT)
    host.add_hookspecs(LeakauditSpecs)
    return host
