"""What happened in a federation beside its plan, in plain words: sites without members, sites that left, updates left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leakaudit.engine.plan import Plan

__all__ = ["happenings", "in_rounds", "sites_without_members", "unseated"]


def in_rounds(rounds: Sequence[int]) -> str:
    """Return rounds in words, neighbors together: `"round 2"`, `"rounds 0, 3 to 5"`."""
    runs: list[list[int]] = []
    for round_ in sorted(rounds):
        if runs and runs[-1][-1] == round_ - 1:
            runs[-1].append(round_)
        else:
            runs.append([round_])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"round{'' if len(rounds) == 1 else 's'} {', '.join(parts)}"


def happenings(trainings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what happened in the repeats of one training, one line each.

    Args:
        trainings: `train.json` of each repeat.
    """
    notes: list[Mapping[str, list[int]]] = [training.get("notes", {}) for training in trainings]
    lines = []
    for text in dict.fromkeys(text for mine in notes for text in mine):
        where = [mine.get(text, []) for mine in notes]
        if all(rounds == where[0] for rounds in where):
            lines.append(f"{in_rounds(where[0])}: {text}")
            continue
        parts = [f"repeat {i}, {in_rounds(rounds)}" for i, rounds in enumerate(where, start=1) if rounds]
        lines.append(f"{'; '.join(parts)}: {text}")
    return lines


def sites_without_members(plan: Plan) -> list[str]:
    """Return the sites of the data that have patients, but none to train on."""
    return sorted({entry.site for entry in plan.inventory.patients} - set(plan.cohort.sites))


def unseated(plan: Plan) -> str | None:
    """Return in words which sites a federation of this plan is without; None where it has them all, or there is none."""
    federations = list(dict.fromkeys(b.protocol for b in plan.baselines if any(s.site is not None for s in b.facts.seats)))
    empty = sites_without_members(plan)
    if not federations or not empty:
        return None
    without = f"No member at {', '.join(empty)}: left out of {', '.join(federations)}"
    return f"{without}, where only sites with patients to train on have a seat."
