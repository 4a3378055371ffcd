"""Canaries that an attack crafted: checked, named by the engine, dealt to seats, and tossed a coin for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from leakaudit.cohorts.cohort import Cohort, Origin
from leakaudit.models.canary import GradientCanary
from leakaudit.wire.seats import Secret

__all__ = ["Gradients", "admit", "admit_gradients", "coins_of", "deal", "load_gradients", "save_gradients", "toss"]

Gradients = Mapping[str, tuple[str, GradientCanary]]
"""Gradient canaries by name, each with the seat that holds it."""


def admit(crafted: Cohort | None, asked: Mapping[str, Any] | None, cohort: Cohort) -> Cohort | None:
    """Return crafted canaries under names that no patient has, or None where none were asked for.

    Args:
        crafted: What `prepare` returned.
        asked: `Requires.canaries` as plain JSON.
        cohort: The cohort that they join.

    Raises:
        ValueError: They are not what was asked for, or do not fit the cohort.
    """
    wanted = 0 if asked is None or asked["form"] != "patients" else int(asked["count"])
    if not wanted and crafted is None:
        return None
    found = 0 if crafted is None else len(crafted.patients)
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
    names = dict(zip(crafted.patients, _names(found), strict=True))
    samples = tuple(replace(s, patient=names[s.patient]) for s in crafted.samples)
    return replace(crafted, samples=samples, origin=Origin(dataset=""), canaries={}, dots={})


def admit_gradients(
    crafted: Sequence[GradientCanary], asked: Mapping[str, Any] | None, network: nn.Module
) -> dict[str, GradientCanary]:
    """Return crafted gradient canaries by the names that the engine gives them; empty where none were asked for.

    Args:
        crafted: What `prepare` returned.
        asked: `Requires.canaries` as plain JSON.
        network: A network of the task that is learned.

    Raises:
        ValueError: They are not what was asked for, or the network has no such place.
    """
    wanted = 0 if asked is None or asked["form"] != "gradients" else int(asked["count"])
    if len(crafted) != wanted:
        raise ValueError(
            f"prepare() crafted {len(crafted)} gradient canaries, but the attack's requires() asked for {wanted} "
            "(Requires.canaries, form 'gradients')"
        )
    for canary in crafted:
        canary.check(network)
    return dict(zip(_names(wanted), crafted, strict=True))


def _names(count: int) -> list[str]:
    return [f"canary-{i:04d}" for i in range(count)]


def deal(names: Iterable[str], seats: Sequence[str]) -> dict[str, str]:
    """Return the seat that holds each gradient canary: all canaries, included or not, are dealt in turn.

    Raises:
        ValueError: No seat takes any.
    """
    order = sorted(names)
    if order and not seats:
        raise ValueError("no party of this protocol takes gradient canaries: none trains the whole network by itself")
    return {name: seats[i % len(seats)] for i, name in enumerate(order)}


def save_gradients(folder: Path, gradients: Mapping[str, GradientCanary], dealt: Mapping[str, str]) -> None:
    """Write gradient canaries and their seats into a prepare cell's entry."""
    found = {name: {"seat": dealt[name], "canary": asdict(canary)} for name, canary in gradients.items()}
    (folder / "gradients.json").write_text(json.dumps(found))


def load_gradients(folder: Path) -> Gradients:
    """Read the gradient canaries of a prepare cell; empty where it has none."""
    path = folder / "gradients.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return {name: (entry["seat"], GradientCanary(**entry["canary"])) for name, entry in found.items()}


def toss(canaries: Iterable[str], probability: float, secret: Secret) -> dict[str, bool]:
    """Return for every canary whether training includes it."""
    rng = np.random.default_rng(secret.seed())
    return {p: bool(rng.random() < probability) for p in canaries}


def coins_of(folder: Path) -> dict[str, bool]:
    """Read the coins of a prepare cell; empty where it crafted no canaries."""
    path = folder / "coins.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}
