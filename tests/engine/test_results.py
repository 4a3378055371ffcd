"""Judging stored evidence: controls of every endpoint, corrections over the run, and no dependence on any order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Run, fidelity, membership, piece

from leakaudit.engine.assemble_endpoints import EndpointWriter
from leakaudit.engine.evidence_matrix import Exchange
from leakaudit.engine.merge import merge
from leakaudit.engine.results import Judged, Results
from leakaudit.scoring.multiplicity import benjamini_hochberg
from leakaudit.scoring.policy import Policy, Threshold


def exchange(gain: float, n: int = 40, seed: int = 0) -> Exchange:
    matrix = np.random.default_rng(seed).normal(0, 0.05, (n, n)) + gain * np.eye(n)
    return Exchange(patients=tuple(f"p-{i:03d}" for i in range(n)), sites=tuple(f"site-{i % 2}" for i in range(n)), matrix=matrix)


def values(mean: float, n: int = 40, seed: int = 0, spread: float = 0.03) -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng(seed).normal(0, spread, n)
    return np.asarray(mean + drawn - drawn.mean())


def of(results: Results, attack: str, defense: str) -> Judged:
    return next(j for j in results.judged if (j.pairing.attack, j.pairing.defense) == (attack, defense))


def written(judged: Judged, policy: Policy | None = None) -> dict[str, Any]:
    writer = EndpointWriter(policy or Policy(), b"salt", per_patient=False)
    return {e.name: writer.endpoint(judged, e) for e in judged.result.endpoints}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Reconstruction and membership, without defense and with two: one that works, and one that does not."""
    run = Run(tmp_path, {"inverter": "reconstruction", "loss": "membership"}, ("good", "bad"), repeats=3)
    for defense, mean in (("none", 0.6), ("good", 0.02), ("bad", 0.4)):
        repeats = [
            [
                piece(
                    name, [fidelity(values(mean, seed=3 * level + r), exchange=exchange(mean, seed=r))],
                    [fidelity(values(-0.1, seed=20 + r))],
                )
                for level, name in enumerate(("deep", "shallow"))
            ]
            for r in range(3)
        ]  # fmt: skip
        run.add("inverter", defense, repeats)
        rng = np.random.default_rng(5)
        shift = {"none": 4.0, "good": 0.0, "bad": 0.3}[defense]
        scores = [[piece("loss", [membership(rng, shift)], [membership(rng, 0.0)], "output")] for _ in range(3)]
        run.add("loss", defense, scores)
    return run


def test_every_endpoint_has_its_own_controls(run: Run) -> None:
    results = run.judge()
    found = written(of(results, "inverter", "good"))
    assert set(found) == {"deep fidelity", "shallow fidelity"}
    for endpoint in found.values():
        assert endpoint.controls.positive is not None
        assert endpoint.controls.positive.value == pytest.approx(0.6)
        assert endpoint.controls.positive.passed is True
        assert endpoint.controls.positive.n == 40
        assert endpoint.controls.negative is not None
        assert endpoint.controls.negative.value == pytest.approx(-0.1)
        assert endpoint.controls.negative.criterion == "99.9 % lower bound from shuffled messages <= 0.05"
        ci, positive = endpoint.leakage.ci, endpoint.controls.positive.ci
        assert ci is not None
        assert positive is not None
        assert endpoint.controls.ratio == pytest.approx(ci[1] / positive[0])
    undefended = written(of(results, "inverter", "none"))["deep fidelity"]
    assert undefended.controls.ratio is None
    assert undefended.controls.positive is not None, "the control is itself its control"
    loss = written(of(results, "loss", "good"))["loss"]
    assert loss.controls.positive is not None
    assert loss.controls.positive.n == 40


