"""Hook implementations of toys that talk too much."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, DefenseInfo, hookimpl
from leakaudit_leaky import params


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    yield AttackInfo(
        name="leaky-attack", summary="A toy.", params=params.Shouting, target="leakaudit_leaky.loud:Loud", api_version="1.0",
        family="reconstruction", evidence=("images",), channels=("activation",),
    )  # fmt: skip


@hookimpl
def leakaudit_defenses() -> Iterator[DefenseInfo]:
    yield DefenseInfo(
        name="leaky-defense", summary="A toy.", params=params.Chatting, target="leakaudit_leaky.loud:Chatty", api_version="1.0",
        channels=("activation", "update"),
    )  # fmt: skip
