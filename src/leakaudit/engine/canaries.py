"""Canaries that an attack crafted: checked, named by the engine, and tossed a coin for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from leakaudit.cohorts.cohort import Cohort, Origin
from leakaudit.wire.seats import Secret

__all__ = ["admit", "toss"]


def admit(crafted: Cohort | None, asked: Mapping[str, Any] | None, cohort: Cohort) -> Cohort | None:
    """Return crafted canaries under names that no patient has, or None where none were asked for.

    Args:
        crafted: What `prepare` returned.
        asked: `Requires.canaries` as plain JSON.
        cohort: The cohort that they join.

    Raises:
        ValueError: They are not what was asked for, or do not fit the cohort.
    """
    if asked is None and crafted is None:
        return None
    found = 0 if crafted is None else len(crafted.patients)
    wanted = 0 if asked is None else int(asked["count"])
    if crafted is None or found != wanted:
        raise ValueError(f"prepare() crafted {found} canaries, but the attack's requires() asked for {wanted} (Requires.canaries)")
    if crafted.modalities != cohort.modalities or crafted.shape != cohort.shape:
        raise ValueError(
            f"canaries of shape {crafted.shape} with {', '.join(crafted.modalities)}; "
            f"the cohort has {cohort.shape} with {', '.join(cohort.modalities)}"
        )
    unknown = sorted(set(crafted.sites) - set(cohort.sites))
    if unknown:
        raise ValueError(f"a canary belongs to site {unknown[0]!r}; the cohort has {', '.join(cohort.sites)}")
    if not np.isfinite(crafted.images).all():
        raise ValueError("a canary's image has values that are not finite")
    # A canary named like a patient would be one with that patient in batches, guarantees and scores.
    names = {p: f"canary-{i:04d}" for i, p in enumerate(crafted.patients)}
    samples = tuple(replace(s, patient=names[s.patient]) for s in crafted.samples)
    return replace(crafted, samples=samples, origin=Origin(dataset=""), canaries={}, dots={})


def toss(canaries: Cohort, probability: float, secret: Secret) -> dict[str, bool]:
    """Return for every canary whether training includes it."""
    rng = np.random.default_rng(secret.seed())
    return {p: bool(rng.random() < probability) for p in canaries.patients}