def test_worst_quantiles_and_share_above(run: Run) -> None:
    judged = of(run.judge(), "inverter", "bad")
    endpoint = judged.result.endpoints[0]
    leakage = written(judged)["deep fidelity"].leakage
    patients = np.array(endpoint.per_patient)
    assert leakage.worst is not None
    assert leakage.worst.value == patients.max()
    shuffled = merge(
        [json.loads((run.store.get(k).folder / "score.json").read_text()) for k in judged.pairing.scores],
        "shuffled",
        0,  # type: ignore[union-attr]
    )
    assert leakage.worst.shuffled == max(shuffled["deep fidelity"].per_patient)
    assert leakage.quantiles is not None
    assert leakage.quantiles.median == pytest.approx(np.median(patients))
    assert leakage.quantiles.low == pytest.approx(np.quantile(patients, 0.05))
    assert leakage.quantiles.high == pytest.approx(np.quantile(patients, 0.95))
    assert leakage.above is not None
    assert leakage.above.value == 1.0
    assert leakage.above.ci == pytest.approx([1 - (1 - 0.025 ** (1 / 40)), 1.0])
    strict = Policy(patient_max=Threshold(value=0.4))
    assert written(judged, strict)["deep fidelity"].leakage.above.value == np.mean(patients > 0.4)  # type: ignore[union-attr]


def test_few_patients_have_no_quantiles_and_membership_none_at_all(tmp_path: Path) -> None:
    run = Run(tmp_path, {"inverter": "reconstruction", "loss": "membership"})
    run.add("inverter", "none", [[piece("x", [fidelity(values(0.5, 9))])]])
    run.add("loss", "none", [[piece("loss", [membership(np.random.default_rng(0), 1.0)], None, "output")]])
    results = run.judge()
    leakage = written(of(results, "inverter", "none"))["x fidelity"].leakage
    assert leakage.quantiles is None
    assert leakage.above is not None
    assert leakage.worst is not None
    assert (leakage.worst.shuffled, leakage.worst.limit, leakage.worst.above) == (None, None, None)
    membership_ = written(of(results, "loss", "none"))["loss"].leakage
    assert (membership_.quantiles, membership_.above, membership_.worst) == (None, None, None)


def test_four_patients_have_a_share_and_no_interval(tmp_path: Path) -> None:
    run = Run(tmp_path, {"inverter": "reconstruction"})
    run.add("inverter", "none", [[piece("x", [fidelity([0.5, 0.1, 0.1, 0.1])])]])
    above = written(of(run.judge(), "inverter", "none"))["x fidelity"].leakage.above
    assert above is not None
    assert (above.value, above.ci) == (0.25, None)


def test_p_values_are_corrected_over_the_whole_run(run: Run) -> None:
    results = run.judge()
    tests = [e for j in results.judged for e in j.result.endpoints]
    assert len(tests) == 9, "undefended pairings are tests, too"
    p = [e.exchanged.p for e in tests if e.exchanged is not None]
    adjusted = [e.adjusted for e in tests]
    np.testing.assert_allclose(np.array(adjusted, dtype=float), benjamini_hochberg(p))
    shown = written(of(results, "inverter", "good"))["deep fidelity"].controls.evidence_shuffle
    assert shown is not None
    assert shown.adjusted is not None
    assert shown.adjusted >= shown.p
    assert (shown.n, shown.possible) == (40, True)


def test_exchanged_evidence_gives_a_bar_on_the_scale_of_leakage(run: Run) -> None:
    judged = of(run.judge(), "inverter", "bad")
    worst = written(judged)["deep fidelity"].leakage.worst
    matrix = np.mean([exchange(0.4, seed=r).matrix for r in range(3)], axis=0)
    limit = np.quantile(matrix[~np.eye(40, dtype=bool)], 1 - 0.05 / 40)
    assert worst is not None
    assert worst.limit == pytest.approx(limit, abs=1e-3)  # A - C is 1 here
    assert worst.above == (np.diagonal(matrix) > limit).sum() == 40


def test_identity_has_no_bar_on_the_scale_of_leakage(tmp_path: Path) -> None:
    """Ranks are no graded score; how many patients lie above the bar is counted on the similarity."""
    run = Run(tmp_path, {"inverter": "reconstruction"})
    ranks = fidelity(np.r_[np.ones(10), np.zeros(30)], name="identity", chance=np.full(40, 0.01))
    run.add("inverter", "none", [[piece("x", [replace(ranks, exchange=exchange(0.15))])]])
    worst = written(of(run.judge(), "inverter", "none"))["x identity"].leakage.worst
    assert worst is not None
    assert worst.limit is None
    assert (
        worst.above
        == (np.diagonal(exchange(0.15).matrix) > np.quantile(exchange(0.15).matrix[~np.eye(40, dtype=bool)], 1 - 0.05 / 40)).sum()
    )


