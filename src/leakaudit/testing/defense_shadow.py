"""Check of a defense's recipe for shadow models: it makes sense, and they learn by it as it says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import cast, get_args, get_type_hints

import torch
from torch import Tensor

from leakaudit.engine.plan import Baseline
from leakaudit.engine.reasons import sentence
from leakaudit.engine.shadow_lessons import Lessons, Pool
from leakaudit.engine.shadow_recipes import recipe_of
from leakaudit.engine.training import Trained
from leakaudit.plugins.params import DefenseParams, ShadowTraining, Victim
from leakaudit.testing.defense_trial import DefenseTrial, trial_of
from leakaudit.testing.results import UntriedError, ViolationError
from leakaudit.testing.stage import as_in_a_cell
from leakaudit.testing.subject import Subject

__all__ = ["shadow"]

_VICTIMS = ((1.0, 1), (0.25, 40), (0.01, 5000))
"""Sampling rates and steps that a recipe is asked for."""
_FAR = 0.1
"""How far a training may end from the undefended one, as a share of its way, if learning is said to be ordinary."""


def shadow(subject: Subject) -> None:
    """`shadow(victim)` is pure and gives a recipe that makes sense, by which shadow models learn."""
    trial, params = trial_of(subject), cast("DefenseParams", subject.params)
    given = False
    for baseline in trial.baselines:
        roles = dict.fromkeys(baseline.facts.seat(seat).role for seat in baseline.seats)
        recipes = [_recipe(params, Victim(facts=baseline.facts, role=r, rate=p, steps=n)) for r in roles for p, n in _VICTIMS]
        if None in recipes:
            continue
        given = True
        if all(recipe == ShadowTraining() for recipe in recipes):
            _is_ordinary(trial, baseline)
        else:
            _learns(trial, baseline)
    if not given:
        raise UntriedError("it gives no recipe for shadow models; attacks that use them do not count as adaptive")


def _recipe(params: DefenseParams, victim: Victim) -> ShadowTraining | None:
    """Return the recipe for one victim.

    Raises:
        ViolationError: It is none.
    """
    where = f"for a {victim.role} under {victim.facts.protocol} with rate {victim.rate:g} and {victim.steps} steps"
    try:
        first, second = params.shadow(victim), params.shadow(victim)
    except Exception as error:
        fix = "return None where there is no such recipe; the victim says all that a recipe may depend on."
        raise ViolationError(f"shadow() raised {where}: {sentence(error)}.", fix) from error
    if first != second:
        raise ViolationError(f"shadow() gave two answers {where}.", "make it depend on its parameters and the victim alone.")
    if first is None:
        return None
    if not isinstance(first, ShadowTraining):
        raise ViolationError(f"shadow() returned a {type(first).__name__} {where}.", "return a ShadowTraining, or None.")
    problem = _nonsense(first)
    if problem:
        raise ViolationError(
            f"shadow() gave {problem} {where}.", "read ShadowTraining's docstring; None is a recipe that is missing."
        )
    return first


def _nonsense(recipe: ShadowTraining) -> str | None:
    """Return what in a recipe has no meaning."""
    for name, least in (("clip", "above 0"), ("noise_multiplier", "0 or more")):
        value = getattr(recipe, name)
        if value is None and name == "clip":
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and name == "clip"):
            return f"{name} {value!r} (expected a finite number, {least})"
    if recipe.noise_multiplier and recipe.clip is None:
        return f"noise of {recipe.noise_multiplier:g} times a clip norm that it does not give"
    units = get_args(get_type_hints(ShadowTraining)["unit"])
    if recipe.unit not in units:
        return f"the unit {recipe.unit!r} (expected {' or '.join(units)})"
    for name in ("sends", "alone"):
        if not isinstance(getattr(recipe, name), bool):
            return f"{name} {getattr(recipe, name)!r} (expected true or false)"
    if recipe.alone and not recipe.sends:
        return "that shadow models learn alone, while nothing that they send passes through the defense (sends)"
    try:
        json.dumps(asdict(recipe))
    except TypeError:
        return "numbers that are not plain Python numbers"
    return None


def _is_ordinary(trial: DefenseTrial, baseline: Baseline) -> None:
    """Check that a training is what it is without the defense, since the recipe says so."""
    plain = next(b for b in trial.plan.baselines if b.protocol == baseline.protocol and b.defense == "none")
    ordinary = trial.training(plain)
    if ordinary.sampling != trial.training(baseline).sampling:
        return  # other batches: the two cannot be compared
    with as_in_a_cell():
        undefended = ordinary.run()
        still = ordinary.place(ordinary.protocol.facts.seats[0]).state()
    seat = ordinary.protocol.facts.seats[0].id
    moved = _apart(undefended.states[seat], still)
    away = max(_apart(a, b) for a, b in _pairs(trial.trained[baseline.protocol], undefended))
    if moved and away > _FAR * moved:
        raise ViolationError(
            f"the recipe says that learning stays as it is, but under {baseline.protocol} the defended training ended "
            f"{away / moved:.0%} of its way from where the undefended one ended.",
            "say what changes (clip, noise_multiplier, sends=True), or return None: shadow models would learn otherwise than the "
            "victim, and attacks would count as adaptive that are not.",
        )


def _learns(trial: DefenseTrial, baseline: Baseline) -> None:
    """Check that two shadow models at once learn by the recipe."""
    training = trial.training(baseline)
    recipe = recipe_of(training, defended=True)
    if recipe.without:
        return  # where it stands in the network, the engine has no use for the recipe, and says so
    fix = (
        "sends=True asks that outgoing() works inside torch.func.vmap: draw with torch.rand or torch.randn(generator=...), nothing "
        "in place, no .item(), no branch on values, and no tensor kept from one message for the next; where that cannot be, say "
        "alone=True too."
    )
    patients = training.members.patients
    try:
        with as_in_a_cell():
            lessons = Lessons(training, Pool(cohort=training.members), recipe, training.secret.branch("conformance"))
            states = lessons.learn(range(2), [patients, patients[: len(patients) // 2]])
    except Exception as error:
        raise ViolationError(
            f"shadow models cannot learn by its recipe under {baseline.protocol}: {sentence(error)}.", fix
        ) from error
    if not all(torch.isfinite(t).all() for state in states for t in state.values()):
        raise ViolationError(f"a shadow model under {baseline.protocol} ends with weights that are not finite.", fix)


def _pairs(first: Trained, second: Trained) -> list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]:
    return [(first.states[seat], second.states[seat]) for seat in second.states if second.states[seat]]


def _apart(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the distance of two states over the weights that both have; infinite where they differ in shape."""
    names = [k for k in second if second[k].is_floating_point()]
    if not names or any(k not in first or first[k].shape != second[k].shape for k in names):
        return math.inf if names else 0.0
    return float(torch.cat([(first[k] - second[k]).detach().cpu().flatten() for k in names]).norm())
