"""Cells of a planted control: the same attack where it must succeed if it works at all.

Where an attack finds little without any defense, two things are possible: it is broken, or the channel is quiet. A leak
planted on purpose tells them apart. It is planted once, in the first training: one is enough to see whether the attack works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

from pydantic import JsonValue, ValidationError

from leakaudit.cohorts.cohort import Split
from leakaudit.engine.plan import Planted
from leakaudit.engine.reasons import sentence
from leakaudit.engine.rows import Row
from leakaudit.engine.specs import as_json, plugin_spec
from leakaudit.facts import ProtocolFacts
from leakaudit.plugins.params import AttackParams
from leakaudit.recipes.resolved import AttackChoice
from leakaudit.threats import NotApplicable, Tap

__all__ = ["COPIES", "PLANTED", "Wanted", "plant", "repeated", "shallowest"]

COPIES = 10
"""How often a planted patient is in the training set."""
PLANTED = 16
"""Most attacked patients that are planted: enough to see a working attack by, and few enough that the training stays short."""


@dataclass(frozen=True, kw_only=True, order=True)
class Wanted:
    """A planted control that a judged undefended pairing asks for.

    Attributes:
        protocol: Label.
        attack: Label.
        way: As in `Planted`.
        channel: As in `Planted`.
        level: As in `Planted`.
    """

    protocol: str
    attack: str
    way: Literal["level", "repeat"]
    channel: str = ""
    level: str = ""


def shallowest(facts: ProtocolFacts, channel: str, seat: str | None) -> str | None:
    """Return the shallowest level of the cut that a channel carries from or to a seat (None: any seat), if it carries any."""
    role = None if seat is None else facts.seat(seat).role
    flows = [f for f in facts.flows if f.channel == channel and (role is None or role in (f.sender, f.receiver))]
    carried = {name for f in flows for name in (f.names or facts.levels)}
    return next((level for level in facts.levels if level in carried), None)


def repeated(split: Split, most: int) -> tuple[str, ...]:
    """Return the attacked patients that a planted training repeats: at most so many, spread evenly over all of them."""
    count = min(most, len(split.attacked))
    return tuple(split.attacked[i * len(split.attacked) // count] for i in range(count))


def plant(row: Row, choice: AttackChoice, wanted: Wanted, records: int) -> Planted:
    """Add the cells of a planted control to an undefended row; where that cannot be done, say why.

    Args:
        row: The undefended row.
        choice: The attack.
        wanted: What is to be planted.
        records: Training samples of the planted patients.
    """
    entry = Planted(**asdict(wanted))
    try:
        if wanted.way == "level":
            return _at_level(row, choice, entry)
        return _repeated(row, choice, entry, records)
    except Exception as error:  # noqa: BLE001 - the attack's own code; without a control the audited pairing still has a result
        return replace(entry, reason=f"the attack cannot be planned there: {sentence(error)}")


def _repeated(row: Row, choice: AttackChoice, entry: Planted, records: int) -> Planted:
    """Add a training in which the attacked members are repeated, and the same attack on it."""
    requires = row.requires(choice)
    if isinstance(requires, NotApplicable):
        return replace(entry, reason=requires.reason)
    more = 0 if requires.canaries is not None else records * (COPIES - 1)
    facts = replace(row.cohort, records=row.cohort.records + more)
    planted = {"planted": {"repeat": COPIES, "patients": PLANTED}, "cohort_facts": as_json(facts)}
    attacker = (choice, plugin_spec(choice.plugin, choice.params) | as_json(requires)) if requires.threat.alters else None
    train = row.train(0, attacker, planted)
    cell, score = row.attack(replace(choice, seeds=1), requires, train, 0)
    return replace(entry, train=train, cell=cell, score=score)


def _at_level(row: Row, choice: AttackChoice, entry: Planted) -> Planted:
    """Add the same attack with its taps moved to one level of the cut, on the audited training."""
    level = entry.level
    moved = replace(_moved(choice, row.facts.levels, level), label=f"{choice.label} planted on {level}", seeds=1)
    requires = row.requires(moved)
    if isinstance(requires, NotApplicable):
        return replace(entry, reason=requires.reason)
    requires = replace(requires, taps=tuple(_tap_at(tap, row.facts, entry) for tap in requires.taps))
    attacker = (moved, plugin_spec(moved.plugin, moved.params) | as_json(requires))
    train = row.train(0, attacker if requires.threat.alters else None)
    cell, score = row.attack(moved, requires, train, 0)
    return replace(entry, train=train, cell=cell, score=score)


def _moved(choice: AttackChoice, levels: Sequence[str], level: str) -> AttackChoice:
    """Return the attack with `level` wherever its parameters name a level of the cut; unchanged where they name none."""
    params = cast(AttackParams, choice.params)
    before = params.key()
    after = cast("dict[str, JsonValue]", _renamed(before, frozenset(levels), level))
    if after == before:
        return choice
    try:
        return replace(choice, params=type(params).model_validate(after))
    except ValidationError:
        return choice  # a parameter that only looks like a level; its taps are moved all the same


def _renamed(value: Any, levels: frozenset[str], level: str) -> Any:
    if isinstance(value, dict):
        return {k: _renamed(v, levels, level) for k, v in value.items()}
    if isinstance(value, list):
        items = [_renamed(v, levels, level) for v in value]
        named = {i for i, v in enumerate(value) if isinstance(v, str) and v in levels}
        # Several levels become one, not the same one several times.
        return [v for i, v in enumerate(items) if i not in named or i == min(named)]
    return level if isinstance(value, str) and value in levels else value


def _tap_at(tap: Tap, facts: ProtocolFacts, entry: Planted) -> Tap:
    """Return a tap on the channel in question narrowed to the shallowest level; others, and those on no level, as they are."""
    elsewhere = tap.names is not None and not set(tap.names) & set(facts.levels)
    return tap if tap.channel != entry.channel or elsewhere else replace(tap, names=(entry.level,))
