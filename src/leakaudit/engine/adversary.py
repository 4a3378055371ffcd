"""What an adversary draws from and owns, where its view comes from, and what only the scorer knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.cohort import Cohort, Origin
from leakaudit.engine.canaries import Gradients
from leakaudit.engine.training import Training
from leakaudit.threats import Auxiliary
from leakaudit.wire.seats import Secret

__all__ = ["Sources", "Truth", "adversary_secret", "owned_cohort"]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a view's content comes from.

    Attributes:
        train: Entry folder of the training.
        record: Entry folder of the recording, or None if the attack taps nothing.
        candidates: Candidate patients if the threat model grants them (members and others mixed), or None.
        outputs: Logits of the deployed model on the candidates' samples, or None.
        own_outputs: Its logits on the samples the adversary owns, where it has shadow models to compare with, or None.
        stopped: After how many batches an alarm stopped the training; None where it ran to its end.
        shadows: Entry folder of the shadow models, or None if the attack needs none.
        gradients: Gradient canaries, included or not; empty if the attack crafted none.
    """

    train: Path
    record: Path | None = None
    candidates: Cohort | None = None
    outputs: NDArray[np.float32] | None = None
    own_outputs: NDArray[np.float32] | None = None
    stopped: int | None = None
    shadows: Path | None = None
    gradients: Gradients = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What only the scorer knows: who is behind the tokens.

    Attributes:
        rows: Row among the members behind each token of kind `"sample"`.
        candidates: Patient key behind each token of kind `"candidate"`.
        messages: Sender behind each token of kind `"message"`.
        behind: Rows among the members that each of them was computed from.
        missing: Attacked patients whose messages never crossed, because an alarm stopped the training before.
    """

    rows: dict[str, int]
    candidates: dict[str, str]
    messages: dict[str, str]
    behind: dict[str, tuple[int, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def adversary_secret(spec: Mapping[str, Any], salt: str) -> Secret:
    """Return the branch of the attack in a cell's spec: never above or beside those of the training."""
    return Secret.from_seed(spec["seed"], "attack", salt, f"repeat-{spec['repeat']}", spec["attacker"]["target"])


def owned_cohort(training: Training, auxiliary: Auxiliary, secret: Secret) -> Cohort | None:
    """Return the patients an adversary owns, under tokens of its own: before, during and after training the same."""
    cohort = training.cohort.of_patients(training.split.auxiliary)
    match auxiliary:
        case "none":
            return None
        case "same":
            pass
        case "shifted":
            count = {site: sum(s.site == site for s in training.members.samples) for site in cohort.sites}
            least = min(count, key=lambda site: (count[site], site))
            cohort = cohort.where(lambda s: s.site == least)
        case "noise":
            rng = np.random.default_rng(secret.branch("noise images").seed())
            noise = rng.standard_normal(cohort.images.shape, dtype=np.float32)
            cohort = replace(cohort, images=noise, labels=np.zeros_like(cohort.labels))
    salt = secret.branch("tokens")
    samples = tuple(replace(s, patient=salt.token(f"auxiliary-{s.patient}")) for s in cohort.samples)
    return replace(cohort, samples=samples, origin=Origin(dataset=""), canaries={}, dots={}, spacing={})
