"""Hook implementations; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, hookimpl
from leakaudit_inversion.params import ModelInversionParams

__all__ = ["leakaudit_attacks"]


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    """Yield `model-inversion`."""
    yield AttackInfo(
        name="model-inversion",
        summary="A decoder trained on auxiliary patients turns the activations at the cut back into images.",
        params=ModelInversionParams,
        target="leakaudit_inversion.attack:ModelInversion",
        api_version="1.0",
        references=(
            "He, Zhang and Lee: Model inversion attacks against collaborative inference, ACSAC 2019, doi:10.1145/3359789.3359824",
        ),
        family="reconstruction",
        evidence=("images",),
        channels=("activation",),
        taxonomy=("atlas:AML.T0024.001", "owasp:ML03:2023"),
    )
