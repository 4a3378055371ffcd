"""The plain-language sentences of a report, worded against misreading (rules of evidence)."""

from __future__ import annotations

from collections import Counter

from leakaudit.report.base import Measured
from leakaudit.report.glossary import CHANNEL_WORDS
from leakaudit.report.model import Baseline, Report, Sentences, Traffic
from leakaudit.report.pairings import Endpoint, GuaranteeStatement, Pairing

__all__ = [
    "limit_of", "measured", "not_covered", "number", "pairing_name", "pairing_sentences", "plural", "verdict_sentence",
    "with_sentences", "worst_endpoint",
]  # fmt: skip

_UNITS_ABOVE = {
    "record": "a whole patient (several images of one person), or a whole hospital",
    "patient": "a whole hospital",
    "site": "nothing larger than one hospital",
}


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for people: fixed digits, a real minus sign, `not available` for None."""
    if value is None:
        return "not available"
    text = f"{value:.{digits}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "\u2212")


def plural(count: int, word: str, many: str | None = None) -> str:
    """Return `count` with the word in the right number."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def measured(part: Measured | None, n: int | None = None) -> str:
    """Return value, interval and n in one phrase; a missing value gives its reason."""
    if part is None:
        return "not available"
    if part.value is None:
        return f"not available ({part.reason})"
    details = [f"95 % interval {number(part.ci[0])} to {number(part.ci[1])}" if part.ci else "no interval"]
    if n is not None:
        details.append(plural(n, "patient"))
    return f"{number(part.value)} ({', '.join(details)})"


def pairing_name(pairing: Pairing) -> str:
    """Return the name of a pairing as a reader says it."""
    defense = "no defense" if pairing.defense == "none" else pairing.defense
    return f"{pairing.attack} against {pairing.protocol} with {defense}"


def worst_endpoint(pairing: Pairing) -> Endpoint | None:
    """Return the pairing's worst endpoint, None where it has none."""
    name = pairing.leakage.endpoint if pairing.leakage else None
    return next((e for e in pairing.endpoints if e.name == name), pairing.endpoints[0] if pairing.endpoints else None)


def limit_of(pairing: Pairing) -> float | None:
    """Return the limit of the pairing's worst endpoint."""
    endpoint = worst_endpoint(pairing)
    return endpoint.limit if endpoint else None


def pairing_sentences(pairing: Pairing, control_factor: float | None = None) -> list[str]:
    """Return what a pairing's numbers say, in words."""
    lines: list[str] = []
    for endpoint in pairing.endpoints:
        leakage, worst = endpoint.leakage, endpoint.leakage.worst
        if leakage.value is None:
            lines.append(f"{endpoint.name}: no value, because {leakage.reason}.")
            continue
        far = f"{endpoint.name}: the attack got {measured(leakage, leakage.patients)} of the way from guessing to full recovery"
        lines.append(far + (f"; the limit is {number(endpoint.limit)}." if endpoint.limit is not None else "."))
        if worst is not None:
            lines.append(
                f"Mean {number(leakage.value)}; worst of {leakage.patients} was {number(worst.value)}; "
                f"up to {100 * worst.bound:.0f} % of such patients may be worse."
            )
    positive = pairing.controls.positive
    if positive is not None and positive.value is not None and pairing.status != "control":
        floor = "if that is low," if control_factor is None else f"below {control_factor:g} times the limit"
        lines.append(f"The attack recovered {number(positive.value)} undefended; {floor} its failure means nothing.")
    if pairing.repeats == 1:
        lines.append("One training run: another may leak more.")
    if pairing.claim is not None:
        ceiling = "unknown" if pairing.claim.ceiling is None else number(pairing.claim.ceiling)
        lines.append(f"The formal claim is {pairing.claim.word}; the audit could have shown at most epsilon = {ceiling}.")
    return lines


def not_covered(guarantee: GuaranteeStatement, traffic: list[Traffic]) -> list[str]:
    """Return what a guarantee does not cover: channels on the wire that are not in its releases, and larger units.

    Args:
        guarantee: The claim.
        traffic: What crosses the wire in the same protocol.
    """
    released: dict[str, list[str]] = {}
    for channel, seat in guarantee.releases:
        released.setdefault(channel, []).append(seat)
    lines = []
    for channel in dict.fromkeys(t.channel for t in traffic):
        if channel in released:
            lines.append(f"channel {channel} of any seat other than {', '.join(released[channel])}")
        else:
            lines.append(f"channel {channel} ({CHANNEL_WORDS[channel]})")
    return [*lines, f"as a unit: {_UNITS_ABOVE[guarantee.unit]}"]


