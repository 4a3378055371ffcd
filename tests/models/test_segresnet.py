"""The network of the published brain tumor federation: its size, its choice in a recipe, and training with its dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import SegResNet
from pydantic import ValidationError
from torch import Tensor
from torch.func import vmap

from leakaudit.defenses import Chain
from leakaudit.facts import CohortFacts
from leakaudit.models import NetworkParams, SegmentationTask, SegResNetParams, Task, TrainingParams, load_task, optimizer_for
from leakaudit.models.params import network_params
from leakaudit.models.segresnet import Doubling, ResidualNet
from leakaudit.models.stacked import PrivatePart, Stack
from leakaudit.protocols import Holdings, Schedule
from leakaudit.protocols.centralized import Centralized
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.wire import Seat, Secret, Wire

SMALL: dict[str, Any] = {"architecture": "segresnet", "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
MODALITIES = ("flair", "t1", "t1ce", "t2")
SIDE = 8


def cohort(shape: tuple[int, ...] = (SIDE,) * 3) -> CohortFacts:
    return CohortFacts(modalities=MODALITIES, shape=shape, members=4, auxiliary=0, sites=("site-0", "site-1"), records=4)


def task_of(dims: int = 2, dropout: float = 0.0, **training: Any) -> SegmentationTask:
    return SegmentationTask(network=SMALL | {"dropout": dropout}, training=training, dims=dims, groups=[[0, 1]], levels=[])


def data(n: int = 4, dims: int = 2, modalities: int = 2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(n, modalities, *(SIDE,) * dims, generator=draw)
    return x, (torch.rand(n, 3, *(SIDE,) * dims, generator=draw) > 0.7).float()


def initial(task: Task, seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {k: v.detach().clone() for k, v in task.build().named_parameters()}


def test_the_published_network_has_4_702_227_parameters() -> None:
    params = FederatedParams(network={"architecture": "segresnet"})  # the defaults are the published settings
    network = load_task(Federated(params, cohort()).task()).build()
    assert sum(p.numel() for p in network.parameters()) == 4_702_227
    assert isinstance(params.network, SegResNetParams)
    assert params.network.dropout == 0.2


@pytest.mark.parametrize(("dims", "mode"), [(2, "bilinear"), (3, "trilinear")])
def test_doubling_is_linear_interpolation(dims: int, mode: str) -> None:
    x = torch.randn(2, 3, *(4, 1, 5)[:dims], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Doubling()(x), F.interpolate(x, scale_factor=2, mode=mode, align_corners=False))


@pytest.mark.parametrize("dims", [2, 3])
def test_it_computes_what_monai_s_own_computes(dims: int) -> None:
    ours = ResidualNet(dims, network_params(SMALL), [0, 1]).eval()
    theirs = SegResNet(dims, 8, 2, 3, dropout_prob=0.2, blocks_down=(1, 1), blocks_up=(1,)).eval()
    theirs.load_state_dict(ours.state_dict())
    x, _ = data(dims=dims)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_network_takes_the_modalities_it_is_given() -> None:
    network = ResidualNet(2, network_params(SMALL), [2, 0]).eval()
    x = torch.randn(1, 4, SIDE, SIDE)
    changed = x.clone()
    changed[:, [1, 3]] = 0
    assert torch.equal(network(x), network(changed))
    changed[:, 2] = 0
    assert not torch.equal(network(x), network(changed))


def test_a_network_without_an_architecture_is_a_u_net_with_the_key_it_always_had() -> None:
    old = {"channels": [4, 8], "normalization": "none", "activation": "gelu", "convolutions": 1, "upsample": "transposed"}
    found = network_params(old)
    assert isinstance(found, NetworkParams)
    assert found.key() == old == network_params({**old, "architecture": "unet"}).key()
    training = {"optimizer": "sgd", "learning_rate": 0.1, "decay": "none", "momentum": 0.5, "batch_size": 1, "dice_weight": 1.0}
    assert TrainingParams(**training).key() == training
    key = FederatedParams(network=old, training=training).key()
    assert (key["network"], key["training"]) == (old, training)
    assert FederatedParams(training={"weight_decay": 0.1}).key()["training"]["weight_decay"] == 0.1
    assert "architecture" not in CentralizedParams(network=old).facts(cohort()).extra


@pytest.mark.parametrize(
    ("cls", "fields", "said"),
    [
        (FederatedParams, {"network": {"architecture": "segrsnet"}}, "Did you mean 'segresnet'"),
        (FederatedParams, {"network": {"init_filters": 8}}, "init_filters is for a SegResNet: add architecture: segresnet"),
        (FederatedParams, {"network": SMALL | {"channels": [4, 8]}}, "Extra inputs are not permitted"),
        (FederatedParams, {"network": SMALL | {"blocks_up": [1, 1]}}, "blocks_up needs 1 numbers"),
        (FederatedParams, {"network": SMALL | {"init_filters": 12}}, "multiple of 8"),
        (FederatedParams, {"network": SMALL, "cut": 0}, "cut and skips are for the U-Net"),
        (CentralizedParams, {"network": SMALL, "clients": [["t1"], ["t2"]]}, "takes all modalities together"),
        (SplitParams, {"network": SMALL}, "a segresnet cannot be cut: use architecture: unet"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(cls: type[FederatedParams], fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        cls(**fields)


@pytest.mark.parametrize("cls", [FederatedParams, CentralizedParams])
def test_facts_say_what_plugins_decide_on(cls: type[FederatedParams]) -> None:
    facts = cls(network={"architecture": "segresnet"}).facts(cohort())
    assert (facts.normalization, facts.levels, facts.extra["architecture"]) == ("group", (), "segresnet")
    with pytest.raises(ValueError, match="do not divide by 8, which 4 levels need"):
        cls(network={"architecture": "segresnet"}).facts(cohort((12, 16, 16)))


def train(protocol: Any) -> dict[str, Any]:
    """Train on four tiny volumes, two at each site, and return the parties."""
    x, y = data(dims=3, modalities=4)
    tokens, units = tuple("abcd"), torch.arange(4)
    task, secret = load_task(protocol.task()), Secret.from_seed(7)
    parties = {}
    for facts in protocol.facts.seats:
        rows = units if facts.site is None else units[int(facts.site[-1]) :: 2]
        holds = Holdings(tokens=tuple(tokens[i] for i in rows), units=units[rows], images=x[rows], regions=y[rows])
        seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"))
        parties[facts.id] = protocol.party(seat, task, Chain([], seat), holds)
    wire = Wire(parties, secret.branch("wire"))
    protocol.run(wire, Schedule(tokens, units.tolist(), protocol.params.rounds, 1, holds.sampling, secret.branch("schedule")))
    return parties


@pytest.mark.parametrize(("made", "cls", "seat"), [
    (Federated, FederatedParams, "aggregator"), (Centralized, CentralizedParams, "trainer"),
])  # fmt: skip
def test_one_round_on_tiny_volumes_is_the_same_twice_in_spite_of_dropout(made: Any, cls: Any, seat: str) -> None:
    params = cls(
        network=SMALL | {"dropout": 0.5}, rounds=1,
        training={"learning_rate": 1e-3, "weight_decay": 1e-5, "batch_size": 1, "dice_weight": 1.0},
    )  # fmt: skip
    protocol = made(params, cohort())
    first, second = (train(protocol)[seat].state() for _ in range(2))
    start = initial(load_task(protocol.task()))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.isfinite(v).all() for v in first.values())
    assert first.keys() == start.keys()
    kept = made(params.model_copy(update={"network": network_params(SMALL | {"dropout": 0.0})}), cohort())
    other = train(kept)[seat].state()
    assert any(not torch.equal(first[k], other[k]) for k in first), "dropout changed nothing in training"
    predictor = protocol.predictor({seat: first}, load_task(protocol.task()), {})
    x, _ = data(dims=3, modalities=4)
    assert torch.equal(predictor(x), predictor(x)), "dropout is on in the deployed model"


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_local_run_is_the_optimizer_s_with_weight_decay_and_without_dropout(optimizer: str) -> None:
    task, (x, y) = task_of(dropout=0.5, optimizer=optimizer, learning_rate=1e-3, weight_decay=0.1), data()
    start, order = initial(task), [torch.tensor([0, 1]), torch.tensor([2, 3])]
    after = task.local(start, x, y, order)
    network = task.build().eval()
    network.load_state_dict(start)
    steps = optimizer_for(task.training, list(network.parameters()))
    for rows in order:
        steps.zero_grad()
        task.loss(network(x[rows]), y[rows]).mean().backward()
        steps.step()
    for name, value in network.named_parameters():
        torch.testing.assert_close(after[name], value.detach(), atol=1e-5, rtol=1e-3)
    many = vmap(lambda images: task.local(start, images, y, order))(torch.stack([x, x.flip(-1)]))
    torch.testing.assert_close(many["convInit.conv.weight"][0], after["convInit.conv.weight"], atol=1e-5, rtol=1e-3)


def test_shadow_models_are_trained_in_stacks_with_weight_decay() -> None:
    task, (x, y) = task_of(learning_rate=1e-3, weight_decay=0.1), data()
    starts, batches = [initial(task, seed) for seed in range(2)], [[[0, 1], [2]], [[3, 2], [0]]]
    stack = Stack(task, task.training, starts)
    for rows in batches:
        stack.step(x, y, rows)
    for m, state in enumerate(stack.states()):
        alone = task.local(starts[m], x, y, [torch.tensor(rows[m]) for rows in batches])
        for name in state:
            torch.testing.assert_close(state[name], alone[name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize(("dims", "models", "private"), [(2, 1, False), (2, 2, True), (3, 2, False), (3, 1, True)])
def test_shadow_models_drop_out_too(dims: int, models: int, private: bool) -> None:
    task, (x, y) = task_of(dims, dropout=0.5, learning_rate=1e-3), data(dims=dims)
    noise = [torch.Generator().manual_seed(m) for m in range(models)]
    parts = [PrivatePart(prefix="", clip=1.0, noise=0.0)] if private else []

    def trained(seed: int) -> dict[str, Tensor]:
        stack = Stack(task, task.training, [initial(task)] * models, private=parts, expected_units=[2.0] * models, noise=noise)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            stack.step(x, y, [[0, 1]] * models)
        return stack.states()[-1]

    first, second, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
