"""Scores that see nothing but the scanner: from images to the word "confounded", and none where scanners are spread evenly."""

from __future__ import annotations

import numpy as np
import pytest

from leakaudit.attacks import Scores
from leakaudit.cohorts.cohort import Cohort, Origin, Sample
from leakaudit.engine.endpoint_results import _tells_apart
from leakaudit.engine.membership_endpoints import Candidates, score_membership
from leakaudit.engine.merge_membership import MembershipTables


def tables(*, confounded: bool, count: int = 80) -> MembershipTables:
    """Return the endpoint of scores that are the mean intensity, on patients of one site with two scanners."""
    rng = np.random.default_rng(0)
    member = np.arange(count) % 2 == 0
    scanner = member if confounded else rng.permutation(member)
    images = rng.standard_normal((count, 1, 8, 8)).astype(np.float32) + scanner[:, None, None, None]
    cohort = Cohort(
        images=images, labels=np.zeros((count, 8, 8), np.uint8), brain=np.ones((count, 8, 8), bool),
        samples=tuple(Sample(patient=f"p{i}", site="a") for i in range(count)), modalities=("t1",), origin=Origin(dataset="toy"),
    )  # fmt: skip
    coins = {f"p{i}": bool(m) for i, m in enumerate(member)}
    names = tuple(coins)
    scores = Scores(name="scanner", channel="output", about=names, scores=images.mean(axis=(1, 2, 3)).astype(np.float32))
    endpoint = score_membership(scores, dict(zip(names, names, strict=True)), Candidates(cohort, coins))
    return MembershipTables.of([endpoint])


@pytest.mark.parametrize("confounded", [True, False])
def test_scores_that_are_only_the_scanner_are_called_confounded(confounded: bool) -> None:
    found = tables(confounded=confounded)
    assert (found.advantages()[0] > 0.9) is confounded
    assert _tells_apart(found.blind_advantage()) is confounded