def verdict_sentence(report: Report) -> str:
    """Return the verdict of the whole run in one sentence or two."""
    status, gated = report.verdict.status, [p for p in report.pairings if p.status not in ("control", "N/A")]
    counts = Counter(p.status for p in gated)
    of = f"of {plural(len(gated), 'defended pairing')}"
    if not gated:
        return f"{status}: no verdict. No defended pairing was evaluated."
    if status == "PASS":
        return "PASS: these attacks, on these patients, stayed below the limit. A stronger attack may not."
    if status == "FAIL":
        failed = [p for p in gated if p.status == "FAIL" and p.leakage and p.leakage.value is not None]
        text = f"FAIL: {counts['FAIL']} {of} leaked more than the policy allows."
        if not failed:
            return text
        top = max(failed, key=lambda p: p.leakage.value if p.leakage and p.leakage.value is not None else 0.0)
        return f"{text} The strongest: {pairing_name(top)}, leakage {measured(top.leakage)}."
    if status == "REVIEW":
        return (
            f"REVIEW: no verdict. {counts['REVIEW']} {of} cannot be decided. REVIEW is not a mild PASS: the evidence cannot decide."
        )
    return f"ERROR: the audit is incomplete. {counts['ERROR']} {of} gave no result, and nothing is known about them."


def _not_attacked(report: Report) -> list[str]:
    lines = []
    for gap in report.not_attacked:
        what = f"{gap.channel} in {gap.protocol}" + (f", {gap.family} attacks" if gap.family else "")
        where = f" with {', '.join(gap.defenses)}" if gap.defenses else ""
        lines.append(f"{what}{where}: {gap.reason}")
    return lines


def _not_shown(report: Report) -> list[str]:
    repeats = min((p.repeats for p in report.pairings if p.status != "N/A"), default=0)
    tried = len({b.defense for b in report.baselines if b.defense != "none"})
    lines = ["What a stronger attack would find. Every figure is the least that leaks, never the most."]
    if report.data.synthetic:
        lines.append("Anything about your patients. Synthetic patients: this validates the procedure, not your data.")
    if repeats == 1:
        lines.append("What another training would leak. One training run: another may leak more.")
    elif repeats == 2:
        lines.append("What another training would leak. Two training runs are too few to tell.")
    many = "How many patients can be identified."
    lines.append(f"{many} Leakage .10 is not \u201c10 % of patients\u201d; identification is reported separately.")
    if any(b.guarantee for b in report.baselines) or any(p.guarantee for p in report.pairings):
        lines.append("Protection beyond a formal guarantee's own channel and unit: an epsilon covers nothing else.")
    if tried > 1:
        lines.append(
            f"How a defense chosen beforehand would do. {plural(tried, 'defense')} were tried; limits were tightened accordingly."
        )
    lines.append("Whether any law or standard is met. That is for the people who sign below.")
    return lines


def _defense_line(baseline: Baseline) -> str:
    name = "no defense" if baseline.defense == "none" else baseline.defense
    dice = number(baseline.utility.dice.get("mean"))
    text = f"{baseline.protocol} with {name}: privacy {baseline.status}, utility {baseline.utility.status} (mean Dice {dice})"
    return f"{text}. {baseline.reasons[0]}" if baseline.reasons else f"{text}."


def _against(report: Report) -> list[str]:
    lines = []
    if report.errors:
        lines.append(f"{plural(len(report.errors), 'cell')} failed; see Failures.")
    if report.not_attacked:
        lines.append(f"{plural(len(report.not_attacked), 'gap')} in what was attacked. Nothing is known about these channels.")
    for status in ("FAIL", "ERROR", "REVIEW"):
        lines += [_defense_line(b) for b in report.baselines if b.status == status]
    return lines + [_defense_line(b) for b in report.baselines if b.status == "PASS" and b.utility.status != "PASS"]


def with_sentences(report: Report) -> Report:
    """Return the report with its generated sentences, for the run and for every pairing. Existing ones are replaced."""
    factor = report.threshold("control_factor")
    pairings = [p.model_copy(update={"sentences": pairing_sentences(p, factor)}) for p in report.pairings]
    sentences = Sentences(
        verdict=verdict_sentence(report),
        not_attacked=_not_attacked(report),
        not_shown=_not_shown(report),
        for_release=[_defense_line(b) for b in report.baselines if b.status == "PASS" and b.utility.status == "PASS"],
        against_release=_against(report),
    )
    return report.model_copy(update={"pairings": pairings, "sentences": sentences})
