"""`membership-loss`: ranks members above others, is nothing on shuffled answers, and counts patients."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_membership.attack import MembershipLoss
from leakaudit_membership.calibration import without_site, without_volume
from leakaudit_membership.params import MembershipLossParams
from leakaudit_membership.signals import cross_entropy, dice_loss

from leakaudit.attacks import Scores, View
from leakaudit.attacks.contents import save_cohort
from leakaudit.cohorts import Cohort, Origin, Sample, regions
from leakaudit.facts import CohortFacts, Flow, ProtocolFacts, SeatFacts
from leakaudit.models import TaskSpec, load_task
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires
from leakaudit.wire import Message, Recorder, Seat, Secret

SIDE, SLICES = 16, 2
COHORT = CohortFacts(modalities=("t1",), shape=(SIDE, SIDE), members=8, auxiliary=0, sites=("site-0", "site-1"), records=16)
PROTOCOL = CentralizedParams.model_validate({"network": {"channels": [8, 8]}, "rounds": 1})


def candidates(count: int = 24, seed: int = 0) -> Cohort:
    """Patients of two slices with a bright tumor that is partly hidden by noise, so that a net must memorize the rest."""
    rng = np.random.default_rng(seed)
    samples = [Sample(patient=f"token{i}", site=f"site-{i % 2}", position=z) for i in range(count) for z in range(SLICES)]
    grid = np.stack(np.meshgrid(*(np.arange(SIDE),) * 2, indexing="ij"))
    centers = rng.uniform(5, 11, (len(samples), 2, 1, 1))
    radii = rng.uniform(2, 5, (len(samples), 1, 1))
    tumor = np.hypot(*(grid[:, None] - centers.transpose(1, 0, 2, 3))) < radii
    brain = np.broadcast_to(np.hypot(*(grid - 7.5)) < 7.5, tumor.shape)
    images = (rng.standard_normal(tumor.shape) + tumor) * brain
    return Cohort(
        images=images[:, None].astype(np.float32), labels=(3 * (tumor & brain)).astype(np.uint8), brain=np.array(brain),
        samples=tuple(samples), modalities=("t1",), origin=Origin(dataset="toy", synthetic=True),
    )  # fmt: skip


def write(folder: Path, cohort: Cohort, logits: torch.Tensor, *, tokens: list[str] | None = None, knows: Any = ()) -> View:
    """Write the view of an outsider to whom a model answered `logits`, in messages of five rows."""
    folder.mkdir(parents=True)
    task = _task_spec()
    data = {
        "threat": {
            "plays": ["outsider"], "alters": [], "channels": ["output"], "knows": ["candidates", "labels", *knows],
            "auxiliary": "same",
        },
        "facts": asdict(PROTOCOL.facts(COHORT)), "defenses": [], "modalities": ["t1"], "task": task,
        "targets": [{"token": t, "kind": "candidate", "size": SLICES} for t in cohort.patients],
    }  # fmt: skip
    (folder / "view.json").write_text(json.dumps(data))
    save_cohort(folder / "candidates", cohort)
    recorder = Recorder(folder / "messages", lambda _: (None, None))
    names = tokens or [s.patient for s in cohort.samples]
    for step, start in enumerate(range(0, len(cohort), 5)):
        recorder.record(
            Message(
                channel="output", sender="model", receiver="outsider", round=0, step=step,
                tensors={"logits": logits[start : start + 5]}, samples=tuple(names[start : start + 5]),
            )
        )  # fmt: skip
    recorder.close()
    return View(folder)


def _task_spec() -> dict[str, Any]:
    return {"target": "leakaudit.models.task:SegmentationTask", "params": PROTOCOL.task(COHORT)}


def attack(**params: Any) -> MembershipLoss:
    seat = Seat(SeatFacts(id="outsider", role="outsider"), Secret.from_seed(0))
    return MembershipLoss(MembershipLossParams.model_validate(params), seat)


def auc(evidence: Scores, members: set[str]) -> float:
    inside = [s for s, t in zip(evidence.scores, evidence.about, strict=True) if t in members]
    outside = [s for s, t in zip(evidence.scores, evidence.about, strict=True) if t not in members]
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in inside for b in outside]))


@pytest.fixture(scope="module")
def overfit() -> tuple[Cohort, torch.Tensor, set[str]]:
    """Candidates, a memorizing model's answers for them, and the patients that it was trained on."""
    cohort = candidates()
    members = {f"token{i}" for i in range(12)}
    spec = _task_spec()
    torch.manual_seed(0)
    with torch.random.fork_rng():
        task = load_task(TaskSpec(**spec))
        network = task.build()
        rows = [i for i, s in enumerate(cohort.samples) if s.patient in members]
        x, y = torch.from_numpy(cohort.images), torch.from_numpy(regions(cohort.labels))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            task.loss(network(x[rows]), y[rows]).mean().backward()
            optimizer.step()
        with torch.no_grad():
            return cohort, network(x), members


