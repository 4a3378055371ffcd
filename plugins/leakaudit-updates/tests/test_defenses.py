"""What holds for every defense of updates: what it leaves alone, where its randomness comes from, where it applies."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from leakaudit_updates.params import (
    PercentileSharingParams,
    SelectiveSharingParams,
    UpdateClippingParams,
    UpdateNoiseParams,
    UpdateParams,
    UpdatePruningParams,
    UpdateQuantizationParams,
)
from leakaudit_updates.params_svt import SvtParams
from leakaudit_updates.perturbation import UpdateClipping, UpdateNoise
from leakaudit_updates.plugin import leakaudit_defenses
from leakaudit_updates.quantization import UpdateQuantization
from leakaudit_updates.sharing import PercentileSharing, SelectiveSharing, UpdatePruning
from leakaudit_updates.svt import Svt
from pydantic import ValidationError

from leakaudit.facts import CohortFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import Needs, NotApplicable

COHORT = CohortFacts(modalities=("flair", "t1"), shape=(16, 16), members=8, auxiliary=0, sites=("site-0", "site-1"), records=8)
HARD = {
    "update-noise": (UpdateNoise, UpdateNoiseParams(sigma=2.0)),
    "update-clipping": (UpdateClipping, UpdateClippingParams(norm=0.01)),
    "update-quantization": (UpdateQuantization, UpdateQuantizationParams(bits=2)),
    "update-pruning": (UpdatePruning, UpdatePruningParams(rate=0.9)),
    "percentile-sharing": (PercentileSharing, PercentileSharingParams(percentile=80, gamma=0.001)),
    "selective-sharing": (SelectiveSharing, SelectiveSharingParams(fraction=0.1)),
    "svt": (Svt, SvtParams(epsilon=50.0, gamma=0.01)),
}
RANDOM = {"update-noise", "update-quantization", "svt"}
ALL = pytest.mark.parametrize("name", HARD)


def tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        "conv.weight": torch.randn(8, 4, 3, 3, generator=draw), "norm.weight": torch.randn(8, generator=draw),
        "norm.running_mean": torch.randn(8, generator=draw), "norm.running_var": torch.randn(8, generator=draw),
        "norm.num_batches_tracked": torch.tensor(4), "half": torch.randn(50, generator=draw).half(),
    }  # fmt: skip


def test_every_defense_of_the_package_is_tried_here() -> None:
    assert {info.name for info in leakaudit_defenses()} >= set(HARD)


@ALL
def test_floating_tensors_change_and_keep_shape_and_type_and_others_pass(seat, update, name: str) -> None:
    kind, params = HARD[name]
    given = update(**tensors())
    sent = kind(params, seat()).outgoing(given)
    assert list(sent.tensors) == list(given.tensors)
    assert sent.tensors["norm.num_batches_tracked"] is given.tensors["norm.num_batches_tracked"]
    for key, t in given.tensors.items():
        assert sent.tensors[key].shape == t.shape
        assert sent.tensors[key].dtype == t.dtype
        assert torch.isfinite(sent.tensors[key]).all()
    assert not torch.equal(sent.tensors["conv.weight"], given.tensors["conv.weight"])
    assert (sent.channel, sent.round, sent.weight) == ("update", 0, 5.0)


@ALL
def test_other_channels_pass(seat, update, name: str) -> None:
    kind, params = HARD[name]
    for channel in ("model", "control"):
        given = update(channel=channel, **tensors())
        guard = kind(params, seat())
        assert guard.outgoing(given) is given
        assert guard.incoming(given) is given


@ALL
def test_statistics_of_batch_normalization_change_unless_they_are_to_pass(seat, update, name: str) -> None:
    kind, params = HARD[name]
    given = update(**tensors())
    for buffers in ("change", "send"):
        sent = kind(params.model_copy(update={"buffers": buffers}), seat()).outgoing(given)
        for key in ("norm.running_mean", "norm.running_var"):
            assert torch.equal(sent.tensors[key], given.tensors[key]) == (buffers == "send")


@ALL
def test_a_running_variance_cannot_be_driven_below_zero(seat, update, name: str) -> None:
    kind, params = HARD[name]
    guard = kind(params, seat())
    variance = torch.full((8,), 1e-4)
    guard.incoming(update(channel="model", **{"norm.running_var": variance}))
    sent = guard.outgoing(update(**tensors() | {"norm.running_var": torch.full((8,), -0.9e-4)})).tensors["norm.running_var"]
    assert (variance + sent > 0).all()


@ALL
def test_randomness_comes_from_the_seat_alone(seat, update, name: str) -> None:
    kind, params = HARD[name]
    sent = []
    for own, everybody in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(everybody)
        sent.append(kind(params, seat(own)).outgoing(update(**tensors())).tensors["conv.weight"])
    assert torch.equal(sent[0], sent[1])
    assert torch.equal(sent[0], sent[2]) == (name not in RANDOM)


@ALL
def test_every_round_has_noise_of_its_own(seat, update, name: str) -> None:
    kind, params = HARD[name]
    guard = kind(params, seat())
    first, second = (guard.outgoing(update(**tensors())).tensors["conv.weight"] for _ in range(2))
    assert torch.equal(first, second) == (name not in RANDOM)


@ALL
def test_an_attacker_can_differentiate_through_it(seat, update, name: str) -> None:
    kind, params = HARD[name]
    scale = torch.tensor(1e-3, requires_grad=True)
    given = {k: t * scale if t.is_floating_point() else t for k, t in tensors().items()}
    sent = kind(params, seat()).outgoing(update(**given))
    (gradient,) = torch.autograd.grad(sent.tensors["conv.weight"].square().sum(), scale)
    assert torch.isfinite(gradient)


@ALL
def test_an_update_without_floating_tensors_passes(seat, update, name: str) -> None:
    kind, params = HARD[name]
    given = update(**{"norm.num_batches_tracked": torch.tensor(4)})
    guard = kind(params, seat())
    assert guard.outgoing(given).tensors == given.tensors
    assert guard.guarantee() is None


@pytest.mark.parametrize("name", sorted(HARD.keys() - {"svt"}))
def test_only_svt_makes_a_claim(seat, update, name: str) -> None:
    kind, params = HARD[name]
    guard = kind(params, seat())
    guard.outgoing(update(**tensors()))
    assert guard.guarantee() is None
    info = next(i for i in leakaudit_defenses() if i.name == name)
    assert info.claim == "none"
    assert params.needs(FederatedParams().facts(COHORT)) == Needs(seats=("site",), channels=("update",))


@pytest.mark.parametrize("name", ["update-noise", "update-clipping"])
def test_the_summary_says_that_there_is_no_guarantee(name: str) -> None:
    info = next(i for i in leakaudit_defenses() if i.name == name)
    assert "no formal guarantee" in info.summary


@ALL
def test_protocols_without_updates_are_not_applicable(name: str) -> None:
    params: UpdateParams = HARD[name][1]
    for facts in (SplitParams().facts(COHORT), CentralizedParams().facts(COHORT)):
        answer = params.needs(facts)
        assert isinstance(answer, NotApplicable)
        assert facts.protocol in answer.reason


@ALL
def test_params_forbid_what_they_do_not_know_and_describe_the_rest(name: str) -> None:
    model = type(HARD[name][1])
    with pytest.raises(ValidationError):
        model.model_validate({"sigmaa": 1})
    schema = model.model_json_schema()
    assert all(field["description"] for field in schema["properties"].values())
    assert schema["examples"]
    for example in schema["examples"]:
        model.model_validate(example)


@pytest.mark.parametrize(
    ("model", "bad"),
    [
        (UpdateNoiseParams, {"sigma": -1}), (UpdateNoiseParams, {"percentile": 0}), (UpdateNoiseParams, {"scale": "clip"}),
        (UpdateClippingParams, {"norm": 0}), (UpdatePruningParams, {"rate": 1}), (UpdateQuantizationParams, {"bits": 1}),
        (PercentileSharingParams, {"percentile": 101}), (PercentileSharingParams, {"gamma": 0}),
        (SelectiveSharingParams, {"fraction": 0}), (SelectiveSharingParams, {"share": []}),
        (SvtParams, {"variant": "correct", "noise_var": 1}), (SvtParams, {"variant": "nvflare-2.8", "release_share": 0.5}),
        (SvtParams, {"epsilon": 0}), (SvtParams, {"variant": "nvflare"}),
    ],
)  # fmt: skip
def test_impossible_params_are_refused(model: type[UpdateParams], bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(bad)


def test_the_plugin_describes_itself_without_torch() -> None:
    assert {info.name for info in leakaudit_defenses() if info.stochastic} >= RANDOM
    heavy = "{'torch', 'numpy'}"
    code = f"import sys, leakaudit_updates.plugin as p; list(p.leakaudit_defenses()); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
