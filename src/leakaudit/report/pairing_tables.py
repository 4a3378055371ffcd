"""The tables of one pairing: its endpoints, what their numbers rest on, how they spread over patients, and the controls.

Written as strings and not by templates: a report may have a thousand pairings, and every value here is escaped or a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from leakaudit.report.base import Measured
from leakaudit.report.pairings import Control, Controls, Endpoint, Pairing, RawValue, ShuffleTest
from leakaudit.report.phrases import number, percent, plural, probability, whereabouts
from leakaudit.report.pieces import missing, result, status, value
from leakaudit.report.trainings import Information
from leakaudit.report.vocabulary import raw_name

__all__ = ["basis_table", "controls_table", "endpoints_table", "fine", "informed", "patient_values", "spread_table"]


_SHORT = 6
"""Longest unit that follows its number without brackets."""

_ERRORS = ("mse", "mse_of_chance")
"""Raw scores that can be small and are compared with 1/dFIL, so that two digits after the point may say nothing."""


def _table(caption: str, heads: Sequence[str], rows: Sequence[str], kind: str = "") -> Markup:
    """Return a table in a box that scrolls; a head that starts with `#` is of a column of numbers."""
    head = "".join(f'<th scope="col" class="n">{h[1:]}</th>' if h.startswith("#") else f'<th scope="col">{h}</th>' for h in heads)
    label = escape(caption.split(".")[0])
    css = f' class="{kind}"' if kind else ""
    box = f'<div class="scroll" role="group" aria-label="{label}" tabindex="0">'
    return Markup(
        f"{box}<table{css}><caption><span>{escape(caption)}</span></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    """Return a row; a cell that starts with `#` is a number."""
    tail = "".join(f'<td class="n">{c[1:]}</td>' if c.startswith("#") else f"<td>{c}</td>" for c in cells)
    return f'<tr><th scope="row">{name}</th>{tail}</tr>'


def endpoints_table(pairing: Pairing) -> Markup:
    """Return what each endpoint shows: status, leakage, limit, worst patient, and what the interval speaks of."""
    heads = ("Endpoint", "Status", "Where", "#Leakage", "#Limit", "#n", "Worst patient", "Above the limit for one patient", "Scope")
    rows = []
    for e in pairing.endpoints:
        limit = "none" if e.limit is None else number(e.limit)
        where = f"{e.channel}<small>{escape(', '.join(whereabouts(e)))}</small>"
        cells = (status(e.status), where, f"#{value(e.leakage)}", f"#{limit}", f"#{e.leakage.patients}", _worst(e), _above(e))
        rows.append(_row(f"{escape(e.name)}<small>{e.kind}</small>", (*cells, str(escape(e.leakage.scope)))))
    return _table("Endpoints. Leakage from chance (0) to full recovery (1), 95 % interval", heads, rows, "wide")


def _worst(endpoint: Endpoint) -> str:
    worst = endpoint.leakage.worst
    if worst is None:
        return missing("no value by patient")
    notes = [f"up to {percent(worst.bound)} of such patients may be worse"]
    if worst.shuffled is not None:
        notes.append(f"from shuffled messages {number(worst.shuffled)}")
    if worst.limit is not None:
        count = "unknown how many" if worst.above is None else f"{worst.above} of {endpoint.leakage.patients}"
        notes.append(f"{count} beyond {number(worst.limit)}, which other patients\u2019 evidence hardly reaches")
    return f"{number(worst.value)}<small>{'; '.join(notes)}</small>"


def _above(endpoint: Endpoint) -> str:
    above = endpoint.leakage.above
    if above is None:
        return missing("not by patient")
    if above.value is None:
        return missing(f"not available: {above.reason}")
    bounds = f"<small>95 % interval {percent(above.ci[0])} to {percent(above.ci[1])}</small>" if above.ci else ""
    return f"{percent(above.value)} of {endpoint.leakage.patients}{bounds}"


def basis_table(pairing: Pairing, information: Mapping[str, Information] | None = None) -> Markup:
    """Return what the numbers rest on: chance, full recovery, runs of the attack, blind baseline, scores in their own units.

    Args:
        pairing: The pairing.
        information: Fisher information of what each seat sends in this training, by seat.
    """
    blind = any(e.blind is not None or e.confounded for e in pairing.endpoints)
    extra = ["Blind baseline"] if blind else []
    heads = ("Endpoint", "Chance score", "#Full recovery", "Runs of the attack", *extra, "In its own units")
    rows = []
    for e in pairing.endpoints:
        leakage = e.leakage
        chance = missing("none") if leakage.chance is None else number(leakage.chance)
        guess = f"<small>{escape(leakage.chance_name)}</small>" if leakage.chance_name else ""
        anchor = missing("none") if leakage.anchor is None else number(leakage.anchor)
        cells = [f"{chance}{guess}", f"#{anchor}", _seeds(e), *([_blind(e)] if blind else [])]
        scores = [_raw(name, r) for name, r in e.raw.items()]
        bound = informed(e, information or {})
        if bound is not None:
            scores.insert(list(e.raw).index("mse") + 1, _bound(e.raw["mse"], bound))
        cells.append("<br>".join(scores) or missing("none"))
        rows.append(_row(str(escape(e.name)), cells))
    return _table("What the numbers rest on", heads, rows)


def informed(endpoint: Endpoint, information: Mapping[str, Information]) -> Information | None:
    """Return the Fisher information that bounds an endpoint's MSE; None where it speaks of something else.

    It is of activations, of one seat, and in the unit of the mean squared error.
    """
    if endpoint.channel != "activation" or "mse" not in endpoint.raw:
        return None
    return information.get(endpoint.seat or "")


def _bound(error: RawValue, bound: Information) -> str:
    """Return the least MSE of an unbiased attacker, and whether this attack lies below it."""
    below = error.value is not None and bound.mse.value is not None and error.value < bound.mse.value
    note = "; this attack lies below it, so it is biased or saw more messages" if below else ""
    return f"least MSE of an unbiased attacker with one message (1/dFIL) {fine(bound.mse)}{note}"


def fine(part: Measured) -> Markup:
    """Return a value with its interval and as many digits as its first two that are not zero need."""
    return value(part, _digits(part.value))


def _digits(number_: float | None) -> int:
    """Return digits after the point, at least two."""
    size = abs(number_ or 0.0)
    return 2 if size == 0 or size >= 0.1 else 1 - math.floor(math.log10(size))


def _seeds(endpoint: Endpoint) -> str:
    leakage = endpoint.leakage
    if leakage.attack_seeds == 1:
        return "1"
    spread = "spread unknown" if leakage.seed_spread is None else f"largest minus smallest leakage {number(leakage.seed_spread)}"
    return f"{leakage.attack_seeds}<small>{spread}</small>"


def _blind(endpoint: Endpoint) -> str:
    if endpoint.blind is None:
        return missing("not made" if endpoint.kind == "membership" else "not for this kind")
    word = "confounded: it tells members apart" if endpoint.confounded else "does not tell members apart"
    return f"{value(endpoint.blind)}<small>{word}</small>"


def _raw(name: str, raw: RawValue) -> str:
    head = f"{escape(raw_name(name))} "
    n = f", n\u00a0=\u00a0{raw.n}" if raw.n is not None else ""
    if raw.value is None:
        reason = str(raw.reason)
        return head + missing((reason if reason.startswith("not ") else f"not resolvable: {reason}") + n)
    # A short unit follows its number (dB, mm); a longer one explains it.
    unit = f" {escape(raw.unit)}" if len(raw.unit) <= _SHORT else f" ({escape(raw.unit)})"
    # A count (a gallery of 100) has no decimals; an error keeps two digits that are not zero.
    counted = raw.value >= 2 and raw.value.is_integer() and raw.ci is None and (not raw.unit or len(raw.unit) > _SHORT)
    digits = 0 if counted else _digits(raw.value) if name in _ERRORS else 2
    return f"{head}{value(raw, digits)}{unit if raw.unit else ''}{n}"


def spread_table(pairing: Pairing) -> Markup:
    """Return the table twin of the strips: how leakage spreads over patients."""
    shown = [e for e in pairing.endpoints if e.leakage.quantiles is not None]
    if not shown:
        return Markup("")
    heads = ("Endpoint", "#n", "#Mean", "#5 %", "#25 %", "#Median", "#75 %", "#95 %", "#Worst")
    rows = []
    for e in shown:
        q, worst = e.leakage.quantiles, e.leakage.worst
        numbers = [] if q is None else [q.low, q.quarter, q.median, q.three_quarters, q.high]
        cells = [f"#{e.leakage.patients}", *(f"#{number(v)}" for v in [e.leakage.value, *numbers, worst.value if worst else None])]
        rows.append(_row(str(escape(e.name)), cells))
    return _table("Leakage by patient. Quantiles over patients", heads, rows)


def controls_table(pairing: Pairing) -> Markup:
    """Return the controls of every endpoint; those of the pairing where its endpoints have none of their own."""
    rows = []
    sources: list[tuple[str, Controls]] = [(e.name, e.controls) for e in pairing.endpoints if e.controls != Controls()]
    for name, c in sources or [("all", pairing.controls)]:
        every = [
            ("without defense (positive)", _control(c.positive)),
            ("shuffled messages (negative)", _control(c.negative, "99.9 % interval")),
            ("shuffled evidence", _shuffle(c.evidence_shuffle)),
            ("planted leak", _control(c.planted)),
        ]
        every = every[1:] if pairing.defense == "none" else every
        made = [(label, cells) for label, cells in every if cells]
        absent = ", ".join(label for label, cells in every if not cells)
        note = f"<small>not made: {absent}</small>" if absent else ""
        for i, (label, cells) in enumerate(made or [("none", '<td colspan="4"></td>')]):
            head = f'<th scope="rowgroup" rowspan="{len(made) or 1}">{escape(name)}{note}</th>' if i == 0 else ""
            rows.append(f"<tr>{head}<td>{label}</td>{cells}</tr>")
    return _table("Controls", ("Endpoint", "Control", "Result", "#Value", "#n", "Criterion"), rows)


def _control(control: Control | None, level: str = "") -> str:
    if control is None:
        return ""
    note = f"<small>{level}</small>" if level and control.ci else ""
    n = missing("none") if control.n is None else str(control.n)
    return (
        f'<td>{result(control.passed)}</td><td class="n">{value(control)}{note}</td><td class="n">{n}</td>'
        f"<td>{_signs(control.criterion)}</td>"
    )


def _signs(criterion: str) -> str:
    """Return a criterion with the signs that people write."""
    return str(escape(criterion.replace(">=", "\u2265").replace("<=", "\u2264").replace(" x ", " \u00d7 ")))


def _shuffle(test: ShuffleTest | None) -> str:
    """Return the permutation test. It has no criterion to meet: a defense that works makes it fail."""
    if test is None:
        return ""
    p = test.p if test.adjusted is None else test.adjusted
    word = "not possible" if not test.possible else "about its own patient" if p <= 0.05 else "not told from chance"
    adjusted = "" if test.adjusted is None else f"<small>adjusted {probability(test.adjusted)}</small>"
    allow = "allows" if test.n == 1 else "allow"
    note = f"p value; the smallest that {plural(test.n, 'patient')} {allow} is {probability(test.floor)}"
    return f'<td>{word}</td><td class="n">p {probability(test.p)}{adjusted}</td><td class="n">{test.n}</td><td>{note}</td>'


def patient_values(endpoint: Endpoint) -> Markup:
    """Return pseudonym and leakage of every patient, the worst first."""
    ordered = sorted(endpoint.leakage.per_patient, key=lambda p: -p.value)
    return Markup("<br>".join([f"{p.patient} {number(p.value)}" for p in ordered]))