@pytest.mark.parametrize("signal", ["cross-entropy", "dice", "task"])
def test_members_of_a_memorizing_model_stand_out(signal: str, overfit: Any, tmp_path: Path) -> None:
    cohort, logits, members = overfit
    evidence = attack(signal=signal).run(write(tmp_path / "view", cohort, logits, knows=["architecture"]))
    assert evidence.about == cohort.patients
    assert auc(evidence, members) > 0.9


def test_shuffled_answers_tell_nothing(overfit: Any, tmp_path: Path) -> None:
    cohort, logits, members = overfit
    values = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(cohort.patients))
        tokens = [cohort.patients[order[i // SLICES]] for i in range(len(cohort))]
        values.append(auc(attack().run(write(tmp_path / str(seed), cohort, logits, tokens=tokens)), members))
    assert 0.4 < np.mean(values) < 0.6


def test_the_score_is_the_mean_over_a_patient_s_own_samples_whatever_the_message_boundaries(tmp_path: Path) -> None:
    cohort = candidates(4)
    logits = torch.randn(len(cohort), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    masks, brain = torch.from_numpy(regions(cohort.labels)), torch.from_numpy(cohort.brain).float().unsqueeze(1)
    losses = cross_entropy(logits, masks, brain).numpy().reshape(4, SLICES).mean(axis=1)
    evidence = attack().run(write(tmp_path / "view", cohort, logits))
    np.testing.assert_allclose(evidence.scores, -losses, rtol=1e-5)


def test_cross_entropy_is_the_mean_over_brain_voxels_and_regions() -> None:
    logits, masks, brain = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    brain[..., :2] = 1
    logits[..., 2:] = 50.0
    assert cross_entropy(logits, masks, brain).item() == pytest.approx(np.log(2), abs=1e-6)


def test_dice_leaves_out_regions_that_are_absent() -> None:
    masks, brain = torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4)
    masks[0, 0, :2] = 1
    logits = torch.where(masks > 0, 50.0, -50.0)
    logits[0, 1:] = 50.0
    torch.testing.assert_close(dice_loss(logits, masks, brain), torch.zeros(2), atol=1e-6, rtol=0)


def test_site_calibration_takes_a_site_s_shift_away(overfit: Any, tmp_path: Path) -> None:
    cohort, logits, _ = overfit
    evidence = attack(calibrate="site").run(write(tmp_path / "view", cohort, logits))
    sites = np.array([int(t.removeprefix("token")) % 2 for t in evidence.about])
    for site in (0, 1):
        assert evidence.scores[sites == site].mean() == pytest.approx(0, abs=1e-5)
        assert evidence.scores[sites == site].std() == pytest.approx(1, abs=1e-5)


def test_calibration_by_hand() -> None:
    np.testing.assert_allclose(without_site(np.array([1.0, 3.0, 7.0]), ["a", "a", "b"]), [-1, 1, 0])
    volumes = np.array([0.0, 10.0, 100.0, 1000.0])
    membership = np.array([0.1, -0.1, -0.1, 0.1])
    residual = without_volume(5 - 2 * np.log1p(volumes) + membership, volumes)
    assert abs(np.corrcoef(residual, np.log1p(volumes))[0, 1]) < 1e-6
    assert np.abs(residual).max() < 0.3
    np.testing.assert_allclose(without_volume(np.array([1.0, 3.0, 5.0]), np.full(3, 7.0)), [-2, 0, 2])


def test_calibrated_for_volume_and_site_members_still_stand_out(overfit: Any, tmp_path: Path) -> None:
    cohort, logits, members = overfit
    evidence = attack(calibrate="site+volume").run(write(tmp_path / "view", cohort, logits))
    assert auc(evidence, members) > 0.8


@pytest.mark.parametrize("params", [CentralizedParams(), SplitParams(), FederatedParams()])
def test_it_applies_to_every_protocol_that_deploys_a_model(params: Any) -> None:
    needs = MembershipLossParams().requires(params.facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.plays == ("outsider",)
    assert needs.threat.knows == ("candidates", "labels")
    assert needs.threat.passive


def test_only_the_task_s_loss_needs_the_architecture() -> None:
    facts = CentralizedParams().facts(COHORT)
    needs = MembershipLossParams(signal="task").requires(facts)
    assert isinstance(needs, Requires)
    assert "architecture" in needs.threat.knows


def test_without_outputs_it_is_not_applicable() -> None:
    facts = replace(CentralizedParams().facts(COHORT), flows=(Flow(channel="model", sender="trainer", receiver="outsider"),))
    assert isinstance(facts, ProtocolFacts)
    assert isinstance(MembershipLossParams().requires(facts), NotApplicable)


def test_the_descriptor_is_listed_without_torch() -> None:
    code = (
        "import sys; from leakaudit_membership.plugin import leakaudit_attacks as a; (i, *_) = a(); "
        "assert 'torch' not in sys.modules; print(i.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "membership-loss"
