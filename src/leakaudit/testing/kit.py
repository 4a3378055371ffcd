"""The conformance kit: named checks of one installed plugin, in order, each on its own or all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leakaudit.engine.reasons import sentence
from leakaudit.errors import UserError, nearest
from leakaudit.plugins.descriptors import Kind
from leakaudit.plugins.manager import PluginManager, get_manager
from leakaudit.testing import attack, dataset, defense, defense_noise, defense_shadow, descriptor, protocol
from leakaudit.testing.results import CheckResult, ConformanceError, UntriedError, ViolationError
from leakaudit.testing.subject import Subject

__all__ = ["NamedCheck", "check", "check_attack", "check_dataset", "check_defense", "check_protocol", "checks"]


@dataclass(frozen=True, slots=True)
class _Check:
    """One check: what it does, and the checks that must have passed before it makes sense."""

    run: Callable[[Subject], None]
    after: tuple[str, ...] = ()


_COMMON = {
    "summary": _Check(descriptor.summary),
    "references": _Check(descriptor.references),
    "api-version": _Check(descriptor.api_version),
    "taxonomy": _Check(descriptor.taxonomy),
    "light": _Check(descriptor.light),
    "described": _Check(descriptor.described),
    "default-params": _Check(descriptor.default_params),
    "target": _Check(descriptor.target),
}
_READY = ("default-params", "target")

_CHECKS: dict[str, dict[str, _Check]] = {
    "attack": {
        "requires": _Check(attack.requires, ("default-params",)),
        "trains": _Check(attack.trains, (*_READY, "requires")),
        "passive": _Check(attack.passive, ("trains",)),
        "runs": _Check(attack.runs, ("trains", "passive")),
        "evidence": _Check(attack.evidence, ("runs",)),
        "scorable": _Check(attack.scorable, ("evidence",)),
        "deterministic": _Check(attack.deterministic, ("runs",)),
        "own-randomness": _Check(attack.own_randomness, ("deterministic",)),
    },
    "defense": {
        "needs": _Check(defense.needs, ("default-params",)),
        "trains": _Check(defense.trains, (*_READY, "needs")),
        "deterministic": _Check(defense.deterministic, ("trains",)),
        "own-randomness": _Check(defense.own_randomness, ("deterministic",)),
        "stochastic": _Check(defense.stochastic, ("own-randomness",)),
        "replica": _Check(defense.replica, ("trains",)),
        "guarantee": _Check(defense.guarantee, ("trains",)),
        "claim": _Check(defense.claim, ("trains",)),
        "noise": _Check(defense_noise.noise, ("guarantee",)),
        "sampling": _Check(defense_noise.sampling, ("guarantee",)),
        "empty-batches": _Check(defense.empty_batches, ("trains",)),
        "shadow": _Check(defense_shadow.shadow, ("trains",)),
    },
    "protocol": {
        "facts": _Check(protocol.facts, ("default-params",)),
        "trains": _Check(protocol.trains, (*_READY, "facts")),
        "flows": _Check(protocol.flows, ("trains",)),
        "deterministic": _Check(protocol.deterministic, ("trains",)),
        "predictor": _Check(protocol.predictor, ("trains",)),
        "replicas": _Check(protocol.replicas, ("trains",)),
        "riders": _Check(protocol.riders, ("deterministic",)),
    },
    "dataset": {
        "inventory": _Check(dataset.inventory, _READY),
        "light-inventory": _Check(dataset.light_inventory, ("inventory",)),
        "loads": _Check(dataset.loads, ("inventory",)),
        "z-scores": _Check(dataset.z_scores, ("loads",)),
        "background": _Check(dataset.background, ("loads",)),
        "repeatable": _Check(dataset.repeatable, ("loads",)),
    },
}


class _Suite:
    """All checks of one plugin; each runs once, after those it builds on."""

    def __init__(self, subject: Subject, expected: Mapping[str, str]) -> None:
        self.subject, self.expected = subject, expected
        self.checks = {**_COMMON, **_CHECKS.get(subject.plugin.info.kind, {})}
        self._results: dict[str, CheckResult] = {}
        for name, reason in expected.items():
            if name not in self.checks:
                raise UserError(f"expected_failures: there is no check {name!r}.{nearest(name, self.checks)}")
            if not reason.strip():
                raise UserError(f"expected_failures: say why {name!r} is expected to fail.")

    @property
    def who(self) -> str:
        """Kind and qualified name of the plugin."""
        return f"{self.subject.plugin.info.kind} {self.subject.plugin.qualified}"

    def result(self, name: str) -> CheckResult:
        """Return the result of a check, running it if it has not been run."""
        if name not in self._results:
            self._results[name] = self._expect(self._run(name))
        return self._results[name]

    def _run(self, name: str) -> CheckResult:
        for earlier in self.checks[name].after:
            before = self.result(earlier)
            if before.status in ("failed", "expected"):
                return CheckResult(name=name, status="not-tried", detail=f"it needs {earlier!r} to pass")
            if before.status == "not-tried" and earlier != "passive":
                return CheckResult(name=name, status="not-tried", detail=before.detail)
        try:
            self.checks[name].run(self.subject)
        except UntriedError as reason:
            return CheckResult(name=name, status="not-tried", detail=str(reason))
        except ViolationError as violation:
            return CheckResult(name=name, status="failed", detail=str(violation))
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is a finding about it
            return CheckResult(name=name, status="failed", detail=f"the check could not be made: {sentence(error)}.")
        return CheckResult(name=name, status="passed")

    def _expect(self, result: CheckResult) -> CheckResult:
        reason = self.expected.get(result.name)
        if reason is None or result.status == "not-tried":
            return result
        if result.status == "failed":
            return CheckResult(name=result.name, status="expected", detail=reason)
        detail = "it was expected to fail and passed. Fix: take it out of expected_failures."
        return CheckResult(name=result.name, status="failed", detail=detail)


class NamedCheck:
    """One check, for `pytest.mark.parametrize(..., checks(...), ids=str)`: call it.

    Args:
        suite: The suite it belongs to.
        name: The check.
    """

    def __init__(self, suite: _Suite, name: str) -> None:
        self._suite, self.name = suite, name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<check {self.name} of {self._suite.who}>"

    @property
    def summary(self) -> str:
        """What it checks, in one line."""
        return (self._suite.checks[self.name].run.__doc__ or "").strip().splitlines()[0]

    def __call__(self) -> CheckResult:
        """Run the check (and those it builds on, once).

        Raises:
            ConformanceError: It failed.
        """
        result = self._suite.result(self.name)
        if result.status == "failed":
            raise ConformanceError(self._suite.who, [result])
        return result


def checks(
    kind: Kind, name: str, *, examples: Sequence[Mapping[str, Any]] = (), expected_failures: Mapping[str, str] | None = None,
    manager: PluginManager | None = None,
) -> list[NamedCheck]:  # fmt: skip
    """Return the named checks of one installed plugin. Nothing is run yet.

    Args:
        kind: Kind of plugin.
        name: Its name, or `distribution/name`.
        examples: Parameters to try it with; the first is the one it is run with. By default those that the params model names in
            its JSON schema's `examples`, else its defaults.
        expected_failures: Reason for every check that may fail. A check that is listed here and passes is a failure.
        manager: Installed plugins; by default those of this environment.

    Raises:
        UserError: There is no such plugin or check.
    """
    subject = Subject((manager or get_manager()).find(kind, name), tuple(examples))
    suite = _Suite(subject, expected_failures or {})
    return [NamedCheck(suite, check_name) for check_name in suite.checks]


def check(
    kind: Kind, name: str, *, examples: Sequence[Mapping[str, Any]] = (), expected_failures: Mapping[str, str] | None = None,
    manager: PluginManager | None = None,
) -> list[CheckResult]:  # fmt: skip
    """Run all checks of one installed plugin; arguments as in `checks`.

    Raises:
        ConformanceError: At least one check failed; the message lists each with its fix.
        UserError: There is no such plugin or check.
    """
    named = checks(kind, name, examples=examples, expected_failures=expected_failures, manager=manager)
    results = [one._suite.result(one.name) for one in named]
    if any(r.status == "failed" for r in results):
        raise ConformanceError(named[0]._suite.who, results)
    return results


def check_attack(name: str, **options: Any) -> list[CheckResult]:
    """Run all checks of an attack; options as in `check`."""
    return check("attack", name, **options)


def check_defense(name: str, **options: Any) -> list[CheckResult]:
    """Run all checks of a defense; options as in `check`."""
    return check("defense", name, **options)


def check_protocol(name: str, **options: Any) -> list[CheckResult]:
    """Run all checks of a protocol; options as in `check`."""
    return check("protocol", name, **options)


def check_dataset(name: str, **options: Any) -> list[CheckResult]:
    """Run all checks of a dataset; options as in `check`."""
    return check("dataset", name, **options)
