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


def shown(audit: Audit, defense: str) -> float:
    (endpoint,) = audit.pairing("gradients", defense, "centralized")["endpoints"]
    assert endpoint["kind"] == "epsilon"
    return float(endpoint["raw"]["epsilon_lower_bound"]["value"])


def test_without_noise_every_canary_is_found(claims: Audit) -> None:
    pairing = claims.pairing("gradients", "none", "centralized")
    assert pairing["status"] == "control"
    assert pairing["claim"] is None
    assert shown(claims, "none") == pytest.approx(pairing["endpoints"][0]["raw"]["epsilon_ceiling"]["value"])


def test_an_honest_claim_stands_although_the_audit_could_have_refuted_it(claims: Audit) -> None:
    pairing = claims.pairing("gradients", "honest", "centralized")
    claim = pairing["claim"]
    assert claim["word"] == "NOT REFUTED"
    assert claim["lower_bound"] < claim["epsilon"] < claim["ceiling"]
    assert (claim["unit"], claim["delta"]) == ("patient", 1e-5)


@pytest.mark.parametrize("how", FALSE)
def test_mistakes_found_in_the_wild_are_caught(claims: Audit, how: str) -> None:
    pairing = claims.pairing("gradients", how, "centralized")
    claim = pairing["claim"]
    assert (pairing["status"], claim["word"]) == ("FAIL", "REFUTED")
    assert claim["lower_bound"] > claim["epsilon"]
    assert any("is refuted" in reason for reason in pairing["reasons"])
    assert claims.baseline(how)["status"] == "FAIL"


def test_an_audit_that_refuted_nothing_does_not_hold_a_defense_up(claims: Audit) -> None:
    reasons = claims.baseline("honest")["reasons"]
    assert not any("In review: gradients" in reason for reason in reasons), reasons
