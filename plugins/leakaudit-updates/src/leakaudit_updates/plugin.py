"""What this package offers to leakaudit. Imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Iterable

from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_updates.params import (
    PercentileSharingParams,
    SelectiveSharingParams,
    UpdateClippingParams,
    UpdateNoiseParams,
    UpdatePruningParams,
    UpdateQuantizationParams,
)
from leakaudit_updates.params_svt import SvtParams
from leakaudit_updates.secure_params import SecureAggregationParams

_SHOKRI = "Shokri and Shmatikov, CCS 2015, Privacy-Preserving Deep Learning"
_FLARE = "NVIDIA FLARE documentation, Differential Privacy in FLARE"


@hookimpl
def leakaudit_defenses() -> Iterable[DefenseInfo]:
    """What changes the updates of federated sites: noise, clipping, partial sharing, sparse vectors, few bits, sums alone."""
    yield from _whole()
    yield from _parts()
    yield DefenseInfo(
        name="svt",
        summary="Releases a share of an update's entries by the sparse vector technique, with an accountant for all rounds.",
        params=SvtParams,
        target="leakaudit_updates.svt:Svt",
        api_version="1.0",
        references=(
            "Li et al., MLMI 2019, Privacy-preserving Federated Brain Tumour Segmentation, arXiv 1910.00962",
            "Lyu, Su and Li, VLDB 2017, Understanding the Sparse Vector Technique for Differential Privacy, arXiv 1603.01699",
            _FLARE,
        ),
        channels=("update",),
        claim="epsilon-DP of a site's updates with the whole site as the unit; none with the noise scales of nvflare-2.2",
        stochastic=True,
    )
    yield DefenseInfo(
        name="secure-aggregation",
        summary="Shows the aggregator the sum of updates alone; hides neither the sum nor what a poisoned model makes of it; no "
        "epsilon.",
        params=SecureAggregationParams,
        target="leakaudit_updates.secure_aggregation:SecureAggregation",
        api_version="1.0",
        references=(
            "Bonawitz et al., CCS 2017, Practical Secure Aggregation for Privacy-Preserving Machine Learning",
            "Shamir, Communications of the ACM 1979, How to Share a Secret",
        ),
        channels=("update",),
        stochastic=True,
    )


def _whole() -> Iterable[DefenseInfo]:
    yield DefenseInfo(
        name="update-noise",
        summary="Gaussian noise on a site's update, scaled by the update's own percentile or absolute; no formal guarantee.",
        params=UpdateNoiseParams,
        target="leakaudit_updates.perturbation:UpdateNoise",
        api_version="1.0",
        references=(
            "Hatamizadeh et al., IEEE TMI 2023, Do Gradient Inversion Attacks Make Federated Learning Unsafe?, arXiv 2202.06924",
            _FLARE,
        ),
        channels=("update",),
        stochastic=True,
    )
    yield DefenseInfo(
        name="update-clipping",
        summary="Scales a site's update down to an L2 norm; no formal guarantee without noise.",
        params=UpdateClippingParams,
        target="leakaudit_updates.perturbation:UpdateClipping",
        api_version="1.0",
        references=("McMahan et al., ICLR 2018, Learning Differentially Private Recurrent Language Models, arXiv 1710.06963",),
        channels=("update",),
    )
    yield DefenseInfo(
        name="update-quantization",
        summary="Sends a site's update with few bits by unbiased stochastic rounding; no formal guarantee.",
        params=UpdateQuantizationParams,
        target="leakaudit_updates.quantization:UpdateQuantization",
        api_version="1.0",
        references=(
            "Alistarh et al., NeurIPS 2017, QSGD: Communication-Efficient SGD via Gradient Quantization, arXiv 1610.02132",
            "Wen et al., NeurIPS 2017, TernGrad: Ternary Gradients to Reduce Communication, arXiv 1705.07878",
        ),
        channels=("update",),
        stochastic=True,
    )


def _parts() -> Iterable[DefenseInfo]:
    yield DefenseInfo(
        name="update-pruning",
        summary="Sets the small entries of each tensor of a site's update to zero; no formal guarantee.",
        params=UpdatePruningParams,
        target="leakaudit_updates.sharing:UpdatePruning",
        api_version="1.0",
        references=(
            "Huang et al., NeurIPS 2021, Evaluating Gradient Inversion Attacks and Defenses in Federated Learning, 2112.00059",
            "Zhu, Liu and Han, NeurIPS 2019, Deep Leakage from Gradients, arXiv 1906.08935",
        ),
        channels=("update",),
    )
    yield DefenseInfo(
        name="percentile-sharing",
        summary="Sends the entries of an update above a percentile, each clipped: NVFlare's PercentilePrivacy; no guarantee.",
        params=PercentileSharingParams,
        target="leakaudit_updates.sharing:PercentileSharing",
        api_version="1.0",
        references=(_SHOKRI, _FLARE),
        channels=("update",),
    )
    yield DefenseInfo(
        name="selective-sharing",
        summary="Sends only the tensors that are named, or the largest entries of an update; no formal guarantee.",
        params=SelectiveSharingParams,
        target="leakaudit_updates.sharing:SelectiveSharing",
        api_version="1.0",
        references=(
            _SHOKRI,
            "Li et al., MLMI 2019, Privacy-preserving Federated Brain Tumour Segmentation, arXiv 1910.00962",
        ),
        channels=("update",),
    )
