"""Evidence must be about every target: rounds of updates answer together, everything else by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leakaudit.attacks import EvidenceError, Images, Masks
from leakaudit.engine.cells.score import _complete

UPDATES = {"targets": [{"token": f"u{i}", "kind": "message"} for i in range(4)]}
SAMPLES = {"targets": [{"token": f"u{i}", "kind": "sample"} for i in range(4)]}


def images(about: tuple[str, ...], round_: int | None, **more: Any) -> Images:
    array = np.zeros((len(about), 1, 4, 4), dtype=np.float32)
    return Images(name=f"e@{round_}", channel="update", about=about, images=array, modalities=("t2",), round=round_, **more)


def masks(about: tuple[str, ...], round_: int | None) -> Masks:
    return Masks(name="m", channel="update", about=about, masks=np.zeros((len(about), 3, 4, 4), dtype=np.float32), round=round_)


def check(pieces: list[Any], attack: dict[str, Any] = UPDATES) -> None:
    for piece in pieces:
        _complete(piece, pieces, attack)


def test_rounds_cover_the_updates_together() -> None:
    check([images(("u0", "u1"), 0), images(("u2", "u3"), 4)])
    check([images(("u0", "u1", "u2", "u3"), None)])


@pytest.mark.parametrize(
    ("pieces", "missing"),
    [
        ([images(("u0", "u1"), 0), images(("u2",), 4)], 1),
        ([images(("u0", "u1"), 0)], 2),
        ([images(("u0", "u1"), None), images(("u2", "u3"), None)], 2),
        ([images(("u0", "u1"), 0), masks(("u2", "u3"), 4)], 2),
        ([images(("u0", "u1"), 0, seat="site-0"), images(("u2", "u3"), 4, seat="site-1")], 2),
        ([images(("u0", "u1"), 0), images(("u2", "u3"), None)], 2),
    ],
    ids=["one update", "one round", "no rounds named", "another type", "another seat", "one round named"],
)
def test_what_is_left_out_is_an_error(pieces: list[Any], missing: int) -> None:
    with pytest.raises(EvidenceError, match=f"says nothing about {missing} of 4 targets"):
        check(pieces)


def test_a_round_of_samples_answers_for_itself() -> None:
    with pytest.raises(EvidenceError, match="2 of 4"):
        check([images(("u0", "u1"), 0), images(("u2", "u3"), 4)], SAMPLES)
