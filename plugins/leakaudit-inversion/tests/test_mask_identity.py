"""The identity behind `mask-inversion`: masks from gradients, exact for the loss that the task really uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from leakaudit_inversion.mask_identity import Head, logit_gradient, solved_masks
from leakaudit_inversion.mask_scores import direction_masks, gradient_norm, norm_masks
from scipy import stats
from torch import Tensor

from leakaudit.cohorts import regions
from leakaudit.models import SegmentationTask, load_task
from leakaudit.models.task import TaskSpec


def task(dice_weight: float) -> SegmentationTask:
    params = {
        "network": {"channels": [4, 8]}, "training": {"dice_weight": dice_weight}, "dims": 2, "groups": [[0]], "levels": [0],
    }  # fmt: skip
    made = load_task(TaskSpec(target="leakaudit.models.task:SegmentationTask", params=params))
    assert isinstance(made, SegmentationTask)
    return made


def truth(samples: int, side: int = 24) -> Tensor:
    """Nested tumors of several sizes, and a sample without any."""
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    labels = np.zeros((samples, side, side), np.uint8)
    for i in range(samples - 1):
        far = np.hypot(*(place - np.array([8 + i, 12])[:, None, None]))
        labels[i] = np.select([far < 1.5, far < 3, far < 4 + i], [1, 3, 2], 0)
    return torch.from_numpy(regions(labels))


def sent_back(masks: Tensor, dice_weight: float, channels: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor, Head]:
    """What the label holder computes: the gradient of the batch's loss by the features, and the features and the head."""
    draw = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(3, channels, generator=draw), torch.randn(3, generator=draw)
    features = (spread * torch.randn(len(masks), channels, *masks.shape[2:], generator=draw)).requires_grad_()
    logits = torch.einsum("rc,nc...->nr...", weight, features) + bias[:, None, None]
    task(dice_weight).loss(logits, masks).mean().backward()
    assert features.grad is not None
    return features.grad, features.detach(), Head(weight=weight, bias=bias, dice_weight=dice_weight)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    ranks = stats.rankdata(scores)
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def test_reference_numbers_of_softmax_cross_entropy() -> None:
    """The numeric check of the segmentation identities, G = W^T (p - y) / N with K = 4, C = 16, N = 5000, seed 0.

    Norms of a random network tell nothing (AUC .476), those of one that is sure of background everything (1.000).
    """
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((4, 16)), 0.1 * rng.standard_normal(4)
    features = rng.standard_normal((16, 5000))
    y = rng.choice(4, 5000, p=[0.9, 0.04, 0.04, 0.02])
    once = np.eye(4)[y].T
    sure = 4.0 * (np.arange(4) == 0)[:, None] + 0.5 * rng.standard_normal((4, 5000))
    found = []
    for logits in (weight @ features + bias[:, None], sure):
        p = np.exp(logits) / np.exp(logits).sum(axis=0)
        gradient = torch.from_numpy(weight.T @ (p - once) / 5000)[None]
        by_logits = logit_gradient(gradient, torch.from_numpy(weight))[0]
        assert np.array_equal(by_logits.argmin(dim=0).numpy(), y)
        assert torch.equal(by_logits < 0, torch.from_numpy(once) > 0)
        # The gradient of a bias is the sum over voxels: with the mean prediction it gives each class's share of the volume.
        shares = p.mean(axis=1) - by_logits.sum(dim=1).numpy()
        assert np.round(shares, 4).tolist() == [0.9002, 0.0382, 0.0382, 0.0234]
        found.append(auc(gradient_norm(gradient)[0].numpy(), y > 0))
    assert [round(value, 3) for value in found] == [0.476, 1.0]


@pytest.mark.parametrize("dice_weight", [0.0, 0.5, 1.0])
def test_the_sign_is_the_mask_whatever_dice_weighs(dice_weight: float) -> None:
    masks = truth(5)
    gradient, _, head = sent_back(masks, dice_weight, channels=8, spread=0.5)
    assert torch.equal(logit_gradient(gradient, head.weight) < 0, masks > 0)


