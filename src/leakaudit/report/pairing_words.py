"""The sentences about one pairing, worded against misreading (rules of evidence, section 8)."""

from __future__ import annotations

from leakaudit.report.pairings import Control, Endpoint, Pairing
from leakaudit.report.phrases import measured, number, percent
from leakaudit.report.statement import claim_sentence, tested

__all__ = ["ONE_RUN", "limit_of", "pairing_sentences", "worst_endpoint", "worst_of_each_kind"]

ONE_RUN = "One training run: another may leak more."


def worst_endpoint(pairing: Pairing) -> Endpoint | None:
    """Return the pairing's worst endpoint, None where it has none."""
    name = pairing.leakage.endpoint if pairing.leakage else None
    return next((e for e in pairing.endpoints if e.name == name), pairing.endpoints[0] if pairing.endpoints else None)


def limit_of(pairing: Pairing) -> float | None:
    """Return the limit of the pairing's worst endpoint."""
    endpoint = worst_endpoint(pairing)
    return endpoint.limit if endpoint else None


def worst_of_each_kind(pairing: Pairing) -> list[Endpoint]:
    """Return the worst endpoint of every kind (fidelity, identity, ...); one without a value only where no other has one."""
    worst: dict[str, Endpoint] = {}
    for endpoint in pairing.endpoints:
        best = worst.get(endpoint.kind)
        if best is None or _size(endpoint) > _size(best):
            worst[endpoint.kind] = endpoint
    return list(worst.values())


def _size(endpoint: Endpoint) -> float:
    value = endpoint.leakage.value
    return float("-inf") if value is None else value / (endpoint.limit or 1.0)


def pairing_sentences(pairing: Pairing, control_factor: float | None = None) -> list[str]:
    """Return what a pairing's numbers say, in words: of each kind of endpoint the worst.

    Args:
        pairing: The pairing.
        control_factor: How many times its limit an attack must reach undefended.
    """
    lines: list[str] = []
    for endpoint in worst_of_each_kind(pairing):
        lines += _endpoint_sentences(endpoint)
        positive = endpoint.controls.positive or pairing.controls.positive
        if positive is not None and pairing.defense != "none":
            lines += _control_sentence(endpoint, positive, control_factor)
    if pairing.repeats == 1:
        lines.append(ONE_RUN)
    if pairing.claim is not None:
        statement = tested(pairing.claim, pairing.guarantees)
        lines.append(f"The formal claim is {pairing.claim.word}. {claim_sentence(pairing.claim, statement)}")
    return list(dict.fromkeys(lines))


def _endpoint_sentences(endpoint: Endpoint) -> list[str]:
    leakage, worst = endpoint.leakage, endpoint.leakage.worst
    if leakage.value is None:
        return [f"{endpoint.name}: no value, because {(leakage.reason or 'none is stated').rstrip('.')}."]
    if endpoint.kind == "epsilon":
        return [_epsilon_sentence(endpoint)]
    far = f"{endpoint.name}: the attack got {measured(leakage, leakage.patients)} of the way from guessing to full recovery"
    lines = [far + (f"; the limit is {number(endpoint.limit)}." if endpoint.limit is not None else ".")]
    if worst is not None:
        lines.append(
            f"Mean {number(leakage.value)}; worst of {leakage.patients} was {number(worst.value)}; "
            f"up to {percent(worst.bound)} of such patients may be worse."
        )
    if endpoint.confounded:
        lines.append(f"{endpoint.name}: site and image intensity alone tell members apart, so this number is confounded.")
    return lines


def _control_sentence(endpoint: Endpoint, positive: Control, factor: float | None) -> list[str]:
    if positive.value is None:
        return []
    floor = "if that is low,"
    if factor is not None:
        limit = "" if endpoint.limit is None else f" ({number(factor * endpoint.limit)})"
        floor = f"below {factor:g} times the limit{limit}"
    return [f"The attack recovered {number(positive.value)} undefended; {floor} its failure means nothing."]


def _epsilon_sentence(endpoint: Endpoint) -> str:
    """Return what canaries show: a bound from below, and the most that could have been shown."""
    bound, ceiling = (endpoint.raw.get(name) for name in ("epsilon_lower_bound", "epsilon_ceiling"))
    shown = "no bound" if bound is None else f"an epsilon of at least {number(bound.value)}"
    most = "" if ceiling is None else f"; a perfect attack would have shown {number(ceiling.value)}"
    advantage = number(endpoint.leakage.value)
    return (
        f"{endpoint.name}: {endpoint.leakage.patients} canaries show {shown}{most}. As a membership advantage that is {advantage}."
    )
