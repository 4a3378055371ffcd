"""Hook implementations; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, hookimpl
from leakaudit_membership.params import MembershipLossParams

__all__ = ["leakaudit_attacks"]


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    """Yield `membership-loss`."""
    yield AttackInfo(
        name="membership-loss",
        summary="Ranks candidate patients by the deployed model's loss on them: low loss suggests a training patient.",
        params=MembershipLossParams,
        target="leakaudit_membership.attack:MembershipLoss",
        api_version="1.0",
        references=(
            "Yeom, Giacomelli, Fredrikson and Jha: Privacy risk in machine learning: analyzing the connection to "
            "overfitting, CSF 2018, arXiv:1709.01604",
            "He, Rahimian, Schiele and Fritz: Segmentations-Leak: membership inference attacks and defenses in semantic "
            "image segmentation, ECCV 2020, arXiv:1912.09685",
        ),
        family="membership",
        evidence=("scores",),
        channels=("output",),
        taxonomy=("atlas:AML.T0024.000", "owasp:ML04:2023"),
    )
