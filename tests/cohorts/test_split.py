"""The split is by patient, disjoint, alike in every site, and honest about what is missing."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from pydantic import ValidationError

from leakaudit.cohorts.dataset import Inventory, PatientEntry
from leakaudit.cohorts.split import GROUPS, SplitParams, split_patients
from leakaudit.errors import UserError


def inventory(**sites: int) -> Inventory:
    entries = [PatientEntry(patient=f"{site}-{i:03}", site=site) for site, n in sites.items() for i in range(n)]
    return Inventory(patients=tuple(entries), modalities=("t1",), shape=(32, 32))


def sizes(split) -> list[int]:
    return [len(getattr(split, name)) for name in GROUPS]


def test_groups_are_disjoint_and_attacked_are_members() -> None:
    data = inventory(a=60, b=40)
    split = split_patients(data, SplitParams(), 3)
    assert sizes(split) == [40, 10, 10, 20, 20]
    for one, other in itertools.combinations(GROUPS, 2):
        assert not set(getattr(split, one)) & set(getattr(split, other))
    assert len(split.attacked) == 36
    assert set(split.attacked) <= set(split.members)
    assert list(split.members) == sorted(split.members)


@pytest.mark.parametrize("seed", range(20))
def test_sites_are_alike_in_every_group(seed: int) -> None:
    data = inventory(a=60, b=30, c=10)
    split = split_patients(data, SplitParams(members=50, validation=10, test=10, non_members=20, auxiliary=10, attacked=20), seed)
    for name, n in (
        ("members", 50),
        ("validation", 10),
        ("test", 10),
        ("non_members", 20),
        ("auxiliary", 10),
        ("attacked", 20),
    ):
        counts = Counter(key[0] for key in getattr(split, name))
        assert all(abs(counts[site] - n * share) <= 1.5 for site, share in (("a", 0.6), ("b", 0.3), ("c", 0.1))), (name, counts)


def test_every_patient_has_the_same_chance_of_membership() -> None:
    data = inventory(a=7, b=3)
    counts = Counter(
        key
        for seed in range(2000)
        for key in split_patients(data, SplitParams(members=4, validation=0, test=0, non_members=0, auxiliary=0), seed).members
    )
    assert min(counts.values()) > 700  # expected 800, standard deviation at most 22
    assert max(counts.values()) < 900


def test_same_seed_same_split_whatever_the_order() -> None:
    data = inventory(a=20, b=20)
    backwards = Inventory(patients=data.patients[::-1], modalities=("t1",), shape=(32, 32))
    assert split_patients(data, SplitParams(), 1) == split_patients(backwards, SplitParams(), 1)
    assert split_patients(data, SplitParams(), 1) != split_patients(data, SplitParams(), 2)
    small, large = (split_patients(data, SplitParams(members=10, auxiliary=n), 1) for n in (2, 8))
    assert small.members == large.members


def test_without_stratification_sites_do_not_matter() -> None:
    data = inventory(a=50, b=50)
    params = SplitParams(members=20, validation=0, test=0, non_members=20, auxiliary=0, stratify=False)
    shares = {Counter(k[0] for k in split_patients(data, params, seed).members)["a"] for seed in range(20)}
    assert max(shares) - min(shares) > 3


def test_too_many_patients_are_counted_by_group() -> None:
    params = SplitParams(members=6, validation=2, test=2, non_members=5, auxiliary=3)
    with pytest.raises(UserError, match=r"asks for 18 patients, but the data has 12: 6 are missing \(3 of 5 in non_members, 3"):
        split_patients(inventory(a=12), params, 0)
    with pytest.raises(UserError, match="attacked: 7 asks for more patients than there are members"):
        split_patients(inventory(a=12), SplitParams(members=0.5, auxiliary=0, attacked=7), 0)


@pytest.mark.parametrize(("n", "expected"), [(2, [1, 0, 0, 1, 0]), (3, [1, 0, 0, 1, 1]), (5, [2, 1, 0, 1, 1])])
def test_tiny_cohorts_leave_groups_empty(n: int, expected: list[int]) -> None:
    assert sizes(split_patients(inventory(a=n), SplitParams(), 0)) == expected


def test_counts_and_fractions_mix() -> None:
    split = split_patients(inventory(a=10), SplitParams(members=0.5, validation=0, test=1, non_members=0.2, auxiliary=2), 0)
    assert sizes(split) == [5, 0, 1, 2, 2]
    with pytest.raises(UserError, match="is nobody"):
        split_patients(inventory(a=3), SplitParams(members=0.1, validation=0, test=0, non_members=0, auxiliary=0), 0)


@pytest.mark.parametrize("params", [{"members": 0}, {"test": -1}, {"test": 1.5}, {"members": 0.9}, {"attacked": 0}])
def test_params_refuse_nonsense(params: dict) -> None:
    with pytest.raises(ValidationError):
        SplitParams(**params)
