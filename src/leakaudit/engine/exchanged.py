"""Who appears in whose place in the shuffled message set: whole updates, and the deployed model's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["rotation", "update_exchange"]


def update_exchange(kept: Sequence[Mapping[str, Any]], shuffled: bool) -> dict[int, int]:
    """Return in whose place each update of a recording appears, by number: in the shuffled set that of another site.

    Updates of one round change places; those that are alone in their rounds do so with one another.
    """
    updates = [i for i, e in enumerate(kept) if e["channel"] == "update" and not e["samples"]]
    if not shuffled:
        return {i: i for i in updates}
    rounds: dict[tuple[int, int], list[int]] = {}
    for i in updates:
        rounds.setdefault((kept[i]["round"], kept[i]["step"]), []).append(i)
    groups = [sorted(g, key=lambda i: str(kept[i]["sender"])) for g in rounds.values() if len(g) > 1]
    groups.append([i for g in rounds.values() if len(g) == 1 for i in g])
    return {i: place for g in groups for i, place in zip(g, g[1:] + g[:1], strict=True)}


def rotation(order: Sequence[str], rows: Mapping[str, Sequence[int]], seed: int) -> dict[str, str]:
    """Return for every candidate another one whose answers it gets in the shuffled set, with as many samples."""
    rng = np.random.default_rng(seed)
    shown: dict[str, str] = {}
    for size in sorted({len(r) for r in rows.values()}):
        group = [p for p in order if len(rows[p]) == size]
        mixed = [group[i] for i in rng.permutation(len(group))]
        shown.update(zip(mixed, mixed[1:] + mixed[:1], strict=True))
    return shown
