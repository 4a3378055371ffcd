"""Toys that ask for shadow models, and a defense that says how these learn under it."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, DefenseInfo, hookimpl
from leakaudit_shades.params import Comparing, Steady


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    yield AttackInfo(
        name="toy-shades", summary="A toy.", params=Comparing, target="leakaudit_shades.attack:Shades", api_version="1.0",
        family="membership", evidence=("scores",), channels=("output",),
    )  # fmt: skip


@hookimpl
def leakaudit_defenses() -> Iterator[DefenseInfo]:
    yield DefenseInfo(
        name="toy-steady", summary="A toy.", params=Steady, target="leakaudit_shades.defense:Steady", api_version="1.0",
        channels=("model",),
    )  # fmt: skip
