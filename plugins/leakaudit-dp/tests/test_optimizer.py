"""One noised step is what the formula says: clip per unit, sum, add noise, divide by the expected number of units."""

from __future__ import annotations

import logging

import pytest
import torch
from leakaudit_dp.defense import DpSgd
from leakaudit_dp.optimizer import UnitOptimizer
from leakaudit_dp.params import DpSgdParams
from opacus import GradSampleModule
from torch import Tensor, nn

from leakaudit.defenses import Local
from leakaudit.facts import SeatFacts
from leakaudit.wire import Seat, Secret

CLIP = 0.7


def seat(role: str = "trainer") -> Seat:
    return Seat(SeatFacts(id=role, role=role), Secret.from_seed(3, role))


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.GELU(), nn.Conv2d(3, 2, 3, padding=1))


class Stage:
    """A network under dp-sgd with plain SGD at learning rate 1, so that the step is the noised gradient itself."""

    def __init__(self, noise: float = 1.3, unit: str = "record", expected: float = 4.0, canaries=tuple, **fields) -> None:
        self.rows = torch.empty(0, dtype=torch.long)
        self.plain = network()
        self.guard = DpSgd(DpSgdParams(noise_multiplier=noise, clip=CLIP, unit=unit), seat())
        module = network()
        local = Local(
            module=module, optimizer=torch.optim.SGD(module.parameters(), lr=1.0), units=lambda: self.rows, unit=unit,
            expected_units=expected, expected_batch=8.0, rate=0.5, sampling="poisson", shape=(1, 16, 16), canary_rows=canaries,
            **fields,
        )  # fmt: skip
        self.local = self.guard.train(local)

    def step(self, x: Tensor, rows: list[int]) -> dict[str, Tensor]:
        """Take one step on the batch `x` whose rows belong to units `rows`; return minus the change of the weights."""
        before = {k: v.detach().clone() for k, v in self.local.module.named_parameters()}
        self.rows = torch.tensor(rows, dtype=torch.long)
        self.local.optimizer.zero_grad()
        if rows:
            loss(self.local.module(x)).mean().backward()
        self.local.optimizer.step()
        return {k.removeprefix("_module."): before[k] - v.detach() for k, v in self.local.module.named_parameters()}


def loss(out: Tensor) -> Tensor:
    return 30 * (out**2).flatten(1).mean(dim=1)


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def by_hand(x: Tensor, rows: list[int], noise: float, expected: float, canaries=()) -> dict[str, Tensor]:
    """The step from the definition: one plain backward pass per row, nothing of Opacus."""
    net = network()
    names = [name for name, _ in net.named_parameters()]
    units: dict[object, dict[str, Tensor]] = {}
    for i, unit in enumerate(rows):
        gradients = torch.autograd.grad(loss(net(x[i : i + 1])).sum(), list(net.parameters()))
        for name, g in zip(names, gradients, strict=True):
            entry = units.setdefault(unit, {})
            entry[name] = entry[name] + g if name in entry else g
    for i, canary in enumerate(canaries):
        units["canary", i] = dict(canary)
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for gradient in units.values():
        norm = torch.cat([g.flatten() for g in gradient.values()]).norm()
        for name, g in gradient.items():
            total[name] += g * min(1.0, CLIP / norm.item())
    generator = seat().rng("dp-noise")
    for name, value in total.items():
        if noise:
            value += torch.normal(0.0, noise * CLIP, size=value.shape, generator=generator)
        total[name] = value / expected
    return total


def norm_of(step: dict[str, Tensor]) -> float:
    return torch.cat([g.flatten() for g in step.values()]).norm().item()


@pytest.mark.parametrize(
    ("unit", "rows"), [("record", [0, 1, 2, 3, 4]), ("patient", [7, 2, 7, 2, 9]), ("patient", [1, 1, 1, 1, 1])]
)
def test_the_step_is_what_the_definition_gives(unit: str, rows: list[int]) -> None:
    stage = Stage(unit=unit)
    expected = by_hand(images(5), rows, noise=1.3, expected=4.0)
    for name, change in stage.step(images(5), rows).items():
        torch.testing.assert_close(change, expected[name], atol=2e-5, rtol=1e-4)


