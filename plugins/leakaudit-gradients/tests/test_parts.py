"""Distances, priors, masks, and what of a network decides."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from leakaudit_gradients.distances import distance
from leakaudit_gradients.localrun import LocalRun
from leakaudit_gradients.merging import merged
from leakaudit_gradients.method import PRESETS, Objective
from leakaudit_gradients.network import choice, choice_for, kinks, walls
from leakaudit_gradients.params import GradientMatchingParams, UpdateStatisticsParams
from leakaudit_gradients.priors import invariants, span_of, total_variation
from leakaudit_gradients.softmasks import logits_of, soft
from torch import nn

from leakaudit.facts import CohortFacts
from leakaudit.protocols.params import FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires

UPDATE = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([100.0]), "dead": torch.zeros(3)}
FACTS = CohortFacts(modalities=("t1", "t2"), shape=(16, 16), members=4, auxiliary=4, sites=("a", "b"), records=4)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_an_update_has_no_distance_to_itself_and_some_to_others(objective: Objective) -> None:
    other = {"a": torch.tensor([[2.0, 1.0]]), "b": torch.tensor([-50.0]), "dead": torch.ones(3)}
    assert float(distance(UPDATE, UPDATE, objective)) == pytest.approx(0, abs=1e-6)
    assert float(distance(other, UPDATE, objective)) > 0.1


def test_relative_distances_count_every_tensor_alike_and_leave_dead_ones_out() -> None:
    off = {"a": 2 * UPDATE["a"], "b": UPDATE["b"], "dead": torch.ones(3)}
    assert float(distance(off, UPDATE, "relative")) == pytest.approx(0.5)
    assert float(distance(off, UPDATE, "layer-cosine")) == pytest.approx(0, abs=1e-6)
    assert float(distance(off, UPDATE, "euclidean")) == pytest.approx(8 / 10005)
    turned = {"a": torch.tensor([[-2.0, 1.0]]), "b": UPDATE["b"], "dead": torch.zeros(3)}
    assert float(distance(turned, UPDATE, "layer-cosine")) == pytest.approx(0.5)
    assert float(distance(turned, UPDATE, "cosine")) == pytest.approx(5 / 10005, rel=1e-3)


def test_flat_images_vary_least() -> None:
    flat, step = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    step[..., 4:, :] = 1
    assert float(total_variation(flat)) == pytest.approx(1e-3, rel=1e-3)
    assert float(total_variation(step)) == pytest.approx(8 / 64, rel=0.02)


def test_images_of_the_span_cost_less_than_others(tools: Any) -> None:
    images, _ = tools.tensors(tools.brains(12))
    span = span_of(images[:10])
    assert float(span(images[:1])) < float(span(images[10:11])) < float(span(5 * torch.randn(images[:1].shape)))


def test_what_passes_have_in_common_does_not_depend_on_the_order() -> None:
    samples = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert float(invariants(torch.cat([samples, samples[[2, 0, 1]]]), 2)) == pytest.approx(0, abs=1e-12)
    assert float(invariants(torch.cat([samples, samples[[0, 0, 1]]]), 2)) > 1e-2


def test_passes_are_merged_sample_by_sample() -> None:
    samples = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.cat([samples + 0.1, (samples - 0.1)[[2, 0, 1]]])
    whole, masks = merged(images, images, LocalRun.of(3, 1, 2))
    assert torch.allclose(whole, samples, atol=1e-6)
    assert torch.equal(whole, masks)
    part, _ = merged(images, images, LocalRun.of(3, 1, 1, 4))
    assert torch.allclose(part[2], samples[2], atol=1e-6)
    assert torch.allclose(part[:2], samples[:2] + 0.1, atol=1e-6)


def test_soft_masks_are_nested_and_come_back() -> None:
    masks = torch.tensor([0.7, 0.4, 0.1]).reshape(1, 3, 1, 1)
    assert torch.allclose(soft(logits_of(masks)), masks, atol=0.02)
    free = soft(torch.randn(2, 3, 4, 4))
    assert (free[:, 1:] <= free[:, :-1]).all()


def test_the_network_decides_what_auto_means() -> None:
    smooth = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.GroupNorm(2, 4), nn.Conv2d(4, 1, 1))
    assert (kinks(smooth), walls(smooth)) == ((), ())
    assert choice_for(smooth) == choice(group=True)
    assert choice_for(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU())) == choice()
    for layer in (nn.InstanceNorm2d(4), nn.MaxPool2d(2)):
        rough = nn.Sequential(nn.Conv2d(1, 4, 3), layer)
        assert (len(kinks(rough)), len(walls(rough))) == (0, 1)
        assert choice_for(rough) == choice(walled=walls(rough))
    for layer in (nn.LeakyReLU(), nn.PReLU()):
        rough = nn.Sequential(nn.Conv2d(1, 4, 3), layer)
        assert (len(kinks(rough)), len(walls(rough))) == (1, 0)
        assert choice_for(rough) == choice(kinks(rough))
    mixed = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    assert choice_for(mixed) == choice(kinks(mixed), walls(mixed), batch=True)


def test_auto_takes_what_the_network_allows_and_says_why() -> None:
    plain, group = choice(), choice(group=True)
    assert (plain.preset, plain.longer, plain.hopeful) == ("smooth-unet", 1, True)
    assert (group.preset, group.hopeful) == ("smooth-unet", True)
    assert group.longer > 1
    assert GradientMatchingParams().method("smooth-unet", group.longer).iterations == 3 * PRESETS["smooth-unet"].iterations
    assert GradientMatchingParams(iterations=7).method("smooth-unet", group.longer).iterations == 7
    kinked = choice(("LeakyReLU activations",))
    assert (kinked.preset, kinked.longer, kinked.hopeful) == ("kinked-unet", 1, True)
    assert choice(("LeakyReLU activations",), group=True).longer > 1
    assert PRESETS["kinked-unet"].optimizer == "adam"
    rough = choice(("LeakyReLU activations",), ("InstanceNorm2d",), group=True)
    assert (rough.preset, rough.hopeful) == ("inverting-gradients", False)
    assert "LeakyReLU activations and InstanceNorm2d" in rough.reason
    assert "gradient-inverter" in rough.reason
    batch = choice((), ("BatchNorm2d",), batch=True)
    assert (batch.preset, batch.hopeful) == ("batch-statistics", False)
    assert len({c.reason for c in (plain, group, kinked, rough, batch)}) == 5


def test_presets_are_changed_by_what_is_given() -> None:
    method = GradientMatchingParams(iterations=7, tv=0.0, objective="cosine").method("smooth-unet")
    assert (method.iterations, method.tv, method.objective) == (7, 0.0, "cosine")
    assert method.optimizer == PRESETS["smooth-unet"].optimizer
    assert GradientMatchingParams().method("dlg").objective == "euclidean"


@pytest.mark.parametrize("params", [GradientMatchingParams(), UpdateStatisticsParams()], ids=lambda p: type(p).__name__)
def test_the_aggregator_of_a_federation_is_asked_for_and_nothing_else(params: Any) -> None:
    asked = params.requires(FederatedParams(rounds=2).facts(FACTS))
    assert isinstance(asked, Requires)
    assert asked.threat.plays == ("aggregator",)
    assert not asked.threat.alters
    assert {tap.channel for tap in asked.taps} == {"update", "model"}
    assert isinstance(params.requires(SplitParams(rounds=2).facts(FACTS)), NotApplicable)
    late = type(params)(rounds=(5,)).requires(FederatedParams(rounds=2).facts(FACTS))
    assert isinstance(late, NotApplicable)
    assert "0 to 1" in late.reason


@pytest.mark.parametrize(
    ("length", "applies"),
    [({}, True), ({"local_steps": 1}, True), ({"local_steps": 2}, False), ({"local_epochs": 2}, False)],
    ids=["one epoch", "one step", "two steps", "two epochs"],
)
def test_batch_normalization_is_attacked_after_one_local_step_only(length: dict[str, int], applies: bool) -> None:
    facts = FederatedParams.model_validate({"rounds": 2, "network": {"normalization": "batch"}, **length}).facts(FACTS)
    asked = GradientMatchingParams().requires(facts)
    assert isinstance(asked, Requires) == applies
    if isinstance(asked, NotApplicable):
        assert f"2 local {'epochs' if 'local_epochs' in length else 'steps'}" in asked.reason
        assert "weighted mean over batches" in asked.reason
    assert isinstance(UpdateStatisticsParams().requires(facts), NotApplicable)
