"""Toys for federations that go wrong: an attack that only counts, a site that fails, and a defense that sends no numbers."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, DefenseInfo, hookimpl
from leakaudit_faults.params import Counting, Failing, Spoiling


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    for name, params, target, channel in (
        ("toy-counter", Counting, "Counter", "output"), ("toy-failing-site", Failing, "FailingSite", "model"),
    ):  # fmt: skip
        yield AttackInfo(
            name=name, summary="A toy.", params=params, target=f"leakaudit_faults.parties:{target}", api_version="1.0",
            family="membership", evidence=("scores",), channels=(channel,),
        )  # fmt: skip


@hookimpl
def leakaudit_defenses() -> Iterator[DefenseInfo]:
    yield DefenseInfo(
        name="toy-spoiling", summary="A toy.", params=Spoiling, target="leakaudit_faults.parties:Spoiler", api_version="1.0",
        channels=("update",),
    )  # fmt: skip
