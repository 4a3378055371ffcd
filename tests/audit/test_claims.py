"""Claims put to the test by canaries: an honest one stands, and the mistakes found in the wild are caught."""

from __future__ import annotations

import pytest

from .conftest import TOYS, Audit, Machine, tiny

pytest.importorskip("leakaudit_dp")
pytest.importorskip("leakaudit_membership")

FALSE = ("no-noise", "clip-after-noise", "not-sampled")


@pytest.fixture(scope="session")
def claims(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    machine = Machine(tmp_path_factory.mktemp("claims"))
    machine.install("leakaudit_claims", TOYS / "leakaudit_claims")
    machine.allowed += ["leakaudit-claims", "leakaudit-dp", "leakaudit-membership"]
    honest = {"noise_multiplier": 3.0, "clip": 1.0, "delta": 1e-5}
    training = {"batch_size": 24, "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.0}
    recipe = tiny(
        "claims",
        protocols=[
            {"use": "centralized", "params": {
                "rounds": 12, "network": {"channels": [4, 8], "normalization": "none"}, "training": training,
            }}
        ],
        defenses=[
            {"use": "toy-claimant", "name": how, "params": {**honest, "how": how}} for how in ("honest", *FALSE)
        ],
        attacks=[{"use": "epsilon-audit", "name": "gradients", "params": {"canary": "gradient", "canaries": 200, "norm": 50.0}}],
    )  # fmt: skip
    return machine.run(machine.write(recipe), machine.root / "out")


def test_claims(claims: Audit) -> None:
    for how in ("none", "honest", *FALSE):
        p = claims.pairing("gradients", how, "centralized")
        print(how, p["status"], p["claim"], [e["raw"]["epsilon_lower_bound"]["value"] for e in p["endpoints"]])
