"""Privacy against utility in the report: strongest attacks, comparisons, the band and equal utility, from plan and results."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from leakaudit.engine.comparisons import Comparisons
from leakaudit.engine.merge import Merged
from leakaudit.engine.merge_membership import MembershipTables
from leakaudit.engine.plan import Baseline, Pairing
from leakaudit.engine.results import Judged
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.results import EndpointResult, PairingResult, Verdict

N, TESTERS, REPEATS = 24, 20, 3
PATIENTS = tuple(f"p{i:02}" for i in range(N))


def merged(leak: float, endpoint: str = "fidelity", seed: int = 0, repeats: int = REPEATS, **more: Any) -> Merged:
    rng = np.random.default_rng(seed)
    wave = np.linspace(-0.08, 0.08, N)
    gain = leak + wave + rng.normal(0, 0.01, (repeats, N))
    fields = {"patients": PATIENTS, "gain": gain, "room": np.ones((repeats, N)), "chance": 0.2} | more
    return Merged(
        name=f"client-1/level0 {endpoint}", endpoint=endpoint, channel="activation", seat="client-1", level="level0",
        chance_name="mean", anchor=1.0, **fields,
    )  # fmt: skip


def membership(strength: float, seed: int = 0) -> Merged:
    rng = np.random.default_rng(seed)
    member = np.tile(np.arange(N) < N // 2, (REPEATS, 1))
    tables = MembershipTables(
        patients=PATIENTS, sites=("a",) * N, scores=rng.normal(0, 1, (REPEATS, N)) + strength * member, member=member
    )
    empty = np.empty((REPEATS, 0))
    return merged(0.0, "membership", gain=empty, room=empty, tables=tables, chance=0.5)


def judged(
    defense: str, attack: str, *found: Merged, status: str = "REVIEW", adaptive: bool = True, reason: str | None = None
) -> Judged:
    names: dict[str, Any] = {"protocol": "split", "defense": defense, "attack": attack}
    endpoints = tuple(
        EndpointResult(
            name=f.name, channel="activation", family="reconstruction", kind="membership" if f.tables else "leakage",
            value=f.value if f.resolvable else None, interval=f.interval(), fail_low=None, pass_high=None, patients=f.n,
            repeats=f.repeats,
        )
        for f in found
    )  # fmt: skip
    return Judged(
        pairing=Pairing(**names, reason=reason),
        result=PairingResult(**names, adaptive=adaptive, endpoints=endpoints),
        verdict=Verdict(status="N/A" if reason else status, reasons=("for a test",)),  # type: ignore[arg-type]
        merged={f.name: f for f in found},
    )


def trainings(dice: float, seed: int = 0, repeats: int = REPEATS) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(seed)
    patients = [f"t{i:02}" for i in range(TESTERS)]
    tables = dice + np.linspace(-0.05, 0.05, TESTERS)[None, :, None] + rng.normal(0, 0.005, (repeats, TESTERS, 3))
    return tuple({"utility": {"patients": patients, "dice": t.tolist()}} for t in tables)


def link(name: str) -> SimpleNamespace:
    return SimpleNamespace(plugin=SimpleNamespace(info=SimpleNamespace(name=name), distribution="leakaudit-cut"))


def comparisons(
    found: list[Judged], dice: dict[str, float | None], *, chains: dict[str, list[str]] | None = None,
    plugins: dict[str, str] | None = None, absent: dict[str, str] | None = None, policy: Policy | None = None,
) -> tuple[Comparisons, dict[str, Baseline]]:  # fmt: skip
    """Build what the planner and the judge would hand over.

    Args:
        found: Pairings.
        dice: Mean Dice by defense; None for a training that failed.
        chains: Plugins of each defense.
        plugins: Plugin of each attack whose label is not its plugin's name.
        absent: Why a defense does not apply.
        policy: Limits.
    """
    labels = list(dict.fromkeys(j.pairing.attack for j in found))
    recipe = SimpleNamespace(
        attacks=[
            SimpleNamespace(
                label=a,
                plugin=SimpleNamespace(distribution="leakaudit-x", info=SimpleNamespace(name=(plugins or {}).get(a, a))),
            )
            for a in labels
        ],
        defenses=[SimpleNamespace(label=d, links=[link(x) for x in (chains or {}).get(d, [])]) for d in dice],
    )
    baselines = {
        d: Baseline(protocol="split", defense=d, facts=None, reason=(absent or {}).get(d))  # type: ignore[arg-type]
        for d in dice
    }
    plan = SimpleNamespace(recipe=recipe, baselines=tuple(baselines.values()))
    results = SimpleNamespace(
        judged=tuple(found),
        trainings={("split", d): () if v is None else trainings(v, seed=i) for i, (d, v) in enumerate(dice.items())},
    )
    return Comparisons(plan, results, policy or Policy()), baselines  # type: ignore[arg-type]


# The strongest attack --------------------------------------------------------------------------------------------------


def test_the_strongest_endpoint_is_measured_by_its_own_limit() -> None:
    # .25 of .10 is more than .30 of .20.
    image, member = merged(0.25), membership(0.8)
    assert 0.25 < (member.value or 0) < 0.5
    found, baselines = comparisons([judged("none", "inversion", image), judged("none", "loss", member)], {"none": 0.8})
    top = found.strongest(baselines["none"])
    assert top is not None
    assert (top.kind, top.attack, top.endpoint) == ("fidelity", "inversion", image.name)
    assert top.value == image.value


def test_the_strongest_attack_of_each_kind_is_chosen_on_the_other_patients() -> None:
    usual = merged(0.2, seed=1)
    outlier = np.zeros((REPEATS, N))
    outlier[:, 5] = 5.0
    lucky = merged(0.1, seed=2, gain=merged(0.1, seed=2).gain + outlier)
    found, baselines = comparisons([judged("none", "usual", usual, membership(1.0)), judged("none", "lucky", lucky)], {"none": 0.8})
    image, member = found.by_kind(baselines["none"])
    assert (image.kind, image.attack, image.endpoint) == ("fidelity", "lucky", lucky.name)
    # The outlier itself gets the usual attack, all others the lucky one: .1 and not .3.
    expected = (lucky.gain.sum() - lucky.gain[:, 5].sum() + usual.gain[:, 5].sum()) / (REPEATS * N)
    assert image.value == pytest.approx(expected)
    assert image.ci is not None
    assert image.ci[0] < expected < image.ci[1]
    assert (member.kind, member.attack) == ("membership", "usual")


def test_what_ended_in_an_error_or_cannot_be_resolved_is_no_evidence() -> None:
    blind = merged(0.3, "mask-WT", room=np.full((REPEATS, N), 0.1))
    found, baselines = comparisons(
        [judged("none", "broken", merged(0.9), status="ERROR"), judged("none", "blind", blind)], {"none": 0.8}
    )
    assert found.by_kind(baselines["none"]) == []
    assert found.strongest(baselines["none"]) is None


def test_identity_by_hits_alone_has_the_interval_of_a_rate() -> None:
    hits = merged(0.0, "identity", gain=np.full((REPEATS, N), 0.99), room=np.full((REPEATS, N), 0.99), chance=0.01)
    found, baselines = comparisons([judged("none", "inversion", hits)], {"none": 0.8})
    (shown,) = found.by_kind(baselines["none"])
    interval = hits.interval()
    assert interval is not None
    assert shown.ci == pytest.approx([interval.low, interval.high])
    assert interval.low < 0.9


# Two by two ------------------------------------------------------------------------------------------------------------


def two(noise: Judged | list[Judged], *more: Judged, dice: float | None = 0.8, **rest: Any) -> Any:
    mine = noise if isinstance(noise, list) else [noise]
    return comparisons([judged("none", "inversion", merged(0.5, seed=3)), *more, *mine], {"none": 0.8, "noise": dice}, **rest)


def test_a_defense_that_leaks_less_beats_the_undefended_training() -> None:
    found, baselines = two(judged("noise", "inversion", merged(0.1, seed=4)))
    (c,) = found.comparisons()
    assert (c.protocol, c.kind, c.a, c.b, c.outcome, c.reason) == ("split", "fidelity", "none", "noise", "b beats a", None)
    assert c.leakage.value == pytest.approx(0.4, abs=0.01)
    assert c.leakage.ci is not None
    assert c.dice.ci is not None
    assert [found.not_dominated(b) for b in baselines.values()] == [False, True]


def test_the_policy_sets_margin_and_repeats() -> None:
    found, _ = two(judged("noise", "inversion", merged(0.1)), dice=0.7)
    assert "accepted 0.05" in str(found.comparisons()[0].reason)
    lax = Policy.model_validate({"dice_margin": 0.2})
    found, _ = two(judged("noise", "inversion", merged(0.1)), dice=0.7, policy=lax)
    assert found.comparisons()[0].outcome == "b beats a"
    strict = Policy.model_validate({"min_repeats": 5})
    found, baselines = two(judged("noise", "inversion", merged(0.1)), policy=strict)
    assert "5 are needed" in str(found.comparisons()[0].reason)
    assert found.not_dominated(baselines["noise"]) is None


def test_a_failed_training_has_comparisons_with_a_reason() -> None:
    found, baselines = two([], dice=None)
    (c,) = found.comparisons()
    assert (c.outcome, c.leakage.value, c.dice.value) == ("not distinguishable", None, None)
    assert "noise has no leakage of this kind" in str(c.reason)
    assert found.not_dominated(baselines["noise"]) is None
    assert found.by_kind(baselines["noise"]) == []
    assert found.strongest(baselines["noise"]) is None


def test_a_defense_that_does_not_apply_takes_no_part() -> None:
    found, baselines = two(judged("noise", "inversion", reason="no cut"), absent={"noise": "no cut"})
    assert found.comparisons() == []
    assert found.not_dominated(baselines["noise"]) is None
    assert found.by_kind(baselines["noise"]) == []


def test_an_attack_that_failed_against_the_defense_bars_its_claim() -> None:
    strong = judged("none", "strong", merged(0.6))
    weak = judged("noise", "inversion", merged(0.1))
    found, _ = two([weak, judged("noise", "strong", status="ERROR")], strong)
    assert "no number from strong" in str(found.comparisons()[0].reason)
    found, _ = two([weak, judged("noise", "strong", reason="the channel is gone")], strong)
    assert found.comparisons()[0].outcome == "b beats a"


def test_an_attack_tuned_to_the_other_defense_is_stood_for_by_the_same_plugin() -> None:
    strong = judged("none", "tuned-to-none", merged(0.6))
    weak = judged("noise", "inversion", merged(0.1))
    found, _ = two(weak, strong, plugins={"tuned-to-none": "inversion"})
    assert found.comparisons()[0].outcome == "b beats a"
    found, _ = two(weak, strong, plugins={"tuned-to-none": "another"})
    assert "no number from tuned-to-none" in str(found.comparisons()[0].reason)


def test_without_an_adaptive_attack_a_defense_beats_nothing() -> None:
    found, baselines = two(judged("noise", "inversion", merged(0.1), adaptive=False))
    assert "without adapting" in str(found.comparisons()[0].reason)
    assert found.not_dominated(baselines["none"]) is True


# Equal utility ---------------------------------------------------------------------------------------------------------


def sweeps(missing: str | None = None, more: dict[str, list[str]] | None = None) -> Any:
    curve = {"none": (0.8, 0.6), "n-1": (0.75, 0.5), "n-2": (0.6, 0.2), "d-1": (0.7, 0.2), "d-2": (0.65, 0.1)}
    found = [
        judged(d, "inversion", merged(leak, seed=i)) if d != missing else judged(d, "inversion", status="ERROR")
        for i, (d, (_, leak)) in enumerate(curve.items())
    ]
    chains = {"n-1": ["noise"], "n-2": ["noise"], "d-1": ["dropout", "clip"], "d-2": ["dropout", "clip"]} | (more or {})
    return comparisons(found, {d: dice for d, (dice, _) in curve.items()}, chains=chains)[0]


def test_swept_defenses_are_read_at_one_dice() -> None:
    (found,) = sweeps().equal_utility()
    assert (found.protocol, found.kind) == ("split", "fidelity")
    assert found.dice == pytest.approx((0.65 + 0.8) / 2, abs=0.005)
    noise, dropout = found.points
    assert (noise.defense, noise.settings) == ("noise", ["none", "n-1", "n-2"])
    assert (dropout.defense, dropout.settings) == ("dropout + clip", ["none", "d-1", "d-2"])
    assert noise.leakage.value == pytest.approx(0.2 + 0.3 * (0.725 - 0.6) / 0.15, abs=0.02)
    assert dropout.leakage.value == pytest.approx(0.2 + 0.4 * 0.025 / 0.1, abs=0.02)
    for point in found.points:
        assert point.leakage.ci is not None
        assert point.leakage.ci[0] < point.leakage.value < point.leakage.ci[1]


def test_one_sweep_alone_or_with_a_setting_missing_is_no_comparison() -> None:
    assert sweeps(missing="d-1").equal_utility() == []
    assert sweeps(more={"d-2": ["dropout"]}).equal_utility() == []


def test_a_setting_that_a_stronger_attack_failed_on_is_not_on_the_curve() -> None:
    curve = {"none": (0.8, 0.6), "n-1": (0.75, 0.5), "n-2": (0.6, 0.2), "n-3": (0.7, 0.1), "d-1": (0.7, 0.2), "d-2": (0.6, 0.1)}
    found = []
    for i, (d, (_, leak)) in enumerate(curve.items()):
        found.append(judged(d, "inversion", merged(leak, seed=i)))
        found.append(judged(d, "strong", merged(leak, seed=i + 10)) if d != "n-3" else judged(d, "strong", status="ERROR"))
    chains = {d: ["noise" if d[0] == "n" else "dropout"] for d in curve if d != "none"}
    (both,) = comparisons(found, {d: dice for d, (dice, _) in curve.items()}, chains=chains)[0].equal_utility()
    assert both.points[0].settings == ["none", "n-1", "n-2"]
