"""Site-level DP: what leaves a site, what the aggregator makes of it, and what is claimed for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from leakaudit_dp.accounting import spent
from leakaudit_dp.params_site import SiteDpParams
from leakaudit_dp.site import SiteDp
from pydantic import ValidationError

from leakaudit.defenses import Chain
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import Needs, NotApplicable
from leakaudit.wire import Message, Seat, Secret

COHORT = CohortFacts(
    modalities=("t1",), shape=(16, 16), members=8, auxiliary=0, sites=("site-0", "site-1", "site-2"), records=8
)  # fmt: skip
FACTS = FederatedParams(rounds=10).facts(COHORT)
SITES = COHORT.sites


def seat(name: str = "site-0", seed: int = 0, known: bool = True) -> Seat:
    role = name if name == "aggregator" else "site"
    return Seat(SeatFacts(id=name, role=role), Secret.from_seed(seed, name), protocol=FACTS if known else None)


def guard(name: str = "site-0", seed: int = 0, **params: Any) -> SiteDp:
    return SiteDp(SiteDpParams(**{"noise_multiplier": 1.0} | params), seat(name, seed))


def update(sender: str = "site-0", weight: float = 5.0, round_: int = 0, **tensors: torch.Tensor) -> Message:
    return Message(
        channel="update", sender=sender, receiver="aggregator", round=round_, step=0, tensors=tensors, weight=weight
    )  # fmt: skip


def ask(aggregator: SiteDp, *sites: str, round_: int = 0, **model: torch.Tensor) -> None:
    for site in sites or SITES:
        sent = Message(channel="model", sender="aggregator", receiver=site, round=round_, step=0, tensors=model)
        assert aggregator.outgoing(sent) is sent


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norm(tensors: Any) -> float:
    return float(torch.cat([t.flatten().double() for t in tensors.values()]).norm())


# What leaves a site -----------------------------------------------------------------------------------------------------


def test_the_whole_update_is_clipped_as_one() -> None:
    given = update(a=3 * draw(20, 5), b=draw(7, seed=2), norm=draw(3, seed=3), **{"bn.running_mean": draw(4, seed=4)})
    sent = guard(clip=0.5).outgoing(given)
    assert norm(sent.tensors) == pytest.approx(0.5, rel=1e-5)
    for name, t in given.tensors.items():
        torch.testing.assert_close(sent.tensors[name] / sent.tensors[name].norm(), t / t.norm())
    small = update(a=0.01 * draw(4))
    assert torch.equal(guard(clip=0.5).outgoing(small).tensors["a"], small.tensors["a"])


def test_the_clipping_has_a_gradient_for_adaptive_attacks() -> None:
    x = draw(10).requires_grad_()
    for mode in ("central", "local"):
        sent = guard(mode=mode, clip=0.1).outgoing(update(a=x)).tensors["a"]
        (gradient,) = torch.autograd.grad(sent.square().sum(), x)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("mode", ["central", "local"])
def test_neither_weight_nor_counters_tell_how_many_samples_a_site_has(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    given = update(
        a=draw(5), weight=37.0, **{"bn.num_batches_tracked": torch.tensor(12), "later.num_batches_tracked": torch.tensor(9.0)}
    )
    with caplog.at_level("INFO"):
        sent = guard(mode=mode).outgoing(given)
    assert sent.weight == 1.0
    # The average of counters is no integer, and so is what a site counts on from it.
    assert not any(sent.tensors[f"{layer}.num_batches_tracked"] for layer in ("bn", "later"))
    assert sent.tensors["bn.num_batches_tracked"].dtype == torch.int64
    assert "bn.num_batches_tracked" in caplog.text
    assert "same weight" in caplog.text


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_no_number_counts_as_nothing(bad: float, caplog: pytest.LogCaptureFixture) -> None:
    broken = update(a=torch.tensor([1.0, bad]), b=draw(3))
    assert norm(guard().outgoing(broken).tensors) == 0
    assert "not finite" in caplog.text
    local = guard(mode="local").outgoing(broken).tensors
    assert torch.isfinite(torch.cat([t.flatten() for t in local.values()])).all()
    assert local["b"].abs().min() > 0


def test_huge_entries_are_clipped_and_do_not_overflow() -> None:
    sent = guard(clip=2.0).outgoing(update(a=torch.full((4,), 1e30)))
    torch.testing.assert_close(sent.tensors["a"], torch.ones(4))


def test_local_noise_is_that_of_the_claim_on_every_entry() -> None:
    given = update(a=100 * draw(30_000), b=torch.zeros(10_000))
    first = guard(mode="local", noise_multiplier=0.7, clip=2.0).outgoing(given).tensors
    clipped = guard(clip=2.0).outgoing(given).tensors
    for name in ("a", "b"):
        assert float((first[name] - clipped[name]).std()) == pytest.approx(1.4, rel=0.03)
    again = guard(mode="local", noise_multiplier=0.7, clip=2.0, seed=1).outgoing(given).tensors
    assert not torch.equal(first["b"], again["b"])


def test_a_site_without_data_moves_what_is_sent_by_the_clip_norm_at_most() -> None:
    """Re:cord-play on the neighbors of the claim: same randomness, one time the site's update, one time nothing."""
    for scale in (0.1, 1.0, 1e6):
        given, none = update(a=scale * draw(50), b=scale * draw(9, seed=2)), update(a=torch.zeros(50), b=torch.zeros(9))
        with_site, without = (guard(mode="local", clip=0.5).outgoing(m).tensors for m in (given, none))
        assert norm({k: with_site[k] - without[k] for k in without}) <= 0.5 + 1e-5


