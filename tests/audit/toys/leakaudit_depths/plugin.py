"""Hook implementations of toys for planted controls and attack seeds."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, hookimpl
from leakaudit_depths import params


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    for name, model, target in (("toy-reader", params.Reading, "Reader"), ("toy-tapper", params.Tapping, "Tapper")):
        yield AttackInfo(
            name=name, summary="A toy.", params=model, target=f"leakaudit_depths.readers:{target}", api_version="1.0",
            family="reconstruction", evidence=("images",), channels=("activation",),
        )  # fmt: skip
    yield AttackInfo(
        name="toy-asker", summary="A toy.", params=params.Asking, target="leakaudit_depths.asker:Asker", api_version="1.0",
        family="membership", evidence=("scores",), channels=("output",),
    )  # fmt: skip
