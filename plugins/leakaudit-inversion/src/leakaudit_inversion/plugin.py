"""Hook implementations; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from leakaudit.plugins import AttackInfo, hookimpl
from leakaudit_inversion.cut_gradient_params import GradientInversionParams
from leakaudit_inversion.params import LikelihoodInversionParams, ModelInversionParams, UnsplitParams
from leakaudit_inversion.params_masks import MaskInversionParams

__all__ = ["leakaudit_attacks"]

_HE = "He, Zhang and Lee: Model inversion attacks against collaborative inference, ACSAC 2019, doi:10.1145/3359789.3359824"
_TAXONOMY = ("atlas:AML.T0024.001", "owasp:ML03:2023")


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    """Yield the attacks that read activations, and those that read gradients."""
    yield from _from_activations()
    yield from _from_gradients()


def _from_activations() -> Iterable[AttackInfo]:
    yield AttackInfo(
        name="model-inversion",
        summary="A decoder trained on auxiliary patients turns the activations at the cut back into images.",
        params=ModelInversionParams,
        target="leakaudit_inversion.attack:ModelInversion",
        api_version="1.0",
        references=(_HE,),
        family="reconstruction",
        evidence=("images",),
        channels=("activation",),
        taxonomy=_TAXONOMY,
    )
    yield AttackInfo(
        name="likelihood-inversion",
        summary="Searches for the image whose activations under the known weights explain best what was sent.",
        params=LikelihoodInversionParams,
        target="leakaudit_inversion.likelihood:LikelihoodInversion",
        api_version="1.0",
        references=(
            _HE,
            "Mahendran and Vedaldi: Understanding deep image representations by inverting them, CVPR 2015, arXiv 1412.0035",
        ),
        family="reconstruction",
        evidence=("images",),
        channels=("activation",),
        taxonomy=_TAXONOMY,
    )
    yield AttackInfo(
        name="unsplit",
        summary="Searches for images and a clone of the client at once, knowing nothing but the architecture.",
        params=UnsplitParams,
        target="leakaudit_inversion.unsplit:Unsplit",
        api_version="1.0",
        references=(
            "Erdogan, Kupcu and Cicek: UnSplit: data-oblivious model inversion, model stealing, and label inference attacks "
            "against split learning, WPES 2022, arXiv 2108.09033",
        ),
        family="reconstruction",
        evidence=("images",),
        channels=("activation",),
        taxonomy=_TAXONOMY,
    )


def _from_gradients() -> Iterable[AttackInfo]:
    yield AttackInfo(
        name="gradient-inversion",
        summary="Turns the gradients that a server returns to its clients back into images of all clients' patients.",
        params=GradientInversionParams,
        target="leakaudit_inversion.cut_gradient_attack:GradientInversion",
        api_version="1.0",
        references=(
            "Roth et al.: Split-U-Net: preventing data leakage in split learning for collaborative multi-modal brain tumor "
            "segmentation, DeCaF 2022, arXiv 2208.10553",
            _HE,
            "Zhu, Liu and Han: Deep leakage from gradients, NeurIPS 2019, arXiv 1906.08935",
        ),
        family="reconstruction",
        evidence=("images",),
        channels=("cut-gradient",),
        taxonomy=_TAXONOMY,
    )
    yield AttackInfo(
        name="mask-inversion",
        summary="Steals the label holder's masks from the gradients that it sends back, or that a client is sent.",
        params=MaskInversionParams,
        target="leakaudit_inversion.mask_attack:MaskInversion",
        api_version="1.0",
        references=("Li et al.: Label leakage and protection in two-party split learning, ICLR 2022, arXiv 2102.08504",),
        family="label",
        evidence=("masks", "values"),
        channels=("cut-gradient", "activation"),
        taxonomy=_TAXONOMY,
    )
