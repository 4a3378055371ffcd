"""Cell `shadows`: models like the victim's, trained many at once on subsets of patients that an adversary can lay hands on.

They learn the victim's task with its optimizer, batch size, learning rate and number of passes (`engine.shadow_lessons`).
Defenses take part where they say how (`DefenseParams.shadow`). What was approximated or left out is noted in `shadows.json`.

One cell serves all attacks on a training that ask for the same: its key holds the training and `Shadows`, and no attack. The
engine deals the patients; who was in a shadow's training set is told to an attack by token, for the candidates and for the
patients that the adversary owns itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from leakaudit.engine.adversary import owned_cohort
from leakaudit.engine.cells.attack import candidates_of
from leakaudit.engine.cells.train import open_training
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.shadow_lessons import Lessons, Pool
from leakaudit.engine.shadow_recipes import Recipe, recipe_of
from leakaudit.engine.training import Training, join
from leakaudit.threats import Shadows
from leakaudit.wire.recording import write_tensors

__all__ = ["deal", "run"]


def deal(patients: Sequence[str], count: int, fraction: float, rng: np.random.Generator) -> list[list[str]]:
    """Return `count` subsets of equal size in which all patients are equally often (to within one).

    Patients are dealt from a shuffled deck, which is shuffled anew when it is used up. With half of an even number of patients
    in each, two consecutive subsets are complements of each other, so every patient is in exactly half of them.
    """
    size, deck, hands = max(1, round(fraction * len(patients))), list[str](), []
    for _ in range(count):
        hand: list[str] = []
        while len(hand) < size:
            if not deck:
                fresh = [patients[i] for i in rng.permutation(len(patients))]
                # Who has just been dealt into this hand waits at the end.
                deck = [p for p in fresh if p not in hand] + [p for p in fresh if p in hand]
            hand.append(deck.pop(0))
        hands.append(sorted(hand))
    return hands


def run(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Train the shadow models of a spec and store their states with the candidates in each."""
    training = open_training(spec, context)
    asked = Shadows(**spec["shadows"])
    pool = _pool(spec, context, training, asked)
    secret = training.secret.branch("shadows", asked.pool, spec["auxiliary"])
    rng = np.random.default_rng(secret.branch("coins").seed())
    hands = deal(sorted(set(pool.cohort.patients)), asked.count, asked.fraction, rng)
    recipe = recipe_of(training, defended=spec["defended"])
    lessons = Lessons(training, pool, recipe, secret)
    at_once = lessons.at_once(asked.count)
    folder = context.scratch / "shadows"
    folder.mkdir()
    for first in range(0, asked.count, at_once):
        numbers = range(first, min(first + at_once, asked.count))
        for m, state in zip(numbers, lessons.learn(numbers, [hands[m] for m in numbers]), strict=True):
            write_tensors(folder / _file(m), state)
        context.progress(numbers[-1] + 1, asked.count)
    known = {
        "members": [[p for p in hand if p in pool.candidates] for hand in hands],
        "own": [[p for p in hand if p not in pool.candidates] for hand in hands], "patients": len(set(pool.cohort.patients)),
        "of_pool": len(hands[0]), "at_once": at_once, "defended": not recipe.without, "without": recipe.without,
        "notes": _notes(training, recipe), "parts": [asdict(p) for p in recipe.parts], "sends": recipe.sends,
    }  # fmt: skip
    with context.store.write(context.job.key, {"kind": "shadows", "sensitive": True}) as entry:
        for path in sorted(folder.iterdir()):
            path.rename(entry / path.name)
        (entry / "shadows.json").write_text(json.dumps(known))
    return {"models": asked.count, "at_once": at_once}


def _file(number: int) -> str:
    return f"shadow-{number:04d}.safetensors"


def _pool(spec: Mapping[str, Any], context: Context, training: Training, asked: Shadows) -> Pool:
    owned = owned_cohort(training, spec["auxiliary"], training.secret.branch("shadows", "owned"))
    assert owned is not None
    if asked.pool == "auxiliary":
        return Pool(cohort=owned)
    candidates, _ = candidates_of(spec, context, training)
    if candidates is None:  # gradients, of which no shadow model could learn
        return Pool(cohort=owned)
    copies = spec["planted"]["repeat"] if spec.get("planted") else 1
    return Pool(cohort=join(owned, candidates), candidates=frozenset(candidates.patients), copies=copies)


def _notes(training: Training, recipe: Recipe) -> list[str]:
    """Return what was approximated."""
    notes = []
    match training.protocol.facts.protocol:
        case "split":
            notes.append("Shadow models are trained whole: split learning computes what centralized training computes.")
        case "federated":
            notes.append(
                "Shadow models are averaged over sites as the victim is; each site holds those of a model's patients that are its."
            )
    if len({s.site for s in training.members.samples}) > 1 and recipe.parts:
        notes.append("Where sites add different noise to their steps, the shadow models' sites all add the mean of it.")
    if recipe.sends:
        names = ", ".join(d["name"] for d in recipe.sends)
        notes.append(f"What a shadow model's seats would send passes through {names}, with randomness of its own.")
        if recipe.alone:
            notes.append("Each is trained alone, with defenses of its own, which learn on its patients or draw once for it.")
        elif training.protocol.facts.seats_of("client"):
            notes.append("A batch that is shorter than those beside it is filled up, which a noise scaled by the batch can tell.")
    if recipe.without:
        names = ", ".join(recipe.without)
        notes.append(
            f"Trained without {names}: it says not how shadow models learn under it here, adds to a loss that clipped steps take "
            "row by row, or is not known to the adversary."
        )
    return notes