def test_running_variances_stay_above_zero() -> None:
    model = {"bn.running_var": torch.full((2000,), 0.5)}
    local = guard(mode="local", noise_multiplier=3.0)
    local.incoming(Message(channel="model", sender="aggregator", receiver="site-0", round=0, step=0, tensors=model))
    sent = local.outgoing(update(**{"bn.running_var": torch.zeros(2000)})).tensors["bn.running_var"]
    central = guard("aggregator", noise_multiplier=30.0)
    ask(central, **model)
    for moved in (sent, central.aggregate([])["bn.running_var"]):
        assert (model["bn.running_var"] + moved).min() > 0
        assert moved.max() > 1  # there was noise to bound


# What the aggregator makes of it ----------------------------------------------------------------------------------------


def test_the_aggregate_is_the_noised_sum_over_the_number_of_sites_asked() -> None:
    aggregator = guard("aggregator", noise_multiplier=0.5, clip=3.0)
    ask(aggregator, a=torch.zeros(40_000))
    inbox = [update(s, weight=w, a=v * torch.ones(40_000)) for s, w, v in (("site-0", 90.0, 0.01), ("site-1", 1.0, -0.004))]
    mean = aggregator.aggregate(inbox)["a"]
    # Divided by three, who were asked, though two answered; the samples behind an update count for nothing.
    assert float(mean.mean()) == pytest.approx(0.006 / 3, abs=0.01)
    assert float(mean.std()) == pytest.approx(0.5 * 3.0 / 3, rel=0.02)


def aggregate(inbox: list[Message], seed: int = 0, sites: tuple[str, ...] = SITES, **params: Any) -> dict[str, torch.Tensor]:
    aggregator = guard("aggregator", seed=seed, **params)
    ask(aggregator, *sites, a=torch.zeros(60), b=torch.zeros(4))
    return aggregator.aggregate(inbox)


@pytest.mark.parametrize("scale", [0.1, 1e6, float("nan")])
@pytest.mark.parametrize("weight", [1.0, 1e4])
def test_one_site_moves_the_aggregate_by_the_clip_norm_at_most(scale: float, weight: float) -> None:
    """Whatever it sends, with whatever weight, and also twice: with and without it, under the same noise."""
    others = [update("site-1", a=draw(60, seed=3), b=draw(4, seed=4)), update("site-2", weight=900.0, a=draw(60), b=draw(4))]
    mine = update("site-0", weight=weight, a=scale * draw(60, seed=5), b=scale * draw(4, seed=6))
    without = aggregate(others, clip=0.5)
    for inbox in ([*others, mine], [mine, *others, mine], [mine, mine, *others]):
        moved = aggregate(inbox, clip=0.5)
        assert norm({k: moved[k] - without[k] for k in moved}) <= 0.5 / 3 + 1e-6


def test_who_was_not_asked_does_not_count_and_nobody_answering_is_noise_alone() -> None:
    stranger = [update("site-2", a=draw(60), b=draw(4))]
    silent = aggregate([], sites=("site-0", "site-1"))
    assert silent["b"].abs().min() > 0
    for name, t in aggregate(stranger, sites=("site-0", "site-1")).items():
        assert torch.equal(t, silent[name])


def test_the_noise_of_two_rounds_is_not_the_same() -> None:
    aggregator = guard("aggregator")
    found = []
    for round_ in range(2):
        ask(aggregator, round_=round_, a=torch.zeros(5))
        found.append(aggregator.aggregate([])["a"])
    assert not torch.equal(*found)


@pytest.mark.parametrize("bad", [torch.zeros(60, dtype=torch.int64), torch.zeros(61)])
def test_an_update_that_does_not_fit_or_is_masked_is_refused_with_its_tensor(bad: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"'site-0' sent 'a' as .*mode: local"):
        aggregate([update(a=bad, b=draw(4))])


