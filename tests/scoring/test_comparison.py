"""The strongest attack, two defenses compared by the rule of evidence, and the band."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.comparison import band, compare
from leakaudit.scoring.contenders import Contender
from leakaudit.scoring.intervals import leakage_interval, patient_interval
from leakaudit.scoring.membership import stratified_auc
from leakaudit.scoring.paired import below_zero, upper_bounds
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc
from leakaudit.scoring.strongest import Candidate, Strongest, strongest


def keys(n, start=0):
    return tuple(f"p{i:03}" for i in range(start, start + n))


def candidate(gain, name="inversion", room=None, patients=None, **more):
    table = np.atleast_2d(np.asarray(gain, dtype=float))
    rooms = np.ones_like(table) if room is None else np.broadcast_to(room, table.shape)
    return Candidate(
        attack=name, endpoint=f"{name} fidelity", patients=patients or keys(table.shape[1]), gain=table, room=rooms, **more
    )


def member_candidate(tables, name="loss"):
    patients = keys(len(tables[0][0]))
    return Candidate(
        attack=name, endpoint=name, patients=patients, gain=np.empty((0, 0)), room=np.empty((0, 0)), tables=tuple(tables)
    )


# The strongest attack --------------------------------------------------------------------------------------------------


def test_each_patient_gets_the_attack_that_leaks_most_on_the_others():
    rng = np.random.default_rng(0)
    gain, room = rng.normal(0.1, 0.06, (4, 3, 12)), rng.uniform(0.6, 0.9, (4, 3, 12))
    found = strongest([candidate(g, str(k), r) for k, (g, r) in enumerate(zip(gain, room, strict=True))])
    for i in range(12):
        others = [p for p in range(12) if p != i]
        best = max(range(4), key=lambda k: gain[k][:, others].sum() / room[k][:, others].sum())
        assert found.fair.gain[:, i] == pytest.approx(gain[best][:, i])
        assert found.fair.room[:, i] == pytest.approx(room[best][:, i])
    top = max(range(4), key=lambda k: gain[k].sum() / room[k].sum())
    assert (found.attack, found.endpoint) == (str(top), f"{top} fidelity")
    assert found.upward.value == pytest.approx(gain[top].sum() / room[top].sum())


def test_an_attack_that_is_strong_on_one_patient_alone_does_not_choose_itself():
    # Without the outlier the first attack leaks most: the outlier's own patient must not see it.
    usual, lucky = np.full(10, 0.2), np.full(10, 0.1)
    lucky[3] = 1.9
    found = strongest([candidate(usual, "usual"), candidate(lucky, "lucky")])
    assert found.attack == "lucky"
    assert found.fair.gain[0, 3] == 0.2
    assert found.upward.value == pytest.approx(0.28)
    # The others still choose it, because it leaks most on the rest of them.
    assert found.value == pytest.approx((0.2 + 9 * 0.1) / 10)


def test_one_attack_needs_no_choice_and_keeps_its_interval():
    rng = np.random.default_rng(1)
    gain, room = rng.normal(0.3, 0.1, (3, 20)), rng.uniform(0.5, 0.9, (1, 20))
    found = strongest([candidate(gain, room=room)])
    direct = leakage_interval(gain, np.broadcast_to(room, gain.shape), seed=4)
    interval = found.interval(seed=4)
    assert found.value == pytest.approx(gain.sum() / (3 * room.sum()))
    assert (interval.low, interval.high) == pytest.approx((direct.low, direct.high), abs=0.004)
    assert strongest([candidate(gain[:, :4])]).interval(seed=4) is None


def mirrored(level=0.3, n=30, repeats=1):
    """Two attacks that are equally strong: every patient, left out, decides against itself."""
    wave = np.tile(np.random.default_rng(0).normal(0, 0.1, n), (repeats, 1))
    return strongest([candidate(level + wave, "one"), candidate(level + 2 * wave.mean() - wave, "two")])


def test_the_bounds_are_read_from_both_choices():
    found = mirrored()
    low, high = patient_interval(found.fair.values[0], seed=4).low, patient_interval(found.upward.values[0], seed=4).high
    interval = found.interval(seed=4)
    assert found.fair.value < found.upward.value - 0.05
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_attacks_on_different_patients():
    here = candidate(np.full(6, 0.5), "here", patients=keys(6))
    there = candidate(np.full(4, 0.1), "there", patients=keys(4, 6))
    weak = candidate(np.full(10, 0.2), "weak")
    alone = candidate([0.9], "alone", patients=("zz",))
    found = strongest([here, there, weak, alone])
    assert found.fair.patients == (*keys(10), "zz")
    assert found.fair.gain[0] == pytest.approx([0.5] * 6 + [0.2] * 4 + [0.9])
    assert found.attack == "alone"


def test_an_attack_about_one_patient_counts_only_where_there_is_no_other():
    found = strongest([candidate([0.9], "alone", patients=("p003",)), candidate(np.full(8, 0.2), "usual")])
    assert found.fair.gain[0] == pytest.approx([0.2] * 8)


@pytest.mark.parametrize(("n", "naive"), [(10, 0.1161), (20, 0.1114), (50, 0.1072)])
def test_choosing_on_the_attacked_patients_errs_upward_and_cross_fitting_does_not(n, naive):
    """Three equal attacks, sd .06, true .100: E max of 3 normals is .846 standard errors above."""
    rng = np.random.default_rng(n)
    found = [strongest([candidate(row, str(k)) for k, row in enumerate(rng.normal(0.1, 0.06, (3, n)))]) for _ in range(1500)]
    assert np.mean([f.upward.value for f in found]) == pytest.approx(naive, abs=0.0015)
    assert np.mean([f.value for f in found]) == pytest.approx(0.100, abs=0.003)
    assert all((f.fair.gain <= f.upward.gain + 1e-12).all() for f in found)


def test_candidates_must_agree_on_repeats():
    with pytest.raises(EvidenceError, match="repeats"):
        strongest([candidate(np.zeros((2, 5))), candidate(np.zeros((3, 5)))])
    with pytest.raises(EvidenceError, match="no attack"):
        strongest([])


def tables(rng, strength, n=12, repeats=3):
    """One table for each repeat; `strength` is how far members score above the others, by repeat."""
    member = np.arange(2 * n) < n
    shift = np.broadcast_to(strength, repeats)
    return [(rng.normal(0, 1, 2 * n) + s * member, member, ["a", "b"] * n) for s in shift]


def advantage(table):
    return 2 * stratified_auc(*table).value - 1


def test_membership_of_a_repeat_is_scored_by_the_attack_that_leaks_most_in_the_others():
    rng = np.random.default_rng(2)
    lucky, usual = tables(rng, [9, 0, 0]), tables(rng, [1, 1, 1])
    found = strongest([member_candidate(lucky, "lucky"), member_candidate(usual, "usual")])
    a, b = [advantage(t) for t in lucky], [advantage(t) for t in usual]
    expected = [[a, b][int(b[(r + 1) % 3] + b[(r + 2) % 3] > a[(r + 1) % 3] + a[(r + 2) % 3])][r] for r in range(3)]
    assert found.fair.means == pytest.approx(expected)
    assert found.fair.means[0] == pytest.approx(b[0])
    assert found.fair.means[0] < a[0]


def test_membership_of_a_single_repeat_is_scored_on_the_other_half():
    """Either attack shines on one half: the half that chose it must not score it."""
    member = np.arange(48) < 24
    # Every second candidate of a site and side: positions 0, 1, 4, 5, ... of either side are one half.
    side = np.array([i // 2 % 2 for i in range(24)] * 2, dtype=bool)
    rng, sites = np.random.default_rng(3), ["a", "b"] * 24
    one, two = ((rng.normal(0, 1, 48) + 2 * member * shine, member, sites) for shine in (side, ~side))

    def half(table, which):
        return table[0][which], member[which], [s for s, w in zip(sites, which, strict=True) if w]

    found = strongest([member_candidate([one], "one"), member_candidate([two], "two")])
    values = [advantage(half(one, ~side)), advantage(half(two, side))]
    assert found.value == pytest.approx(np.mean(values))
    assert found.value < found.upward.value - 0.1
    assert found.fair.n == 24
    # Two halves with an attack of their own: distances to the bounds are squared and added.
    parts = [stratified_auc(*half(one, ~side)).leakage, stratified_auc(*half(two, side)).leakage]
    low = found.value - math.hypot(*(v - p.low for v, p in zip(values, parts, strict=True))) / 2
    assert found.fair.bounds(0.95, 0).low == pytest.approx(low)


def test_too_few_candidates_for_halves_are_not_split():
    member = np.array([True, False])
    pair = [[(np.array([s, 0.5]), member, ["a", "a"])] for s in (0.1, 0.9)]
    found = strongest([member_candidate(t, str(k)) for k, t in enumerate(pair)])
    assert found.value == found.upward.value == 1.0


# Many differences at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 3, 7), (6, 3, 36), (5, 1, 20)])
def test_bounds_of_many_differences_are_those_of_one(shape):
    rng = np.random.default_rng(5)
    values = rng.normal(-0.04, 0.08, shape) + rng.normal(0, 0.005, (*shape[:2], 1))
    direct = [leakage_interval(v, seed=3).high for v in values]
    assert upper_bounds(values, seed=3) == pytest.approx(direct, abs=1e-9)
    for level in (0.95, 0.99):
        direct = np.array([leakage_interval(v, level=level, seed=3, resamples=9000).high for v in values])
        clear = np.abs(direct) > 0.002  # the resamples differ in number
        assert (below_zero(values, level=level, seed=3) == (direct < 0))[clear].all()


def test_resamples_without_spread_do_not_widen_a_bound():
    values = np.zeros((2, 3, 10))
    values[0, :, 0], values[1, 0, 3] = -0.1, 0.3
    direct = [leakage_interval(v, seed=3).high for v in values]
    assert upper_bounds(values, seed=3) == pytest.approx(direct)


def test_t_alone_does_not_decide_on_skewed_differences():
    skewed = np.random.default_rng(8).lognormal(0, 1, 20)
    high = stats.t.interval(0.95, 19, skewed.mean(), stats.sem(skewed))[1]
    between = (high + patient_interval(skewed, seed=3).high) / 2
    assert high < between
    values = (skewed - between)[None, None]
    assert not below_zero(values, level=0.95, seed=3)[0]
    assert below_zero(values - 2 * (between - high), level=0.95, seed=3)[0]


def test_differences_without_spread_are_points():
    values = np.stack([np.full((3, 8), -0.2), np.full((3, 8), 0.2), np.zeros((3, 8))])
    assert upper_bounds(values, seed=0) == pytest.approx([-0.2, 0.2, 0.0])
    assert below_zero(values, level=0.999, seed=0).tolist() == [True, False, False]


# The rule --------------------------------------------------------------------------------------------------------------


def contender(rng, name, leak=0.3, dice=0.8, *, n=40, m=40, repeats=3, kinds=("fidelity",), seed_sd=0.002, **more):
    """Patients and test patients are the same for all contenders that share a `state`."""
    state = np.random.default_rng(99)
    patient, tester = state.normal(0, 0.08, n), state.normal(0, 0.1, m)
    gains = [leak + patient + rng.normal(0, 0.01, (repeats, n)) + rng.normal(0, seed_sd, (repeats, 1)) for _ in kinds]
    scores = dice + tester + rng.normal(0, 0.01, (repeats, m)) + rng.normal(0, seed_sd, (repeats, 1))
    leakage = {k: strongest([candidate(g, "inversion")]) for k, g in zip(kinds, gains, strict=True)}
    tried = {k: frozenset({"inversion"}) for k in kinds}
    return Contender(name=name, leakage=leakage, dice=scores, testers=keys(m), tried=tried, **more)


def pair(a=None, b=None, margin=0.05, **both):
    rng = np.random.default_rng(7)
    one = contender(rng, "noise", **({"leak": 0.1} | both | (a or {})))
    other = contender(rng, "none", **({"leak": 0.4} | both | (b or {})))
    return one, other, compare([one, other], margin=margin, seed=1)


def test_less_leakage_at_equal_dice_beats():
    one, other, (found,) = pair()
    assert (found.a, found.b, found.kind, found.outcome, found.reason) == ("noise", "none", "fidelity", "a beats b", None)
    assert found.leakage.value == pytest.approx(one.leakage["fidelity"].value - other.leakage["fidelity"].value)
    direct = leakage_interval(one.leakage["fidelity"].fair.gain - other.leakage["fidelity"].fair.gain, seed=1)
    assert (found.leakage.low, found.leakage.high) == pytest.approx((direct.low, direct.high), abs=0.002)
    assert found.dice.value == pytest.approx((one.dice - other.dice).mean())
    direct = leakage_interval(one.dice - other.dice, seed=1)
    assert (found.dice.low, found.dice.high) == pytest.approx((direct.low, direct.high), abs=0.002)
    assert band([found], [one, other]) == {"noise": True, "none": False}


def test_the_order_does_not_matter():
    one, other, (found,) = pair()
    (turned,) = compare([other, one], margin=0.05, seed=1)
    assert turned.outcome == "b beats a"
    assert (turned.leakage.low, turned.leakage.high) == pytest.approx((-found.leakage.high, -found.leakage.low))


def test_a_loss_of_dice_beyond_the_margin_bars_the_claim():
    *_, (found,) = pair({"dice": 0.72})
    assert found.outcome == "not distinguishable"
    assert "lose more Dice" in found.reason
    *_, (found,) = pair({"dice": 0.72}, margin=0.12)
    assert found.outcome == "a beats b"


def test_the_bound_of_dice_is_the_one_sided_one():
    one, other, _ = pair({"dice": 0.78})
    low = leakage_interval(one.dice - other.dice, level=0.9, seed=1).low
    assert compare([one, other], margin=-low + 1e-4, seed=1)[0].outcome == "a beats b"
    assert compare([one, other], margin=-low - 1e-4, seed=1)[0].outcome == "not distinguishable"


def test_the_one_that_leaks_less_is_read_upward():
    one, other, _ = pair(n=30)
    tied = mirrored(0.25, repeats=3)
    (found,) = compare([replace(one, leakage={"fidelity": tied}), other], margin=0.05, seed=1)
    against = other.leakage["fidelity"].fair.values
    assert found.leakage.value == pytest.approx(tied.fair.value - against.mean())
    assert found.leakage.high == pytest.approx(leakage_interval(tied.upward.values - against, seed=1).high)
    assert found.leakage.low == pytest.approx(leakage_interval(tied.fair.values - against, seed=1).low)


def test_equal_defenses_are_not_distinguished():
    *contenders, (found,) = pair({"leak": 0.4})
    assert (found.outcome, found.reason) == ("not distinguishable", "The difference of leakage may be zero.")
    assert band([found], contenders) == {"noise": True, "none": True}


def test_more_defenses_need_stronger_evidence():
    """A difference that stands alone does not stand among ten trainings: the level is corrected over all ordered pairs."""
    rng = np.random.default_rng(7)
    some = [contender(rng, str(k), 0.3 if k else 0.15, seed_sd=0.01) for k in range(10)]
    alone = compare(some[:2], margin=0.05, seed=1)[0]
    among = compare(some, margin=0.05, seed=1)[0]
    assert alone.outcome == "a beats b"
    assert among.outcome == "not distinguishable"
    assert among.reason.startswith("They differ by the 95 % interval alone, but not after correction for 90 comparisons")
    assert (among.leakage, among.dice) == (alone.leakage, alone.dice)
    assert compare(some, margin=0.05, seed=1, corrected=False)[0].outcome == "a beats b"


@pytest.mark.parametrize(
    ("both", "words", "known"),
    [
        ({"repeats": 2}, "2 training runs of each; 3 are needed", True),
        ({"repeats": 1}, "One training run of each; 3 are needed", True),
        ({"n": 9}, "Fewer than 10 attacked patients", True),
        ({"n": 4}, "Fewer than 5 attacked patients", False),
    ],
)
def test_too_little_evidence_makes_no_claim(both, words, known):
    *contenders, (found,) = pair(**both)
    assert found.outcome == "not distinguishable"
    assert words in found.reason
    assert (found.leakage.low is not None) is known
    assert found.leakage.value is not None
    enough = both.get("repeats", 3) >= 3
    assert band([found], contenders) == dict.fromkeys(("noise", "none"), True if enough and known else None)


def test_more_repeats_can_be_asked_for_and_fewer_cannot():
    one, other, _ = pair()
    assert "5 are needed" in compare([one, other], margin=0.05, repeats=5, seed=1)[0].reason
    one, other, _ = pair(repeats=2)
    assert "3 are needed" in compare([one, other], margin=0.05, repeats=1, seed=1)[0].reason


def test_without_dice_there_is_no_claim_and_no_band():
    one, other, _ = pair()
    one = replace(one, dice=None, testers=())
    (found,) = compare([one, other], margin=0.05, seed=1)
    assert (found.outcome, found.dice.value) == ("not distinguishable", None)
    assert found.reason == found.dice.reason == "noise has no Dice on test patients."
    assert found.leakage.low is not None
    assert band([found], [one, other]) == {"noise": None, "none": None}


def test_dice_of_fewer_repeats_than_the_attacks_have():
    one, other, _ = pair()
    (found,) = compare([replace(c, dice=c.dice[:2]) for c in (one, other)], margin=0.05, seed=1)
    assert "2 training runs of each" in found.reason


def test_other_test_patients_or_too_few_of_them():
    one, other, _ = pair()
    (found,) = compare([replace(one, testers=keys(40, 5)), other], margin=0.05, seed=1)
    assert found.reason == "Dice was measured on different test patients."
    *_, (found,) = pair(m=4)
    assert "Fewer than 5 test patients" in found.reason
    assert (found.dice.low, found.outcome) == (None, "not distinguishable")
    assert found.dice.value is not None


def test_other_attacked_patients_are_not_paired():
    one, *_ = pair()
    _, less, _ = pair(n=39)
    (found,) = compare([one, less], margin=0.05, seed=1)
    assert found.reason == found.leakage.reason
    assert "different patients" in found.reason.lower()


def test_a_kind_that_one_side_lacks():
    rng = np.random.default_rng(7)
    one = contender(rng, "noise", 0.1)
    other = contender(rng, "none", 0.4, kinds=("fidelity", "mask"))
    broken = Contender(name="broken", leakage={}, dice=one.dice, testers=one.testers)
    found = {(c.a, c.b, c.kind): c for c in compare([one, other, broken], margin=0.05, seed=1)}
    assert len(found) == 5
    assert found["noise", "none", "fidelity"].outcome == "a beats b"
    assert "noise has no leakage of this kind" in found["noise", "none", "mask"].reason
    assert "broken has no leakage" in found["none", "broken", "mask"].leakage.reason
    # One kind is enough where it is the only one that both have.
    assert band(list(found.values()), [one, other, broken]) == {"noise": True, "none": False, "broken": None}


def test_an_attack_that_only_the_other_faced_bars_the_claim():
    one, other, _ = pair()
    more = replace(other, tried={"fidelity": frozenset({"inversion", "strong"})})
    (found,) = compare([one, more], margin=0.05, seed=1)
    assert found.outcome == "not distinguishable"
    assert "no number from strong" in found.reason
    excused = replace(one, excused={"fidelity": frozenset({"strong"})})
    assert compare([excused, more], margin=0.05, seed=1)[0].outcome == "a beats b"
    # That the one that leaks less faced more attacks is no objection.
    tried = replace(one, tried={"fidelity": frozenset({"inversion", "another"})})
    assert compare([tried, other], margin=0.05, seed=1)[0].outcome == "a beats b"


def test_a_defense_that_no_attack_was_adapted_to_was_not_evaluated():
    one, other, _ = pair()
    (found,) = compare([replace(one, unadapted=frozenset({"fidelity"})), other], margin=0.05, seed=1)
    assert found.outcome == "not distinguishable"
    assert "without adapting" in found.reason
    (found,) = compare([one, replace(other, unadapted=frozenset({"fidelity"}))], margin=0.05, seed=1)
    assert found.outcome == "a beats b"


def test_only_who_is_beaten_in_every_kind_is_dominated():
    rng = np.random.default_rng(3)
    kinds = ("fidelity", "mask")
    base = contender(rng, "none", 0.4, kinds=kinds)
    half = replace(contender(rng, "half", 0.1, kinds=kinds), name="half")
    half = replace(half, leakage={"fidelity": half.leakage["fidelity"], "mask": base.leakage["mask"]})
    full = contender(rng, "full", 0.1, kinds=kinds)
    found = compare([base, half], margin=0.05, seed=1)
    assert [c.outcome for c in found] == ["b beats a", "not distinguishable"]
    assert band(found, [base, half]) == {"none": True, "half": True}
    assert band(compare([base, full], margin=0.05, seed=1), [base, full]) == {"none": False, "full": True}


# Kinds without usable resamples ----------------------------------------------------------------------------------------


def with_kind(contender_, kind, leakage):
    return replace(contender_, leakage={kind: leakage}, tried={kind: frozenset({"inversion"})})


def test_membership_squares_and_adds_two_newcombe_intervals():
    one, other, _ = pair()
    member = np.arange(60) < 30
    scores = np.arange(60.0)
    weak = [(np.roll(scores, 17 * (r + 1)), member, ["a"] * 60) for r in range(3)]
    strong = [(-scores, member, ["a"] * 60)] * 3
    a, b = strongest([member_candidate(weak)]), strongest([member_candidate(strong)])
    (found,) = compare([with_kind(one, "membership", a), with_kind(other, "membership", b)], margin=0.05, seed=1)
    values = np.array([advantage(t) for t in weak])
    single = [2 * newcombe_auc((v + 1) / 2, 30, 30).high - 1 for v in values]
    reach = math.hypot(np.mean(single) - values.mean(), 1 - (2 * newcombe_auc(1.0, 30, 30).low - 1))
    reach = math.hypot(reach, stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3))
    assert found.leakage.value == pytest.approx(values.mean() - 1)
    assert found.leakage.high == pytest.approx(values.mean() - 1 + reach)


def test_rates_that_are_all_zero_or_one_are_not_points():
    one, other, _ = pair()
    hit = [strongest([candidate(np.full((3, n), v), rate=True, chance=0.01)]) for n, v in ((12, -0.01), (12, 0.99))]
    a, b = with_kind(one, "identity", hit[0]), with_kind(other, "identity", hit[1])
    (found,) = compare([a, b], margin=0.05, seed=1)
    assert found.leakage.value == pytest.approx(-1.0)
    reach = clopper_pearson(0, 12).high
    assert found.leakage.high == pytest.approx(-1.0 + math.hypot(reach, reach))
    assert found.outcome == "a beats b"
    (same,) = compare([a, replace(a, name="same")], margin=0.05, seed=1)
    assert (same.leakage.low, same.leakage.high) == pytest.approx((-reach, reach))


# Simulations behind the rule -------------------------------------------------------------------------------------------


def simulated(rng, gap, *, attacks=1, n=50, repeats=3):
    """Contenders with common patients: seed sd .015 and .01 (Dice), interaction .03 and .035, one training apart by `gap`."""
    patient, tester = rng.normal(0, 0.08, (1, n)), rng.normal(0, 0.1, (1, n))
    found = []
    for k, shift in enumerate(gap):
        seed = rng.normal(0, 0.015, (repeats, 1))
        gains = [
            0.3 + shift + patient + seed + rng.normal(0, 0.03, (repeats, n)) + (attacks > 1) * rng.normal(0, 0.03, (1, n))
            for _ in range(attacks)
        ]
        top: Strongest = strongest([candidate(g, str(i)) for i, g in enumerate(gains)])
        dice = 0.8 + tester + rng.normal(0, 0.01, (repeats, 1)) + rng.normal(0, 0.035, (1, n))
        found.append(Contender(name=str(k), leakage={"fidelity": top}, dice=dice, testers=keys(n)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("margin", "gap", "power"),
    [(0.05, 0.05, 35), (0.05, 0.10, 77), (0.05, 0.15, 94), (0.02, 0.05, 13), (0.02, 0.10, 30), (0.02, 0.15, 36)],
)
def test_power_of_the_rule(margin, gap, power):
    """Reference figures (F); seen with 1000 runs: 32.5, 74.1, 93.4 % at a margin of .05 and 13.9, 31.5, 37.7 % at .02."""
    rng = np.random.default_rng(0)
    wins = [compare(simulated(rng, (0, gap)), margin=margin, seed=i)[0].outcome == "a beats b" for i in range(400)]
    assert 100 * np.mean(wins) == pytest.approx(power, abs=7)


@pytest.mark.slow
@pytest.mark.parametrize(("margin", "false"), [(0.05, 1.4), (0.02, 0.5)])
def test_equal_defenses_are_seldom_told_apart(margin, false):
    """Seen with 1000 runs: 1.1 and 0.8 % (A beats B, B beats A) at a margin of .05; 0.4 and 0.2 % at .02."""
    rng = np.random.default_rng(1)
    found = [compare(simulated(rng, (0, 0)), margin=margin, seed=i)[0].outcome for i in range(600)]
    for outcome in ("a beats b", "b beats a"):
        assert 100 * np.mean([o == outcome for o in found]) <= false + 1.3


@pytest.mark.slow
def test_luck_in_the_choice_of_an_attack_makes_no_claim():
    """Three equally strong attacks on each side. Seen with 1000 runs: 0.2 and 0.0 %; power at .10: 71.1 %."""
    rng = np.random.default_rng(2)
    found = [compare(simulated(rng, (0, 0), attacks=3), margin=0.05, seed=i)[0].outcome for i in range(400)]
    assert np.mean([o != "not distinguishable" for o in found]) <= 0.015


@pytest.mark.slow
def test_of_eight_identical_defenses_hardly_ever_one_is_dominated():
    """Seen with 500 runs: the front of points calls 5.2 of 8 dominated; some is in 57.8 % uncorrected, in 0.8 % by the rule."""
    rng = np.random.default_rng(3)
    front, claims = [], {True: 0, False: 0}
    for i in range(300):
        group = simulated(rng, [0] * 8)
        points = [(c.leakage["fidelity"].value, -c.dice.mean()) for c in group]
        front.append(sum(any(x[0] < y[0] and x[1] < y[1] for x in points) for y in points))
        for corrected in claims:
            found = compare(group, margin=0.05, seed=i, corrected=corrected)
            claims[corrected] += not all(band(found, group).values())
    assert np.mean(front) == pytest.approx(5.3, abs=0.25)
    assert claims[True] / 300 <= 0.02
    assert claims[False] / 300 > 0.25


@pytest.mark.slow
@pytest.mark.parametrize(("n", "attacks"), [(10, 3), (20, 3), (50, 3), (50, 6)])
def test_upper_bound_of_the_strongest_attack(n, attacks):
    """With attacks that are equally strong the cross-fitted mean is free of bias, but its own interval is not wide enough.

    Seen with 1000 runs (K = 3; n = 10, 20, 50): its upper bound misses in 8.4, 13.7, 18.5 %, that of both readings in none; the
    lower bound, an error to the side of more leakage, in 4.1, 6.2, 6.9 % (K = 6, n = 50: 11.3 %). Attacks that share their
    patients' spread, as real ones do: 1.1 and 0.4 % (n = 36, three repeats).
    """
    rng = np.random.default_rng(n)
    missed = np.zeros(3)
    for i in range(400):
        found = strongest([candidate(row, str(k)) for k, row in enumerate(rng.normal(0.1, 0.06, (attacks, n)))])
        interval, alone = found.interval(seed=i), patient_interval(found.fair.values[0], seed=i)
        missed += interval.high < 0.1, interval.low > 0.1, alone.high < 0.1
    assert missed[0] / 400 <= 0.025
    assert missed[1] / 400 <= 0.14
    assert missed[2] / 400 > 0.05
