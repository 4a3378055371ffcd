"""Attacks that look for what is not theirs: frames, heap, memory, graphs, storages, files, processes and seeds give nothing."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from leakaudit.cohorts import Cohort
from leakaudit.cohorts.cohort import Split
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.cohorts.split import SplitParams, split_patients
from leakaudit.engine.landlock import supported_version
from leakaudit.wire.seats import Secret

from .conftest import SEED, Audit, Machine, attack, tiny

WAYS = ("frames", "heap", "memory", "tensors", "files", "processes", "seeds")
CONTROLS = ("frames", "heap", "memory", "files", "processes", "seeds")
needs_landlock = pytest.mark.skipif(supported_version() == 0, reason="this kernel has no Landlock, which keeps files apart")


def truth(recipe: dict[str, Any]) -> tuple[Cohort, Split]:
    """Return everybody in the split, as the cohort cell loads them."""
    data = recipe["data"]
    phantom = Phantom(PhantomParams(**data["params"]), recipe["seed"])
    split = split_patients(phantom.inventory(), SplitParams(**data["split"]), recipe["seed"])
    return phantom.load(sorted({p for f in fields(Split) for p in getattr(split, f.name)})), split


def fingerprints(cohort: Cohort) -> list[str]:
    rows = cohort.images[:, :, cohort.shape[0] // 2].astype(np.float32)
    return [hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest() for image in rows for row in image]


def guessable_noise() -> list[str]:
    """Return the noise of the clients as it would be if the recipe's seed alone decided it."""
    secrets = [Secret.from_seed(SEED, "training", "repeat-0").branch("seat", f"client-{i}", "noise") for i in range(2)]
    return [draws(secret) for secret in secrets]


def draws(secret: Secret) -> str:
    return hashlib.sha256(torch.randn(8, generator=secret.generator()).numpy().tobytes()).hexdigest()


@pytest.fixture(scope="session")
def audit(machine: Machine) -> Audit:
    recipe = tiny("hostile", defenses=["toy-noise"])
    cohort, split = truth(recipe)
    out = machine.root / "vault-5e1f"
    salt = hashlib.sha256(b"salt" + cohort.images.tobytes()).hexdigest()
    members = Secret.from_seed(SEED, "training", salt, "repeat-0")
    words = [*split.members, *split.auxiliary, out.name, salt, members.key.hex()]
    hidden = {"words": [w[::-1] for w in words], "images": fingerprints(cohort.of_patients(split.members))}
    noise = [draws(members.branch("seat", f"client-{i}", "noise")) for i in range(2)]
    where: dict[str, Any] = {"defenses": ("toy-noise",)}
    recipe["attacks"] = [attack("toy-snoop", way, way=way, **hidden, noise=noise, **where) for way in WAYS]
    own = {
        "images": fingerprints(cohort.of_patients(split.auxiliary)),
        "words": ["tnesba-drow", "detnalp-drow"],
        "noise": guessable_noise(),
    }
    recipe["attacks"] += [attack("toy-snoop", f"{way}-control", way=way, **own, planted=True, **where) for way in CONTROLS]
    return machine.run(machine.write(recipe), out)


@pytest.mark.parametrize("way", [pytest.param(w, marks=needs_landlock) if w in ("files", "processes") else w for w in WAYS])
def test_nothing_is_found(audit: Audit, way: str) -> None:
    pairing = audit.pairing(way, "toy-noise")
    assert pairing["endpoints"], pairing["reasons"]
    lines = [line for line in (audit.out / "run.log").read_text().splitlines() if f"searched {way}: " in line]
    assert len(lines) == 2, "once for the real messages and once for the shuffled ones"
    assert all(int(line.rsplit(" ", 1)[1]) > 0 for line in lines)


@pytest.mark.parametrize("way", CONTROLS)
def test_the_search_finds_what_is_there(audit: Audit, way: str) -> None:
    pairing = audit.pairing(f"{way}-control", "toy-noise")
    assert pairing["status"] == "ERROR"
    assert any(f"found by {way}" in reason for reason in pairing["reasons"]), pairing["reasons"]


def test_the_salt_is_the_one_the_test_looked_for(audit: Audit) -> None:
    stored = (audit.folder("cohort", "cohort phantom") / "salt").read_text()
    assert stored[::-1] in audit.recipe.read_text()
    assert stored not in (audit.out / "report.json").read_text()
    assert stored not in (audit.out / "run.log").read_text()


@needs_landlock
def test_the_report_says_how_attacks_were_confined(audit: Audit) -> None:
    assert "cut off from other files by the kernel" in audit.pairing("heap", "toy-noise")["isolation"]
