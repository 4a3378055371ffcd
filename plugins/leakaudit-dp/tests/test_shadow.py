"""Shadow models under dp-sgd: the steps that the core takes with its recipe are those that the defense takes with Opacus."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from leakaudit_dp.accounting import noise_for
from leakaudit_dp.defense import DpSgd
from leakaudit_dp.params import DpSgdParams

from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import SegmentationTask
from leakaudit.models.stacked import PrivatePart, Stack
from leakaudit.plugins import ShadowTraining, Victim
from leakaudit.protocols import Holdings, Learner, Sampling
from leakaudit.protocols.params import CentralizedParams
from leakaudit.wire import Seat, Secret

COHORT = CohortFacts(modalities=("flair",), shape=(16, 16), members=3, auxiliary=0, sites=("a",), records=6)
VICTIM = Victim(facts=CentralizedParams().facts(COHORT), role="trainer", rate=0.25, steps=40)
UNITS = [0, 0, 1, 1, 2, 2]
BATCHES = [[0, 1, 2, 3], [], [4, 5], [0, 1, 4, 5]]


@pytest.mark.parametrize("unit", ["patient", "record"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_stacked_model_takes_the_steps_that_the_defense_takes(unit: str, optimizer: str) -> None:
    # Next to no noise: what is left are clipping, sums over units, the expected number of them, and the empty batch. Adam
    # divides by the gradient's size, so its empty batch would be a step of that noise alone; it is left out there.
    task = SegmentationTask(
        network={"channels": [4, 8]}, training={"optimizer": optimizer, "learning_rate": 0.05}, dims=2, groups=[[0]], levels=[0, 1]
    )
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 1, 16, 16, generator=draw), (torch.rand(6, 3, 16, 16, generator=draw) > 0.7).float()
    params = DpSgdParams(noise_multiplier=1e-9, clip=0.05, unit=unit, delta=0.01)  # type: ignore[arg-type]
    network = task.build()
    start = {k: v.detach().clone() for k, v in network.named_parameters()}
    seat = Seat(SeatFacts(id="trainer", role="trainer"), Secret.from_seed(0))
    sampling = Sampling(kind="poisson", unit=unit)  # type: ignore[arg-type]
    holds = Holdings(tokens=tuple("abcdef"), units=torch.tensor(UNITS), images=x, regions=y, sampling=sampling)
    learner = Learner(
        network, seat, DpSgd(params, seat), task.training, expected_units=1.5, expected_batch=3, rate=0.25, unit=unit,  # type: ignore[arg-type]
        holds=holds, steps=4,
    )  # fmt: skip
    shadow = params.shadow(VICTIM)
    assert shadow.clip is not None
    stack = Stack(
        task, task.training, [start], private=[PrivatePart(prefix="", clip=shadow.clip, noise=shadow.noise_multiplier)],
        expected_units=[1.5], noise=[torch.Generator().manual_seed(1)],
    )  # fmt: skip
    for rows in [b for b in BATCHES if b or optimizer == "sgd"]:
        index = torch.tensor(rows, dtype=torch.long)
        learner.fit(lambda net, index=index: task.loss(net(x[index]), y[index]).mean(), torch.tensor(UNITS)[index])
        stack.step(x, y, [rows], UNITS if shadow.unit == "patient" else None)
    ended = learner.state()
    for name, value in stack.states()[0].items():
        torch.testing.assert_close(value, ended[name], atol=2e-4 if optimizer == "adam" else 1e-6, rtol=1e-3)
        assert not torch.equal(value, start[name])


def test_the_recipe_has_the_victim_s_clipping_unit_and_noise() -> None:
    given = DpSgdParams(noise_multiplier=1.3, clip=0.7, unit="record").shadow(VICTIM)
    assert given == ShadowTraining(clip=0.7, noise_multiplier=1.3, unit="record")
    wanted = DpSgdParams(target_epsilon=4, delta=0.01).shadow(VICTIM)
    assert wanted.noise_multiplier == noise_for("rdp", epsilon=4, rate=0.25, steps=40, delta=0.01)


def test_planning_with_a_recipe_imports_neither_torch_nor_opacus() -> None:
    code = (
        "import sys; from leakaudit.engine.shadowing import without_recipe as w; "
        "assert w([{'name': 'dp', 'params_target': 'leakaudit_dp.params:DpSgdParams'}]) == []; "
        "assert not {'torch', 'opacus'} & set(sys.modules); print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ok"
