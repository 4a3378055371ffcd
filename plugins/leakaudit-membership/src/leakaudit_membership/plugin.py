"""Hook implementations; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, hookimpl
from leakaudit_membership.epsilon_params import EpsilonAuditParams
from leakaudit_membership.params import (
    MembershipLiraParams,
    MembershipLossMapParams,
    MembershipLossParams,
    MembershipRmiaParams,
)

__all__ = ["leakaudit_attacks"]


ATTACKS = (
    AttackInfo(
        name="membership-loss",
        summary="Ranks candidate patients by the deployed model's loss on them: low loss suggests a training patient.",
        params=MembershipLossParams,
        target="leakaudit_membership.attack:MembershipLoss",
        api_version="1.0",
        references=(
            "Yeom, Giacomelli, Fredrikson and Jha: Privacy risk in machine learning: analyzing the connection to "
            "overfitting, CSF 2018, arXiv:1709.01604",
            "Nasr, Shokri and Houmansadr: Comprehensive privacy analysis of deep learning: passive and active white-box inference "
            "attacks against centralized and federated learning, S&P 2019, arXiv:1812.00910",
            "He, Rahimian, Schiele and Fritz: Segmentations-Leak: membership inference attacks and defenses in semantic "
            "image segmentation, ECCV 2020, arXiv:1912.09685",
        ),
        family="membership",
        evidence=("scores",),
        channels=("output", "model"),
        taxonomy=("atlas:AML.T0024.000", "owasp:ML04:2023"),
    ),
    AttackInfo(
        name="membership-lira",
        summary="Compares the deployed model's confidence on each candidate with that of shadow models with and without it.",
        params=MembershipLiraParams,
        target="leakaudit_membership.lira:MembershipLira",
        api_version="1.0",
        references=(
            "Carlini, Chien, Nasr, Song, Terzis and Tramer: Membership inference attacks from first principles, S&P 2022, "
            "arXiv:2112.03570",
        ),
        family="membership",
        evidence=("scores",),
        channels=("output", "model"),
        taxonomy=("atlas:AML.T0024.000", "owasp:ML04:2023"),
    ),
    AttackInfo(
        name="membership-rmia",
        summary="Asks how much of a population each candidate dominates in likelihood ratio, with few shadow models.",
        params=MembershipRmiaParams,
        target="leakaudit_membership.rmia:MembershipRmia",
        api_version="1.0",
        references=("Zarifzadeh, Liu and Shokri: Low-cost high-power membership inference attacks, ICML 2024, arXiv:2312.03262",),
        family="membership",
        evidence=("scores",),
        channels=("output",),
        taxonomy=("atlas:AML.T0024.000", "owasp:ML04:2023"),
    ),
    AttackInfo(
        name="membership-loss-map",
        summary="Learns on shadow models where and how much a model errs on patients it was trained on, and looks for that.",
        params=MembershipLossMapParams,
        target="leakaudit_membership.loss_map:MembershipLossMap",
        api_version="1.0",
        references=(
            "He, Rahimian, Schiele and Fritz: Segmentations-Leak: membership inference attacks and defenses in semantic "
            "image segmentation, ECCV 2020, arXiv:1912.09685",
        ),
        family="membership",
        evidence=("scores",),
        channels=("output",),
        taxonomy=("atlas:AML.T0024.000", "owasp:ML04:2023"),
    ),
    AttackInfo(
        name="epsilon-audit",
        summary="Plants canaries by coin tosses and bounds from below the epsilon that the training really has.",
        params=EpsilonAuditParams,
        target="leakaudit_membership.epsilon:EpsilonAudit",
        api_version="1.0",
        references=(
            "Steinke, Nasr and Jagielski: Privacy auditing with one (1) training run, NeurIPS 2023, arXiv:2305.08846",
            "Mahloujifar, Melis and Chaudhuri: Auditing f-differential privacy in one run, 2024, arXiv:2410.22235",
            "Jagielski, Ullman and Oprea: Auditing differentially private machine learning, NeurIPS 2020, arXiv:2006.07709",
        ),
        family="membership",
        evidence=("scores",),
        channels=("output", "update", "model"),
        taxonomy=("atlas:AML.T0024.000", "owasp:ML04:2023"),
    ),
)


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    """Yield the membership attacks and `epsilon-audit`."""
    yield from ATTACKS
