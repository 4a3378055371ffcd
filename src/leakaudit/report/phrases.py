"""Small phrases that every part of a report is made of: numbers, intervals, names and lists, the same wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leakaudit.report.base import Count, Measured
from leakaudit.report.pairings import Endpoint, Pairing
from leakaudit.report.trainings import NotAttacked

__all__ = [
    "defense_name",
    "gap_name",
    "interval",
    "listed",
    "measured",
    "number",
    "pairing_name",
    "percent",
    "place",
    "plural",
    "probability",
    "whereabouts",
]

_MINUS = "\u2212"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for people: fixed digits, a real minus sign, `not available` for None."""
    if value is None:
        return "not available"
    text = f"{value:.{digits}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", _MINUS)


def percent(share: float) -> str:
    """Return a share in [0, 1] as percent: whole from 10 % on, otherwise with one decimal where there is one."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{f'{value:.1f}'.removesuffix('.0')} %"


def probability(value: float) -> str:
    """Return a p value: three decimals, and `below .001` instead of a zero that it is not."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def interval(bounds: Sequence[float] | None, digits: int = 2) -> str:
    """Return an interval as text."""
    return f"{number(bounds[0], digits)} to {number(bounds[1], digits)}" if bounds else "none"


def plural(count: int, word: str, many: str | None = None) -> str:
    """Return `count` with the word in the right number."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def listed(words: Iterable[str], last: str = "and") -> str:
    """Return words as `a, b and c`; `none` where there are none."""
    found = list(words)
    return f"{', '.join(found[:-1])} {last} {found[-1]}" if len(found) > 1 else found[0] if found else "none"


def measured(part: Measured | None, n: Count | None = None, *, canaries: bool = False) -> str:
    """Return value, interval and n in one phrase; a missing value gives its reason. `canaries` says what n counts."""
    if part is None:
        return "not available"
    if part.value is None:
        return f"not available ({part.reason})"
    details = [f"95 % interval {interval(part.ci)}" if part.ci else "no interval"]
    if n is not None:
        word, many = ("canary", "canaries") if canaries else ("patient", "patients")
        details.append(plural(n, word, many) if isinstance(n, int) else f"{n} {many}")
    return f"{number(part.value)} ({', '.join(details)})"


def defense_name(defense: str) -> str:
    """Return a defense's label as a reader says it."""
    return "no defense" if defense == "none" else defense


def gap_name(gap: NotAttacked) -> str:
    """Return what was not attacked: channel, protocol, family of attacks, and the defenses where it is not all."""
    what = f"{gap.channel} in {gap.protocol}" + (f", {gap.family} attacks" if gap.family else "")
    return what + (f" with {listed(gap.defenses)}" if gap.defenses else "")


def pairing_name(pairing: Pairing) -> str:
    """Return the name of a pairing as a reader says it."""
    return f"{pairing.attack} against {pairing.protocol} with {defense_name(pairing.defense)}"


def place(endpoint: Endpoint) -> str:
    """Return where an endpoint was taken: channel, seat, level, round."""
    return ", ".join([endpoint.channel, *whereabouts(endpoint)])


def whereabouts(endpoint: Endpoint) -> list[str]:
    """Return seat, level and round of an endpoint; a level and a round only where they are stated."""
    level = [endpoint.level] if endpoint.level else []
    return [endpoint.seat or "all seats", *level, *([f"round {endpoint.round}"] if endpoint.round is not None else [])]