def bare(unit: str = "record", expected: float = 1.0) -> Stage:
    """Without noise, as no recipe can ask for it."""
    stage = Stage(noise=1.0, unit=unit, expected=expected)
    stage.local.optimizer.noise_multiplier = 0.0
    return stage


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_one_unit_more_moves_the_sum_by_at_most_the_clip_norm(unit: str) -> None:
    """Re:cord-play: neighboring batches, same randomness, sensitivity as declared (arXiv 2602.17454)."""
    x = torch.cat([images(4), 50 * images(4, seed=1)])  # the last four rows are outliers
    rows = list(range(8)) if unit == "record" else [0, 1, 0, 1, 2, 2, 2, 2]
    with_all = bare(unit).step(x, rows)
    gone = rows[-1]
    keep = [i for i, r in enumerate(rows) if r != gone]
    without = bare(unit).step(x[keep], [rows[i] for i in keep])
    moved = norm_of({k: with_all[k] - without[k] for k in with_all})
    assert moved == pytest.approx(CLIP, rel=1e-3)  # the outlier is clipped to the norm, and nothing else changes
    assert norm_of(with_all) <= CLIP * len(set(rows)) + 1e-5


def test_the_sensitivity_test_would_see_a_failure_to_clip() -> None:
    """What ghost clipping does in split learning: gradients pass whole and no error is raised."""
    x = torch.cat([images(4), 50 * images(4, seed=1)])
    stage = bare()
    stage.local.optimizer.max_grad_norm = 1e9
    other = bare()
    other.local.optimizer.max_grad_norm = 1e9
    with_all, without = stage.step(x, list(range(8))), other.step(x[:7], list(range(7)))
    assert norm_of({k: with_all[k] - without[k] for k in with_all}) > 100 * CLIP


