"""The sparse vector technique as a defense: what it sends, and what it claims after its rounds."""

from __future__ import annotations

import pytest
import torch
from leakaudit_updates.accounting import cost, plan
from leakaudit_updates.params_svt import SvtParams
from leakaudit_updates.svt import Svt

from leakaudit.facts import CohortFacts
from leakaudit.protocols.params import FederatedParams


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_share_of_the_whole_update_is_sent(seat, update) -> None:
    given = update(a=draw(30, 20), b=draw(400, seed=2))
    sent = Svt(SvtParams(fraction=0.2), seat()).outgoing(given).tensors
    assert sum(int(t.count_nonzero()) for t in sent.values()) == 200
    assert all(t.any() for t in sent.values())


def test_without_price_everything_is_sent_clipped(seat, update) -> None:
    given = update(a=draw(300))
    guard = Svt(SvtParams(fraction=1.0, epsilon=1e12, gamma=0.5, tau=0.0), seat())
    torch.testing.assert_close(guard.outgoing(given).tensors["a"], given.tensors["a"].clamp(-0.5, 0.5), atol=1e-5, rtol=0.0)


def test_a_value_that_is_no_number_is_released_as_one(seat, update) -> None:
    broken = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-6])
    sent = Svt(SvtParams(fraction=1.0, epsilon=1e9), seat()).outgoing(update(a=broken)).tensors["a"]
    torch.testing.assert_close(sent, torch.tensor([0.0, 1e-5, -1e-5, 1e-6]), atol=1e-7, rtol=0.0)


def test_the_ledger_adds_the_rounds_up(seat, update) -> None:
    guard = Svt(SvtParams(epsilon=0.3), seat())
    assert guard.guarantee() is None
    for rounds in (1, 2, 3):
        guard.outgoing(update(round_=rounds, a=draw(500)))
        claim = guard.guarantee()
        assert claim is not None
        assert claim.epsilon == pytest.approx(0.3 * rounds)
        assert f"{rounds} rounds" in claim.mechanism
    assert (claim.unit, claim.neighbors, claim.delta) == ("site", "replace", 0.0)
    assert claim.releases == (("update", "site-0"), ("model", "aggregator"), ("output", "model"))


def test_the_published_scales_of_2026_get_their_honest_sum(seat, update) -> None:
    params = SvtParams(variant="nvflare-2.8")
    guard = Svt(params, seat())
    for _ in range(4):
        guard.outgoing(update(a=draw(100_000)))
    claim = guard.guarantee()
    assert claim is not None
    assert claim.epsilon == pytest.approx(4 * cost(plan(params, 100_000)).epsilon)
    assert claim.epsilon == pytest.approx(4 * 1001, rel=1e-3)  # 10,000 released entries at 0.1, and the selection


def test_the_published_scales_before_get_none(seat, update) -> None:
    params = SvtParams(variant="nvflare-2.2")
    guard = Svt(params, seat())
    guard.outgoing(update(a=draw(100)))
    assert guard.guarantee() is None
    assert params.unit is None


def test_what_leaves_as_it_is_voids_the_claim(seat, update) -> None:
    tensors = {"a": draw(100), "scalar": torch.tensor(3.0), "norm.running_mean": draw(4)}
    for params, sent_as_it_is in [
        (SvtParams(), set()),
        (SvtParams(variant="nvflare-2.8"), {"scalar"}),
        (SvtParams(buffers="send"), {"norm.running_mean"}),
    ]:
        guard = Svt(params, seat())
        sent = guard.outgoing(update(**tensors)).tensors
        assert {k for k, t in tensors.items() if torch.equal(sent[k], t)} == sent_as_it_is
        guard.outgoing(update(a=draw(100)))  # a later round that hides everything does not undo it
        assert (guard.guarantee() is None) == bool(sent_as_it_is)


def test_needs_name_the_site_as_the_unit_only_where_a_claim_can_be_made() -> None:
    cohort = CohortFacts(modalities=("t1",), shape=(16, 16), members=4, auxiliary=0, sites=("site-0",), records=4)
    facts = FederatedParams().facts(cohort)
    units = {v: SvtParams(variant=v).needs(facts).unit for v in ("correct", "nvflare-2.2", "nvflare-2.8")}
    assert units == {"correct": "site", "nvflare-2.2": None, "nvflare-2.8": "site"}


def test_a_round_is_logged_with_what_its_publishers_state(seat, update, caplog: pytest.LogCaptureFixture) -> None:
    guard = Svt(SvtParams(variant="nvflare-2.2", epsilon=0.1), seat())
    with caplog.at_level("INFO"):
        for _ in range(2):
            guard.outgoing(update(a=draw(100)))
    assert caplog.text.count("epsilon inf; its publishers state 0.936806") == 1  # 0.1 (1 + 20^(2/3)) + 0.1
