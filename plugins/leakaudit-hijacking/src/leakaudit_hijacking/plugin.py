"""Hook implementations; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, hookimpl
from leakaudit_hijacking.hijack_params import FeatureSpaceHijackParams
from leakaudit_hijacking.sdar_params import PcatParams, SdarParams

__all__ = ["leakaudit_attacks"]

_FSHA = (
    "Pasquini, Ateniese and Bernaschi: Unleashing the tiger: inference attacks on split learning, ACM CCS 2021, "
    "doi:10.1145/3460120.3485259"
)
_WGAN_GP = "Gulrajani et al.: Improved training of Wasserstein GANs, NeurIPS 2017, arXiv 1704.00028"
_SDAR = "Zhu, Luo, Wu, Jiang, Xiao and Ooi: Passive inference attacks on split learning via adversarial regularization, NDSS 2025"
_PCAT = "Gao and Zhang: PCAT: functionality and data stealing from split learning by pseudo-client attack, USENIX Security 2023"


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    """Yield `feature-space-hijack`, `sdar` and `pcat`."""
    yield AttackInfo(
        name="feature-space-hijack",
        summary="A server that teaches the clients, by gradients of its own making, to send what its decoders can read.",
        params=FeatureSpaceHijackParams,
        target="leakaudit_hijacking.hijacking:FeatureSpaceHijack",
        api_version="1.0",
        references=(_FSHA, _WGAN_GP),
        family="reconstruction",
        evidence=("images",),
        channels=("activation",),
        taxonomy=("atlas:AML.T0024.001", "owasp:ML03:2023"),
    )
    yield AttackInfo(
        name="sdar",
        summary="An honest server that simulates the clients beside the training, with discriminators on features and images.",
        params=SdarParams,
        target="leakaudit_hijacking.sdar:Sdar",
        api_version="1.0",
        references=(_SDAR,),
        family="reconstruction",
        evidence=("images", "masks"),
        channels=("activation", "label"),
        taxonomy=("atlas:AML.T0024.001", "owasp:ML03:2023"),
    )
    yield AttackInfo(
        name="pcat",
        summary="An honest server that simulates the clients beside the training, without discriminators.",
        params=PcatParams,
        target="leakaudit_hijacking.sdar:Sdar",
        api_version="1.0",
        references=(_PCAT, _SDAR),
        family="reconstruction",
        evidence=("images", "masks"),
        channels=("activation", "label"),
        taxonomy=("atlas:AML.T0024.001", "owasp:ML03:2023"),
    )
