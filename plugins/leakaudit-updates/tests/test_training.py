"""A tiny federated training runs end to end with each defense, and its model answers with numbers."""

from __future__ import annotations

import pytest
import torch
from leakaudit_updates.params import (
    PercentileSharingParams,
    SelectiveSharingParams,
    UpdateClippingParams,
    UpdateNoiseParams,
    UpdatePruningParams,
    UpdateQuantizationParams,
)
from leakaudit_updates.params_svt import SvtParams
from leakaudit_updates.perturbation import UpdateClipping, UpdateNoise
from leakaudit_updates.quantization import UpdateQuantization
from leakaudit_updates.sharing import PercentileSharing, SelectiveSharing, UpdatePruning
from leakaudit_updates.svt import Svt

from leakaudit.defenses import Chain

CASES = [
    ("update-noise", UpdateNoise, UpdateNoiseParams(sigma=25.0)),
    ("update-noise absolute", UpdateNoise, UpdateNoiseParams(sigma=0.5, scale="absolute")),
    ("update-clipping", UpdateClipping, UpdateClippingParams(norm=0.1)),
    ("update-quantization", UpdateQuantization, UpdateQuantizationParams(bits=2)),
    ("update-pruning", UpdatePruning, UpdatePruningParams(rate=0.99)),
    ("percentile-sharing", PercentileSharing, PercentileSharingParams()),
    ("selective-sharing", SelectiveSharing, SelectiveSharingParams(fraction=0.1, withhold=["head.*"])),
    ("svt", Svt, SvtParams()),
    ("svt nvflare-2.2", Svt, SvtParams(variant="nvflare-2.2")),
    ("svt nvflare-2.8", Svt, SvtParams(variant="nvflare-2.8")),
]


@pytest.mark.parametrize("normalization", ["instance", "batch"])
@pytest.mark.parametrize(("kind", "params"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_training_ends_with_finite_weights_and_answers(trained, kind, params, normalization: str) -> None:
    run = trained(lambda seat: kind(params, seat), normalization)
    assert all(torch.isfinite(t).all() for t in run.state.values())
    assert torch.isfinite(run.logits()).all()
    assert any(not torch.equal(t, run.start[k]) for k, t in run.state.items())


def test_what_is_withheld_stays_where_it_was(trained) -> None:
    run = trained(lambda seat: SelectiveSharing(SelectiveSharingParams(withhold=["head.*"]), seat))
    stayed = {k for k, t in run.state.items() if torch.equal(t, run.start[k])}
    assert stayed == {k for k in run.state if k.startswith("head.")}
    assert stayed


def test_defenses_without_effect_train_the_same_model(trained) -> None:
    plain = trained(lambda seat: Chain([], seat)).state
    without = trained(
        lambda seat: Chain(
            [
                UpdateNoise(UpdateNoiseParams(sigma=0), seat), UpdateClipping(UpdateClippingParams(norm=1e6), seat),
                UpdatePruning(UpdatePruningParams(rate=0), seat), SelectiveSharing(SelectiveSharingParams(), seat),
                PercentileSharing(PercentileSharingParams(percentile=0, gamma=None), seat),
            ],
            seat,
        )
    ).state  # fmt: skip
    assert all(torch.equal(without[k], t) for k, t in plain.items())


def test_the_ledger_counts_the_rounds_of_a_training(trained) -> None:
    run = trained(lambda seat: Svt(SvtParams(epsilon=0.25), seat), rounds=3)
    for guard in run.guards.values():
        claim = guard.guarantee()
        assert claim is not None
        assert claim.epsilon == pytest.approx(0.75)
