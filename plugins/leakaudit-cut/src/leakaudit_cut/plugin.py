"""What this package offers to leakaudit. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_cut.params import DropoutParams, GaussianNoiseParams


@hookimpl
def leakaudit_defenses() -> Iterable[DefenseInfo]:
    """Gaussian noise and dropout on activations."""
    yield DefenseInfo(
        name="gaussian-noise",
        summary="Gaussian noise on the activations that clients send, relative to their spread or after clipping.",
        params=GaussianNoiseParams,
        target="leakaudit_cut.noise:GaussianNoise",
        api_version="1.0",
        references=(
            "Titcombe et al. 2021, Practical Defences Against Model Inversion Attacks for Split Neural Networks, 2104.05743",
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