@pytest.mark.parametrize("rows", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_the_sum_stays_below_the_clip_norm_times_the_units(rows: list[int]) -> None:
    assert norm_of(bare("patient").step(100 * images(4), rows)) <= CLIP * len(set(rows)) + 1e-5


def test_an_empty_batch_is_noise_alone() -> None:
    stage = Stage()
    first = stage.step(images(0), [])
    for name, expected in by_hand(images(0), [], noise=1.3, expected=4.0).items():
        torch.testing.assert_close(first[name], expected)
    assert stage.local.optimizer.steps == 1
    stage.step(images(3), [0, 1, 2])
    stage.step(images(0), [])
    assert stage.local.optimizer.steps == 3
    assert stage.guard.guarantee().mechanism.endswith("3 steps")


def test_canaries_are_clipped_with_the_rest_also_in_an_empty_batch() -> None:
    draw = torch.Generator().manual_seed(9)
    whole = {name: 10 * torch.randn(p.shape, generator=draw) for name, p in network().named_parameters()}
    part = {"0.bias": torch.tensor([0.1, 0.0, 0.2])}  # below the norm, other parameters zero
    for x, rows in ((images(3), [4, 5, 4]), (images(0), [])):
        stage = Stage(unit="patient", canaries=lambda: [whole, part])
        expected = by_hand(x, rows, noise=1.3, expected=4.0, canaries=[whole, part])
        for name, change in stage.step(x, rows).items():
            torch.testing.assert_close(change, expected[name], atol=2e-5, rtol=1e-4)


def test_noise_comes_from_the_seat_and_not_from_the_global_seed() -> None:
    changes = []
    for seed in (1, 2):
        stage = Stage()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        changes.append(stage.step(images(3), [0, 1, 2]))
        assert torch.equal(state, torch.get_rng_state())
    for name in changes[0]:
        assert torch.equal(changes[0][name], changes[1][name])
    second = stage.step(images(0), [])
    assert not torch.equal(second["0.weight"], Stage().step(images(0), [])["0.weight"])  # fresh noise at every step


def test_the_noise_has_the_stated_spread() -> None:
    stage = Stage(noise=2.0, expected=5.0)
    draws = torch.cat([torch.cat([g.flatten() for g in stage.step(images(0), []).values()]) for _ in range(200)])
    assert draws.std().item() == pytest.approx(2.0 * CLIP / 5.0, rel=0.02)


def test_a_batch_whose_gradient_never_came_does_not_spoil_the_next() -> None:
    """A server that withholds a gradient leaves a forward pass without its backward pass."""
    stage = Stage()
    stage.rows = torch.arange(2)
    stage.local.optimizer.zero_grad()
    stage.local.module(images(2, seed=8))
    expected = by_hand(images(5), list(range(5)), noise=1.3, expected=4.0)
    for name, change in stage.step(images(5), list(range(5))).items():
        torch.testing.assert_close(change, expected[name], atol=2e-5, rtol=1e-4)


def test_a_step_without_its_backward_pass_is_an_error_unless_the_batch_is_empty() -> None:
    stage = Stage()
    stage.rows = torch.arange(3)
    stage.local.optimizer.zero_grad()
    with pytest.raises(RuntimeError, match=r"'0.weight' for a batch of 3 rows"):
        stage.local.optimizer.step()
    assert stage.local.optimizer.steps == 0


def test_gradients_of_another_batch_are_an_error() -> None:
    stage = Stage(unit="patient")
    stage.rows = torch.tensor([0, 0])
    stage.local.optimizer.zero_grad()
    loss(stage.local.module(images(3))).mean().backward()
    with pytest.raises(RuntimeError, match=r"3 per-sample gradients .* batch of 2 rows"):
        stage.local.optimizer.step()


def test_the_same_gradient_cannot_be_used_twice() -> None:
    stage = Stage()
    stage.step(images(3), [0, 1, 2])
    with pytest.raises(ValueError, match="zero_grad"):
        stage.local.optimizer.step()


def test_a_unit_without_a_finite_gradient_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    x = images(4)
    x[2] = float("nan")
    with caplog.at_level(logging.WARNING):
        step = bare().step(x, [0, 1, 2, 3])
    others = bare().step(x[[0, 1, 3]], [0, 1, 2])
    for name in step:
        torch.testing.assert_close(step[name], others[name], atol=1e-6, rtol=1e-5)
    assert "1 of 4 units" in caplog.text


def test_a_loss_over_several_outputs_is_clipped_as_one() -> None:
    """Split clients get one gradient per level and run one backward pass over all of them."""
    torch.manual_seed(0)
    deep = nn.ModuleList([nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2, padding=1)])
    x, n = images(6), 6
    levels = [torch.randn(n, 3, 16, 16), torch.randn(n, 4, 8, 8)]

    def forward(net: nn.ModuleList, x: Tensor) -> list[Tensor]:
        first = net[0](x)
        return [first, net[1](first)]

    expected = {name: torch.zeros_like(p) for name, p in deep.named_parameters()}
    for i in range(n):  # the gradient of row i's own loss; the server's batch mean divides it by n
        gradients = torch.autograd.grad(forward(deep, x[i : i + 1]), list(deep.parameters()), [g[i : i + 1] for g in levels])
        size = torch.cat([g.flatten() for g in gradients]).norm()
        for value, g in zip(expected.values(), gradients, strict=True):
            value += g * min(1.0, CLIP / size.item())
    hooked = GradSampleModule(deep, loss_reduction="mean")
    local = Local(
        module=hooked, optimizer=torch.optim.SGD(deep.parameters(), lr=1.0), units=lambda: torch.arange(n), expected_units=1.0,
        expected_batch=1.0, rate=0.5,
    )  # fmt: skip
    optimizer = UnitOptimizer(
        local.optimizer, hooked, local, noise=0.0, clip=CLIP, generator=torch.Generator(), log=logging.getLogger("test")
    )
    optimizer.zero_grad()
    before = {name: p.detach().clone() for name, p in deep.named_parameters()}
    torch.autograd.backward(forward(deep, x), [g / n for g in levels])
    optimizer.step()
    for name, p in deep.named_parameters():
        torch.testing.assert_close(before[name] - p.detach(), expected[name], atol=2e-5, rtol=1e-4)
