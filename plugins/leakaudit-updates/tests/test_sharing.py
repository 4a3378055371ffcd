"""Pruning, percentiles and selection send exactly the entries that they promise."""

from __future__ import annotations

import pytest
import torch
from leakaudit_updates.params import PercentileSharingParams, SelectiveSharingParams, UpdatePruningParams
from leakaudit_updates.sharing import PercentileSharing, SelectiveSharing, UpdatePruning
from torch import nn

from leakaudit.errors import UserError


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SMALL = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])


def test_pruning_takes_a_quantile_of_each_tensor(seat, update) -> None:
    given = update(small=SMALL, large=100 * SMALL.reshape(5, 1), scalar=torch.tensor(7.0))
    sent = UpdatePruning(UpdatePruningParams(rate=0.5), seat()).outgoing(given).tensors
    assert sent["small"].tolist() == [0.0, 0.0, 3.0, -4.0, 5.0]
    assert sent["large"].flatten().tolist() == [0.0, 0.0, 300.0, -400.0, 500.0]
    assert sent["scalar"].item() == 7.0


def test_a_percentile_is_taken_over_the_whole_update_before_clipping(seat, update) -> None:
    given = update(small=SMALL, large=10 * SMALL)
    params = PercentileSharingParams(percentile=50, gamma=10.0)  # ten magnitudes 1..5, 10..50: the median is 7.5
    sent = PercentileSharing(params, seat()).outgoing(given).tensors
    assert sent["small"].tolist() == [0.0] * 5
    assert sent["large"].tolist() == [10.0, -10.0, 10.0, -10.0, 10.0]


def test_gamma_bounds_the_change_of_one_step(seat, update) -> None:
    params = PercentileSharingParams(percentile=0, gamma=0.5, local_steps=6)
    assert PercentileSharing(params, seat()).outgoing(update(a=SMALL)).tensors["a"].tolist() == [1.0, -2.0, 3.0, -3.0, 3.0]


def test_the_largest_entries_are_taken_over_the_whole_update(seat, update) -> None:
    given = update(small=SMALL, large=10 * SMALL.reshape(1, 5))
    sent = SelectiveSharing(SelectiveSharingParams(fraction=0.31), seat()).outgoing(given).tensors  # 3.1 of 10, rounded up
    assert sent["small"].tolist() == [0.0] * 5
    assert sent["large"].tolist() == [[0.0, -20.0, 30.0, -40.0, 50.0]]


def test_ties_do_not_send_more_than_the_fraction(seat, update) -> None:
    sent = SelectiveSharing(SelectiveSharingParams(fraction=0.25), seat()).outgoing(update(a=torch.ones(8)))
    assert sent.tensors["a"].count_nonzero() == 2


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, ["trunk.0.weight", "head.bias", "trunk.1.num_batches_tracked"]),
        ({"share": ["trunk.*"]}, ["trunk.0.weight", "trunk.1.num_batches_tracked"]),
        ({"withhold": ["*.num_batches_tracked"]}, ["trunk.0.weight", "head.bias"]),
        ({"share": ["trunk.*", "head.bias"], "withhold": ["trunk.0.*"]}, ["head.bias", "trunk.1.num_batches_tracked"]),
    ],
)
def test_names_are_left_out_of_the_message(seat, update, params: dict[str, object], names: list[str]) -> None:
    given = update(**{"trunk.0.weight": SMALL, "head.bias": SMALL, "trunk.1.num_batches_tracked": torch.tensor(3)})
    sent = SelectiveSharing(SelectiveSharingParams(**params), seat()).outgoing(given)
    assert list(sent.tensors) == names
    assert all(torch.equal(t, given.tensors[k]) for k, t in sent.tensors.items())
    assert sent.bytes <= given.bytes


def test_names_that_are_not_there_are_refused_before_training(seat) -> None:
    module = nn.ModuleDict({"trunk": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    for params, words in [
        ({"withhold": ["haed.*"]}, r"'haed\.\*'.*Did you mean 'head"),
        ({"share": ["head.*", "tail.*"]}, r"'tail\.\*'"),
        ({"withhold": ["*"]}, "nothing to send"),
    ]:
        with pytest.raises(UserError, match=words):
            SelectiveSharing(SelectiveSharingParams(**params), seat()).adapt(module)
    assert SelectiveSharing(SelectiveSharingParams(share=["head.*"]), seat()).adapt(module) is module


SAME = [
    (UpdatePruning, UpdatePruningParams(rate=0)),
    (PercentileSharing, PercentileSharingParams(percentile=0, gamma=None)),
    (SelectiveSharing, SelectiveSharingParams()),
]


@pytest.mark.parametrize(("kind", "params"), SAME, ids=lambda v: getattr(v, "__name__", ""))
def test_the_harmless_end_is_the_identity(seat, update, kind, params) -> None:
    given = update(a=draw(7, 3), b=torch.zeros(4), empty=torch.zeros(0), scalar=torch.tensor(-2.0))
    sent = kind(params, seat()).outgoing(given).tensors
    assert all(torch.equal(sent[k], t) for k, t in given.tensors.items())


TWICE = [
    (UpdatePruning, UpdatePruningParams(rate=0.9)),
    (UpdatePruning, UpdatePruningParams(rate=0.333)),
    (PercentileSharing, PercentileSharingParams(percentile=10, gamma=0.7)),
    (SelectiveSharing, SelectiveSharingParams(fraction=0.1)),
]


@pytest.mark.parametrize(("kind", "params"), TWICE, ids=lambda v: getattr(v, "__name__", ""))
def test_a_second_time_changes_nothing(seat, update, kind, params) -> None:
    once = kind(params, seat()).outgoing(update(a=draw(40, 5), b=draw(17, seed=2)))
    again = kind(params, seat()).outgoing(once).tensors
    assert any((t == 0).any() for t in once.tensors.values())
    assert all(torch.equal(again[k], t) for k, t in once.tensors.items())
