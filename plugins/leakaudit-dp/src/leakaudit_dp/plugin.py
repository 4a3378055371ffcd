"""What this package offers to leakaudit. Imports neither torch nor Opacus."""

from __future__ import annotations

from collections.abc import Iterable

from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_dp.params import DpSgdParams
from leakaudit_dp.params_site import SiteDpParams


@hookimpl
def leakaudit_defenses() -> Iterable[DefenseInfo]:
    """DP-SGD, and site-level DP of federated averaging."""
    yield DefenseInfo(
        name="dp-sgd",
        summary="DP-SGD at every seat that trains on images: gradients of each patient clipped, noise added, epsilon counted.",
        params=DpSgdParams,
        target="leakaudit_dp.defense:DpSgd",
        api_version="1.0",
        references=(
            "Abadi et al., CCS 2016, Deep Learning with Differential Privacy, arXiv 1607.00133",
            "Yousefpour et al. 2021, Opacus: User-Friendly Differential Privacy Library in PyTorch, arXiv 2109.12298",
        ),
        channels=("update", "model"),
        claim="(epsilon, delta)-DP of a site's updates or of the trained model; none for split learning unless asked for",
        stochastic=True,
    )
    yield DefenseInfo(
        name="site-dp",
        summary="Site-level DP of federated averaging: a site's whole update clipped, noise added centrally or at the site.",
        params=SiteDpParams,
        target="leakaudit_dp.site:SiteDp",
        api_version="1.0",
        references=(
            "McMahan et al., ICLR 2018, Learning Differentially Private Recurrent Language Models, arXiv 1710.06963",
            "Geyer, Klein and Nabi 2017, Differentially Private Federated Learning: A Client Level Perspective, arXiv 1712.07557",
        ),
        channels=("update", "model"),
        claim="(epsilon, delta)-DP with the whole site as the unit: of the released model (central), of the updates too (local)",
        stochastic=True,
    )
