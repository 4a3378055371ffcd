"""Protocols in the report: how each trained, and which of them differ in exactly one number of a federation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from leakaudit.engine.plan import Plan
from leakaudit.facts import ProtocolFacts
from leakaudit.recipes.resolved import Choice, canonical_json
from leakaudit.report.protocols import Parameter, ProtocolSweep, SweepSetting, TrainedProtocol

__all__ = ["ProtocolWriter"]

_PLACES: dict[Parameter, tuple[str, ...]] = {
    "batch_size": ("training", "batch_size"), "local_steps": ("local_steps",), "local_epochs": ("local_epochs",),
    "rounds": ("rounds",),
}  # fmt: skip
"""Where the parameters of a protocol hold what may be swept."""


class ProtocolWriter:
    """Writes how protocols trained, and their sweeps.

    Args:
        plan: What was planned.
    """

    def __init__(self, plan: Plan) -> None:
        self._facts: dict[str, ProtocolFacts] = {b.protocol: b.facts for b in plan.baselines}
        self._choices: list[Choice] = [c for c in plan.recipe.protocols if c.label in self._facts]
        self._params = {c.label: _effective(c.params.model_dump(mode="json")) for c in self._choices}

    def protocols(self) -> list[TrainedProtocol]:
        """Return how each protocol trained, in the order of the recipe."""
        return [self._protocol(choice) for choice in self._choices]

    def sweeps(self) -> list[ProtocolSweep]:
        """Return the groups of protocols that send updates and are the same but for one parameter.

        Of protocols with the same value the first one counts. Two protocols whose numbers of local steps and of local passes
        are both stated differently differ in more than one parameter.
        """
        sending = [c for c in self._choices if "update" in self._facts[c.label].channels]
        return [sweep for parameter in get_args(Parameter) for sweep in self._sweeps(parameter, sending)]

    def _protocol(self, choice: Choice) -> TrainedProtocol:
        facts, params = self._facts[choice.label], self._params[choice.label]
        activation = _at(params, ("network", "activation"))
        numbers = {p: _number(_at(params, place)) for p, place in _PLACES.items() if p != "rounds"}
        return TrainedProtocol(
            protocol=choice.label, plugin=facts.protocol, rounds=facts.rounds, normalization=facts.normalization,
            activation=activation if isinstance(activation, str) else None, **numbers,
        )  # fmt: skip

    def _sweeps(self, parameter: Parameter, choices: list[Choice]) -> list[ProtocolSweep]:
        alike: dict[tuple[str, ...], dict[int, str]] = {}
        for choice in choices:
            params = self._params[choice.label]
            value = _number(_at(params, _PLACES[parameter]))
            if value is not None:
                rest = canonical_json(_without(params, _PLACES[parameter]))
                key = (choice.plugin.distribution, choice.plugin.info.name, rest)
                alike.setdefault(key, {}).setdefault(value, choice.label)
        return [
            ProtocolSweep(parameter=parameter, settings=[SweepSetting(protocol=p, value=v) for v, p in sorted(found.items())])
            for found in alike.values()
            if len(found) > 1
        ]


def _effective(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without the number of local passes where a number of local steps takes its place."""
    stepped = params.get("local_steps") is not None
    return {k: v for k, v in params.items() if not (stepped and k == "local_epochs")}


def _at(params: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    found: Any = params
    for name in place:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def _without(params: Mapping[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = place
    kept = {k: v for k, v in params.items() if k != first}
    return kept | {first: _without(params[first], tuple(rest))} if rest else kept
