"""Hook implementations; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, hookimpl
from leakaudit_gradients.imprint_params import ImprintParams
from leakaudit_gradients.inverter_params import GradientInverterParams
from leakaudit_gradients.params import GradientMatchingParams, UpdateStatisticsParams

__all__ = ["leakaudit_attacks"]


ATTACKS = (
    AttackInfo(
        name="gradient-matching",
        summary="Searches for images and masks whose simulated local training gives the update that a site sent.",
        params=GradientMatchingParams,
        target="leakaudit_gradients.attack:GradientMatching",
        api_version="1.0",
        references=(
            "Zhu, Liu and Han: Deep leakage from gradients, NeurIPS 2019, arXiv 1906.08935",
            "Geiping, Bauermeister, Droege and Moeller: Inverting gradients, NeurIPS 2020, arXiv 2003.14053",
            "Dimitrov, Balunovic, Konstantinov and Vechev: Data leakage in federated averaging, TMLR 2022, arXiv 2206.12395",
            "Bigdeli and Zwicker: Image restoration using autoencoding priors, 2017, arXiv 1703.09964 (the prior)",
            "Hatamizadeh et al.: Do gradient inversion attacks make federated learning unsafe?, IEEE TMI 2023, arXiv 2202.06924",
        ),
        family="reconstruction",
        evidence=("images", "masks"),
        channels=("update", "model"),
        taxonomy=("atlas:AML.T0024.001", "owasp:ML03:2023"),
    ),
    AttackInfo(
        name="gradient-inverter",
        summary="Learns a linear map from updates to images on simulated updates of auxiliary patients, also where matching fails.",
        params=GradientInverterParams,
        target="leakaudit_gradients.inverter:GradientInverter",
        api_version="1.0",
        references=(
            "Wu, Chen, Guo and Weinberger: Learning to invert: simple adaptive attacks for gradient inversion in federated "
            "learning, UAI 2023, arXiv 2210.10880",
        ),
        family="reconstruction",
        evidence=("images",),
        channels=("update", "model"),
        taxonomy=("atlas:AML.T0024.001", "owasp:ML03:2023"),
        learned=True,
    ),
    AttackInfo(
        name="update-statistics",
        summary="Reads the mean tumor volume of a site's patients from its update: of the last layer, or of all under Adam.",
        params=UpdateStatisticsParams,
        target="leakaudit_gradients.statistics:UpdateStatistics",
        api_version="1.0",
        references=("Zhao, Mopuri and Bilen: iDLG: improved deep leakage from gradients, 2020, arXiv 2001.02610 (the last layer)",),
        family="property",
        evidence=("values",),
        channels=("update", "model"),
        taxonomy=("atlas:AML.T0024", "owasp:ML03:2023"),
    ),
    AttackInfo(
        name="imprint",
        summary="Hands out a network with a module in front that writes the images of a batch into the update itself.",
        params=ImprintParams,
        target="leakaudit_gradients.imprint_attack:ImprintAttack",
        api_version="1.0",
        references=(
            "Fowl, Geiping, Czaja, Goldblum and Goldstein: Robbing the Fed: directly obtaining private data in federated learning "
            "with modified models, ICLR 2022, arXiv 2110.13057",
        ),
        family="reconstruction",
        evidence=("images",),
        channels=("update", "model"),
        taxonomy=("atlas:AML.T0024.001", "owasp:ML03:2023"),
    ),
)


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    """Yield `gradient-matching`, `gradient-inverter`, `update-statistics` and `imprint`."""
    yield from ATTACKS