@pytest.mark.parametrize("blind", [0.0, 2.0])
def test_a_blind_baseline_that_tells_members_apart_is_a_review(tmp_path: Path, blind: float) -> None:
    run = Run(tmp_path, {"loss": "membership"}, ("good",), repeats=3, protocol="federated")
    rng = np.random.default_rng(2)
    for defense, shift in (("none", 6.0), ("good", 0.0)):
        one = [piece("loss", [membership(rng, shift, 200, blind)], [membership(rng, 0.0, 200)], "output")]
        run.add("loss", defense, [one] * 3)
    judged = of(run.judge(), "loss", "good")
    endpoint = written(judged)["loss"]
    assert endpoint.blind is not None
    assert endpoint.confounded == (blind > 0)
    assert any("confounded" in reason for reason in judged.verdict.reasons) == (blind > 0)
    assert judged.verdict.status == ("REVIEW" if blind else "PASS"), judged.verdict.reasons
    assert endpoint.blind.value == pytest.approx(0.84 if blind else 0.0, abs=0.12)


def shuffle_patients(piece_: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return a piece of evidence with its endpoints, and the patients of each, in another order."""

    def mixed(e: dict[str, Any]) -> dict[str, Any]:
        order = rng.permutation(len(e["patients"]))
        return {k: [v[i] for i in order] if isinstance(v, list) else v for k, v in e.items()}

    parts = {k: None if piece_[k] is None else [mixed(e) for e in piece_[k]] for k in ("endpoints", "shuffled")}
    parts = {k: None if v is None else [v[i] for i in rng.permutation(len(v))] for k, v in parts.items()}
    return {**piece_, **parts}


@pytest.mark.parametrize("seed", range(4))
def test_no_order_changes_a_number_or_a_verdict(run: Run, tmp_path: Path, seed: int) -> None:
    """Patients within endpoints, endpoints within evidence, evidence within cells, and pairings within the plan."""
    rng = np.random.default_rng(seed)
    other = Run(tmp_path / "other", run.families, ("good", "bad"), repeats=3)
    for pairing in run.pairings:
        repeats = []
        for key in pairing.scores:
            entry = run.store.get(key)
            assert entry is not None
            pieces = [shuffle_patients(p, rng) for p in json.loads((entry.folder / "score.json").read_text())["evidence"]]
            repeats.append([pieces[i] for i in rng.permutation(len(pieces))])
        other.add(pairing.attack, pairing.defense, repeats)
    first, second = run.judge(), other.judge(order=rng.permutation(len(run.pairings)).tolist())
    assert (first.run, first.protocols, first.defenses) == (second.run, second.protocols, second.defenses)
    for judged in first.judged:
        twin = of(second, judged.pairing.attack, judged.pairing.defense)
        assert judged.verdict == twin.verdict
        mine, theirs = ({e.name: e for e in j.result.endpoints} for j in (judged, twin))
        for name, e in mine.items():
            assert e == replace(theirs[name], adjusted=e.adjusted), name
            assert e.adjusted == pytest.approx(theirs[name].adjusted)
    assert {d: v.status for d, v in first.defenses.items()} == {
        ("split", "none"): "control", ("split", "good"): "REVIEW", ("split", "bad"): "FAIL",
    }  # fmt: skip


def test_an_error_of_an_attack_that_nothing_requires_is_a_review(tmp_path: Path) -> None:
    """ERROR is for pairings that the policy asks for; `identity` on updates it does not."""
    run = Run(tmp_path, {"inverter": "reconstruction", "extra": "identity"}, ("good",))
    for defense in ("none", "good"):
        run.add("inverter", defense, [[piece("x", [fidelity(values(0.5))])]])
        run.fail("extra", defense)
    status = run.judge().defenses["split", "good"]
    assert status.status == "FAIL"
    quiet = Run(tmp_path / "quiet", {"inverter": "reconstruction", "extra": "identity"}, ("good",))
    quiet.add("inverter", "none", [[piece("x", [fidelity(values(0.6))])]])
    quiet.add("inverter", "good", [[piece("x", [fidelity(values(0.0))])]])
    quiet.fail("extra", "good")
    assert quiet.judge().defenses["split", "good"].status == "REVIEW"
    quiet.fail("inverter", "good")
    required = Run(tmp_path / "required", {"inverter": "reconstruction"}, ("good",))
    required.fail("inverter", "good")
    assert required.judge().defenses["split", "good"].status == "ERROR"
