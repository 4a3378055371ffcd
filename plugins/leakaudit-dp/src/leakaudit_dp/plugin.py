"""What this package offers to leakaudit. Imports neither torch nor Opacus."""

from __future__ import annotations

from collections.abc import Iterable

from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_dp.params import DpSgdParams


@hookimpl
def leakaudit_defenses() -> Iterable[DefenseInfo]:
    """DP-SGD."""
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
