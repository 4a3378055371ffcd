"""What this package offers to leakaudit. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_cut.params import (
    DropoutParams,
    GaussianNoiseParams,
    LaplaceNoiseParams,
    QuantizationParams,
    RandomProjectionParams,
)
from leakaudit_cut.params_learned import AttackerAwareParams, BottleneckParams, NoPeekParams, ShredderParams
from leakaudit_cut.params_watching import GradientScrutinizerParams, SplitGuardParams

_TITCOMBE = "Titcombe et al. 2021, Practical Defences Against Model Inversion Attacks for Split Neural Networks, 2104.05743"


@hookimpl
def leakaudit_defenses() -> Iterable[DefenseInfo]:
    """What changes the activations of image clients (noise, dropout, compression, learning to send less), and what watches."""
    yield from _plain()
    yield from _learned()
    yield from _watching()


def _plain() -> Iterable[DefenseInfo]:
    yield DefenseInfo(
        name="gaussian-noise",
        summary="Gaussian noise on the activations that clients send, relative to their spread or after clipping.",
        params=GaussianNoiseParams,
        target="leakaudit_cut.noise:GaussianNoise",
        api_version="1.0",
        references=(
            _TITCOMBE,
            "He, Zhang and Lee, ACSAC 2019, Model Inversion Attacks Against Collaborative Inference",
        ),
        channels=("activation",),
        stochastic=True,
    )
    yield DefenseInfo(
        name="dropout",
        summary="Drops random entries or channels of the activations that clients send, in training and prediction.",
        params=DropoutParams,
        target="leakaudit_cut.dropout:Dropout",
        api_version="1.0",
        references=(
            "He, Zhang and Lee, IEEE Internet of Things Journal 2021, Attacking and Protecting Data Privacy in Edge-Cloud "
            "Collaborative Inference Systems",
            "Srivastava et al., JMLR 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
        ),
        channels=("activation",),
        stochastic=True,
    )
    yield DefenseInfo(
        name="laplace-noise",
        summary="Laplace noise on the activations that clients send, after optional clipping.",
        params=LaplaceNoiseParams,
        target="leakaudit_cut.noise:LaplaceNoise",
        api_version="1.0",
        references=(_TITCOMBE,),
        channels=("activation",),
        stochastic=True,
    )
    yield DefenseInfo(
        name="quantization",
        summary="Sends activations with few bits.",
        params=QuantizationParams,
        target="leakaudit_cut.compression:Quantization",
        api_version="1.0",
        references=(
            "Bengio, Leonard and Courville 2013, Estimating or Propagating Gradients Through Stochastic Neurons, 1308.3432",
        ),
        channels=("activation",),
    )
    yield DefenseInfo(
        name="random-projection",
        summary="Sends a secret random projection of each voxel's channels.",
        params=RandomProjectionParams,
        target="leakaudit_cut.compression:RandomProjection",
        api_version="1.0",
        references=("Johnson and Lindenstrauss 1984, Extensions of Lipschitz mappings into a Hilbert space",),
        channels=("activation",),
        stochastic=True,
    )


def _learned() -> Iterable[DefenseInfo]:
    yield DefenseInfo(
        name="nopeek",
        summary="Adds the distance correlation between images and activations to the clients' loss.",
        params=NoPeekParams,
        target="leakaudit_cut.nopeek:NoPeek",
        api_version="1.0",
        references=(
            "Vepakomma et al. 2020, NoPeek: Information leakage reduction to share activations in distributed deep learning, "
            "2008.09161",
            "Szekely, Rizzo and Bakirov, Annals of Statistics 2007, Measuring and testing dependence by correlation of distances",
        ),
        channels=("activation",),
    )
    yield DefenseInfo(
        name="bottleneck",
        summary="Sends few learned mixtures of each level's channels.",
        params=BottleneckParams,
        target="leakaudit_cut.learned:Bottleneck",
        api_version="1.0",
        references=("Li et al., CVPR 2022, ResSFL: A Resistance Transfer Framework for Defending Model Inversion, 2205.04007",),
        channels=("activation",),
    )
    yield DefenseInfo(
        name="shredder",
        summary="Laplace noise whose scale the clients learn along with the task.",
        params=ShredderParams,
        target="leakaudit_cut.learned:Shredder",
        api_version="1.0",
        references=("Mireshghallah et al., ASPLOS 2020, Shredder: Learning Noise Distributions to Protect Inference Privacy",),
        channels=("activation",),
        stochastic=True,
    )
    yield DefenseInfo(
        name="attacker-aware",
        summary="Clients train against an inverter of their own (ResSFL).",
        params=AttackerAwareParams,
        target="leakaudit_cut.attacker_aware:AttackerAware",
        api_version="1.0",
        references=("Li et al., CVPR 2022, ResSFL: A Resistance Transfer Framework for Defending Model Inversion, 2205.04007",),
        channels=("activation",),
    )


def _watching() -> Iterable[DefenseInfo]:
    yield DefenseInfo(
        name="gradient-scrutinizer",
        summary="Catches a hijacking server by gradients that are alike for different samples; sends and changes nothing.",
        params=GradientScrutinizerParams,
        target="leakaudit_cut.scrutinizer:GradientScrutinizer",
        api_version="1.0",
        references=(
            "Fu et al., NDSS 2023, Focusing on Pinocchio's Nose: A Gradients Scrutinizer to Thwart Split-Learning Hijacking "
            "Attacks Using Intrinsic Attributes",
        ),
        channels=("cut-gradient",),
        detector=True,
    )
    yield DefenseInfo(
        name="splitguard",
        summary="Catches a hijacking server by batches with false masks, which clients do not learn from.",
        params=SplitGuardParams,
        target="leakaudit_cut.splitguard:SplitGuard",
        api_version="1.0",
        references=("Erdogan, Kupcu and Cicek, WPES 2022, SplitGuard: Detecting and Mitigating Training-Hijacking Attacks",),
        channels=("label",),
        detector=True,
    )