def test_integer_tensors_of_the_model_do_not_move() -> None:
    aggregator = guard("aggregator")
    ask(aggregator, a=torch.zeros(5), count=torch.tensor(3))
    assert set(aggregator.aggregate([update(a=draw(5), count=torch.tensor(100))])) == {"a"}


def test_local_mode_leaves_the_average_to_the_protocol() -> None:
    aggregator = guard("aggregator", mode="local")
    ask(aggregator, a=torch.zeros(5))
    assert aggregator.aggregate([update(a=draw(5))]) is None


# The claim --------------------------------------------------------------------------------------------------------------


def rounds_of(aggregator: SiteDp | Chain, count: int) -> None:
    own = aggregator.parts[-1] if isinstance(aggregator, Chain) else aggregator
    for round_ in range(count):
        ask(own, *SITES[: 1 + round_ % 3], round_=round_, a=torch.zeros(5))
        own.aggregate([update(round_=round_, a=draw(5))])


@pytest.mark.parametrize("mode", ["central", "local"])
def test_the_ledger_counts_every_round(mode: str) -> None:
    mine = guard("aggregator" if mode == "central" else "site-0", mode=mode, noise_multiplier=5.0, delta=1e-2)
    assert mine.guarantee() is None
    for done in (1, 2, 3):
        if mode == "local":
            mine.outgoing(update(a=draw(5)))
        else:
            ask(mine, "site-1", round_=done, a=torch.zeros(5))  # not everybody is asked; it counts all the same
            mine.aggregate([])
        claim = mine.guarantee()
        assert claim is not None
        assert claim.epsilon == spent("rdp", noise=5.0, rate=1.0, steps=done, delta=1e-2)
    assert claim.epsilon > 1.5 * spent("rdp", noise=5.0, rate=1.0, steps=1, delta=1e-2)
    assert f"{done} rounds" in claim.mechanism
    assert (claim.unit, claim.neighbors, claim.delta) == ("site", "add-or-remove", 1e-2)
    assert "Balle" in claim.conversion
    assert any("no amplification" in line for line in claim.assumes)


def test_central_noise_never_covers_the_updates() -> None:
    aggregator = guard("aggregator")
    rounds_of(aggregator, 2)
    claim = aggregator.guarantee()
    assert claim is not None
    assert claim.releases == (("model", "aggregator"), ("output", "model"))
    assert any("trusted" in line for line in claim.assumes)
    site = guard()
    site.outgoing(update(a=draw(5)))
    assert site.guarantee() is None


def test_local_noise_covers_the_updates_and_what_is_made_of_them() -> None:
    site = guard(mode="local")
    site.outgoing(update(a=draw(5)))
    claim = site.guarantee()
    assert claim is not None
    assert claim.releases == (("update", "site-0"), ("model", "aggregator"), ("output", "model"))
    assert not any("trusted" in line for line in claim.assumes)


def test_a_round_that_went_past_the_defense_voids_the_claim() -> None:
    for at_the_end in (True, False):
        aggregator = guard("aggregator")
        rounds_of(aggregator, 2)
        assert aggregator.guarantee() is not None
        ask(aggregator, round_=2, a=torch.zeros(5))  # and another defense of the chain gives the aggregate
        if at_the_end:
            aggregator.outgoing(
                Message(channel="model", sender="aggregator", receiver="outsider", round=2, step=1, tensors={"a": torch.zeros(5)})
            )
        else:
            rounds_of(aggregator, 4)
        assert aggregator.guarantee() is None


def test_a_target_epsilon_is_kept_when_all_rounds_are_over() -> None:
    aggregator = guard("aggregator", noise_multiplier=None, target_epsilon=4.0)
    rounds_of(aggregator, FACTS.rounds)
    claim = aggregator.guarantee()
    assert claim is not None
    assert 3.9 <= claim.epsilon <= 4.0
    with pytest.raises(UserError, match="site-dp was given target_epsilon"):
        SiteDp(SiteDpParams(target_epsilon=4.0), seat(known=False))


def test_a_delta_that_promises_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"not below 1 / 3, the number of sites"):
        guard(delta=0.34)


@pytest.mark.parametrize("bad", [{}, {"noise_multiplier": 1, "target_epsilon": 1}, {"noise_multiplier": 1, "mode": "shuffled"}])
def test_impossible_params_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SiteDpParams.model_validate(bad)


def test_needs_name_the_site_as_the_unit() -> None:
    central, local = SiteDpParams(noise_multiplier=1.0), SiteDpParams(noise_multiplier=1.0, mode="local")
    assert central.needs(FACTS) == Needs(seats=("site", "aggregator"), channels=("update", "model"), unit="site")
    assert local.needs(FACTS) == Needs(seats=("site",), channels=("update",), unit="site")
    for params in (CentralizedParams(), SplitParams()):
        answer = central.needs(params.facts(COHORT))
        assert isinstance(answer, NotApplicable)
        assert "sends updates" in answer.reason