@pytest.mark.parametrize("dice_weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("channels", [3, 16])
def test_masks_are_recovered_exactly_from_some_rows_of_a_batch(dice_weight: float, channels: int) -> None:
    masks = truth(5)
    gradient, features, head = sent_back(masks, dice_weight, channels, spread=0.5)
    rows = [0, 3, 4]  # of attacked patients: how large the batch was cannot be seen
    assert torch.equal(solved_masks(gradient[rows], features[rows], head), masks[rows].double())


def test_saturated_voxels_and_half_precision_are_recovered_where_signs_are_lost() -> None:
    masks = truth(4)
    gradient, features, head = sent_back(masks, 0.5, channels=4, spread=6.0)
    rounded = (gradient.half() * 1.0).float()  # entries below 6e-8 are gone
    signs = logit_gradient(rounded, head.weight) < 0
    assert (gradient == 0).sum() < (rounded == 0).sum()
    assert (signs != (masks > 0)).float().mean() > 1e-3
    assert (solved_masks(rounded, features, head) == masks).float().mean() == 1.0


def test_an_inexact_head_misleads_signs_more_than_the_nearest_label() -> None:
    masks = truth(4)
    gradient, features, head = sent_back(masks, 1.0, channels=8, spread=0.5)
    draw = torch.Generator().manual_seed(5)
    weight = head.weight + 0.05 * torch.randn(head.weight.shape, generator=draw)
    near = Head(weight=weight, bias=head.bias, dice_weight=1.0)
    by_sign = ((logit_gradient(gradient, weight) < 0) != (masks > 0)).float().mean()
    solved = (solved_masks(gradient, features, near) != masks).float().mean()
    assert by_sign > 1e-3
    assert solved < by_sign / 10


def test_norms_leak_more_the_surer_the_network_is_of_background() -> None:
    masks = truth(3, 32)[:2]
    draw = torch.Generator().manual_seed(1)
    weight, noise = torch.randn(3, 8, generator=draw), torch.randn(2, 3, 32, 32, generator=draw)
    found = []
    for confidence in (0.0, 1.0, 2.0, 4.0):
        logits = (0.5 * noise - confidence).requires_grad_()
        task(0.0).loss(logits, masks).mean().backward()
        assert logits.grad is not None
        gradient = torch.einsum("rc,nr...->nc...", weight, logits.grad)
        found.append(auc(gradient_norm(gradient).numpy().ravel(), masks[:, 0].numpy().ravel() > 0))
    assert found == sorted(found)
    assert found[0] < 0.9
    assert found[-1] == 1.0


def test_dice_makes_norms_leak_before_anything_is_learned() -> None:
    """It pulls at tumor by 1 / D and at background by I / D^2 p, which is little as long as they hardly overlap."""
    masks = truth(3, 32)[:2]
    noise = 0.5 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for dice_weight in (0.0, 0.5):
        logits = noise.clone().requires_grad_()
        task(dice_weight).loss(logits, masks).mean().backward()
        assert logits.grad is not None
        found.append(auc(gradient_norm(logits.grad).numpy().ravel(), masks[:, 0].numpy().ravel() > 0))
    assert found[1] > found[0] + 0.3


def test_both_scores_find_the_whole_tumor_of_a_network_that_expects_none() -> None:
    masks = truth(4, 32)[:3]
    draw = torch.Generator().manual_seed(2)
    weight = torch.randn(3, 8, generator=draw)
    logits = (torch.randn(3, 3, 32, 32, generator=draw) * 0.5 - 3).requires_grad_()
    task(0.5).loss(logits, masks).mean().backward()
    assert logits.grad is not None
    gradient = torch.einsum("rc,nr...->nc...", weight, logits.grad)
    shares = masks.flatten(2).mean(dim=(0, 2)).tolist()
    for found in (norm_masks(gradient, shares, 3), norm_masks(gradient, None, 3), direction_masks(gradient, 3, 3)):
        assert 2 * (found * masks)[:, 0].sum() / (found + masks)[:, 0].sum() > 0.95
        assert torch.all(found[:, 1] <= found[:, 0])
        assert torch.all(found[:, 2] <= found[:, 1])


def test_vanished_gradients_and_voxels_outside_are_no_tumor() -> None:
    gradient = torch.zeros(2, 4, 8, 8)
    gradient[0, :, 2:4, 2:4] = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0))
    within = torch.ones(2, 8, 8, dtype=torch.bool)
    within[:, :3] = False
    whole = norm_masks(gradient, [0.5, 0.25, 0.1], 3, within)[:, 0]
    assert whole.sum() == whole[0, 3, 2:4].sum() == 2
    assert norm_masks(gradient, None, 3)[0, 0, 2:4, 2:4].sum() == norm_masks(gradient, None, 3)[:, 0].sum() > 0
    assert direction_masks(gradient, 2, 3)[1].sum() == 0
    assert norm_masks(torch.zeros(1, 4, 8, 8), [0.5, 0.2, 0.1], 3).sum() == 0
