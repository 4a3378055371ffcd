"""Site-level DP in whole trainings of the engine: rounds, subsets of sites, and beside DP-SGD in one chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from leakaudit_dp.accounting import spent

from leakaudit.engine.assemble_guarantees import statements
from leakaudit.engine.training import Trained, Training
from leakaudit.testing.stage import Stage, as_in_a_cell

TINY = {"rounds": 3, "network": {"channels": [4, 8]}, "training": {"batch_size": 4}}


def setup(folder: Path, *links: dict[str, Any], **params: Any) -> Training:
    stage = Stage(folder)
    defense = links[0] if len(links) == 1 else {"chain": list(links)}
    plan = stage.plan(
        protocols=[{"use": "leakaudit/federated", "params": TINY | params}], defenses=[{**defense, "name": "mine"}]
    )  # fmt: skip
    baseline = next(b for b in plan.baselines if b.defense == "mine")
    assert baseline.reason is None
    return stage.training(plan, baseline.trains[0])


def trained(folder: Path, *links: dict[str, Any], **params: Any) -> Trained:
    with as_in_a_cell():
        return setup(folder, *links, **params).run()


def site_dp(**params: Any) -> dict[str, Any]:
    return {"use": "site-dp", "params": {"noise_multiplier": 4.0, "delta": 0.01} | params}


def moved(found: Trained, name: str = "aggregator") -> dict[str, torch.Tensor]:
    return dict(found.states[name])


def test_central_noise_is_claimed_by_the_aggregator_for_every_round(tmp_path: Path) -> None:
    found = trained(tmp_path, site_dp())
    assert set(found.guarantees) == {"aggregator"}
    (claim,) = found.guarantees["aggregator"]
    assert claim.epsilon == spent("rdp", noise=4.0, rate=1.0, steps=3, delta=0.01)
    assert ("update", "site-0") not in claim.releases


def test_a_subset_of_the_sites_earns_no_amplification(tmp_path: Path) -> None:
    whole = spent("rdp", noise=4.0, rate=1.0, steps=3, delta=0.01)
    (central,) = trained(tmp_path, site_dp(), participation=0.5).guarantees["aggregator"]
    assert central.epsilon == whole
    local = trained(tmp_path, site_dp(mode="local"), participation=0.5).guarantees
    taken = {seat: int(claims[0].mechanism.split(", ")[-1].split()[0]) for seat, claims in local.items()}
    assert sum(taken.values()) == 3  # one of two sites in each of three rounds
    for seat, rounds in taken.items():
        assert local[seat][0].epsilon == spent("rdp", noise=4.0, rate=1.0, steps=rounds, delta=0.01)


def test_how_updates_are_weighted_no_longer_matters(tmp_path: Path) -> None:
    """Sites of different size: the recipe's weights by samples are replaced by equal ones."""
    for mode in ("central", "local"):
        by_samples, uniform = (
            trained(tmp_path, site_dp(mode=mode), weighting=weighting).digest() for weighting in ("samples", "uniform")
        )  # fmt: skip
        assert by_samples == uniform


@pytest.mark.parametrize("order", [1, -1])
def test_claims_about_patients_and_about_sites_stand_side_by_side(tmp_path: Path, order: int) -> None:
    links = [{"use": "dp-sgd", "params": {"noise_multiplier": 2.0, "delta": 0.01}}, site_dp()][::order]
    training = setup(tmp_path, *links)
    # Batches are drawn by the unit of the link that draws them, wherever it stands in the chain.
    assert (training.sampling.kind, training.sampling.unit) == ("poisson", "patient")
    with as_in_a_cell():
        found = training.run()
    plain = {seat: [c.to_json() for c in claims] for seat, claims in found.guarantees.items()}
    stated = {s.unit: s for s in statements([{"guarantees": plain}])}
    assert set(stated) == {"patient", "site"}
    assert ["update", "site-0"] in stated["patient"].releases
    assert ["update", "site-0"] not in stated["site"].releases
    assert stated["site"].epsilon != stated["patient"].epsilon


@pytest.mark.parametrize("mode", ["central", "local"])
def test_batch_normalization_trains_with_strong_noise(tmp_path: Path, mode: str) -> None:
    network = {"channels": [4, 8], "normalization": "batch"}
    training = setup(tmp_path, site_dp(mode=mode, noise_multiplier=50.0), network=network)
    with as_in_a_cell():
        found = training.run()
        logits = training.predict(training.predictor(found.states, found.public), training.cohort.images[:2])
    assert torch.isfinite(logits).all()
    counters = [t for name, t in moved(found).items() if name.endswith("num_batches_tracked")]
    assert counters
    assert not any(t.any() for t in counters)


def test_weak_noise_and_a_wide_clip_approach_the_uniform_average(tmp_path: Path) -> None:
    plain = setup(tmp_path, site_dp(), weighting="uniform")
    plain.spec["defenses"].clear()
    with as_in_a_cell():
        expected = moved(plain.run())
    for mode in ("central", "local"):
        found = moved(trained(tmp_path, site_dp(mode=mode, noise_multiplier=1e-6, clip=1e3), weighting="uniform"))
        gaps = [float((found[name] - t).abs().max()) for name, t in expected.items()]
        assert max(gaps) < 0.02  # three rounds of noise of 1e-3
