"""From pairings to the run: verdicts of defenses, utility, candidates and protocols, and the exit code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.policy import FailOn, Policy
from leakaudit.scoring.results import Status, Verdict
from leakaudit.scoring.verdicts import PASS_WORDS, REVIEW_WORDS

__all__ = [
    "candidate_verdict",
    "defense_verdict",
    "exit_code",
    "protocol_verdict",
    "run_verdict",
    "uncovered",
    "utility_verdict",
]

_WORST_FIRST: tuple[Status, ...] = ("FAIL", "ERROR", "REVIEW", "PASS")
_BEST_FIRST: tuple[Status, ...] = ("PASS", "REVIEW", "ERROR", "FAIL")


def uncovered(verdicts: Iterable[Verdict], channels: Iterable[str], policy: Policy) -> tuple[tuple[str, str], ...]:
    """Return the (channel, family) pairs that the policy requires on these channels and no valid adaptive attack covers."""
    covered = {pair for verdict in verdicts if verdict.status not in ("ERROR", "N/A") for pair in verdict.covers}
    required = {(c, family) for c, families in policy.required.items() if c in set(channels) for family in families}
    return tuple(sorted(required - covered))


def defense_verdict(
    pairings: Mapping[str, Verdict], channels: Iterable[str], policy: Policy, *, required: Iterable[str] | None = None
) -> Verdict:
    """Judge one defense of one protocol.

    FAIL if any pairing fails; else ERROR if a required pairing is an ERROR; else REVIEW if any pairing is in REVIEW, an
    optional one is an ERROR, or a channel lacks a required attack family; else PASS, if at least one pairing passes.

    Args:
        pairings: Verdict of each attack on this defense, by the attack's label.
        channels: Channels of the protocol's wire.
        policy: Limits and required families.
        required: Labels of the attacks whose ERROR is an ERROR of the defense; None: all of them.
    """
    need = set(pairings) if required is None else set(required)
    by_status: dict[str, list[str]] = {}
    for attack in sorted(pairings):
        by_status.setdefault(pairings[attack].status, []).append(attack)
    gaps = uncovered(pairings.values(), channels, policy)
    not_attacked = tuple(
        f"Not attacked by a valid adaptive attack: {channel} by {family}. Nothing is known about it." for channel, family in gaps
    )
    errors = by_status.get("ERROR", [])
    if failed := by_status.get("FAIL"):
        return Verdict(status="FAIL", reasons=(f"Leaks shown by: {', '.join(failed)}.", *not_attacked))
    if broken := [attack for attack in errors if attack in need]:
        return Verdict(status="ERROR", reasons=(f"No result from: {', '.join(broken)}.", *not_attacked))
    doubts = [f"In review: {', '.join(by_status['REVIEW'])}."] if "REVIEW" in by_status else []
    if errors:
        doubts.append(f"No result from the optional: {', '.join(errors)}.")
    if not by_status.get("PASS") and not doubts:
        doubts.append("No attack was evaluated against this defense.")
    if doubts or not_attacked:
        return Verdict(status="REVIEW", reasons=(*doubts, *not_attacked, REVIEW_WORDS))
    return Verdict(status="PASS", reasons=(PASS_WORDS,))


def utility_verdict(difference: Interval | None, policy: Policy) -> Verdict:
    """Judge the paired Dice difference to the undefended model, by one-sided 95 % bounds; it never offsets privacy.

    Args:
        difference: Interval of defended - undefended at level .9 (`difference_interval`); None where Dice is missing.
        policy: The accepted loss.
    """
    margin = policy.dice_margin.value
    if difference is None:
        return Verdict(status="ERROR", reasons=("The Dice of the defended or the undefended model is missing.",))
    bounds = f"the Dice difference lies between {difference.low:+.3f} and {difference.high:+.3f}"
    if difference.low >= -margin:
        return Verdict(status="PASS", reasons=(f"Utility is kept: {bounds}; a loss of {margin:g} is accepted.",))
    if difference.high < -margin:
        return Verdict(status="FAIL", reasons=(f"Utility is lost: {bounds}; a loss of {margin:g} is accepted.",))
    return Verdict(status="REVIEW", reasons=(f"Utility is undecided: {bounds}, around the accepted loss of {margin:g}.",))


def candidate_verdict(privacy: Verdict, utility: Verdict) -> Verdict:
    """Return the worse of privacy and utility: PASS (acceptable) only where both pass."""
    worst = _first((privacy.status, utility.status), _WORST_FIRST)
    reasons = tuple(f"Privacy {privacy.status}: {r}" for r in privacy.reasons[:1])
    return Verdict(status=worst, reasons=reasons + tuple(f"Utility {utility.status}: {r}" for r in utility.reasons[:1]))


def protocol_verdict(defenses: Mapping[str, Verdict], policy: Policy) -> Verdict:
    """Judge a protocol over `policy.candidates` (all defenses where empty).

    `require: all`: the worst candidate. `require: any`: the best one, so FAIL only where every candidate fails.

    Args:
        defenses: Verdict of each defense (`candidate_verdict`) by label, without the undefended one.
        policy: Candidates and rule.
    """
    names = policy.candidates or tuple(sorted(defenses))
    missing = sorted(set(names) - set(defenses))
    if missing:
        return Verdict(status="ERROR", reasons=(f"No verdict for the candidate(s) {', '.join(missing)}.",))
    judged = {name: defenses[name] for name in sorted(set(names)) if defenses[name].status in _WORST_FIRST}
    if not judged:
        return Verdict(status="REVIEW", reasons=("No defense was evaluated.", REVIEW_WORDS))
    order = _WORST_FIRST if policy.require == "all" else _BEST_FIRST
    status = _first((v.status for v in judged.values()), order)
    deciding = [name for name, verdict in judged.items() if verdict.status == status]
    words = [f"{policy.require.capitalize()} of {len(judged)} candidates must be acceptable; {status}: {', '.join(deciding)}."]
    if len(judged) > 1:
        words.append(f"{len(judged)} defenses were tried; limits were tightened accordingly.")
    return Verdict(status=status, reasons=tuple(words))


def run_verdict(protocols: Mapping[str, Verdict], *, synthetic: bool = False) -> Verdict:
    """Return the worst protocol as the verdict of the run.

    Args:
        protocols: Verdict of each protocol by label.
        synthetic: Whether the patients are synthetic, which the reasons then say.
    """
    judged = {name: protocols[name] for name in sorted(protocols) if protocols[name].status in _WORST_FIRST}
    caveat = ("Synthetic patients: this validates the procedure, not your data.",) if synthetic else ()
    if not judged:
        return Verdict(status="REVIEW", reasons=("No protocol was evaluated.", REVIEW_WORDS, *caveat))
    status = _first((v.status for v in judged.values()), _WORST_FIRST)
    reasons = tuple(f"{name}: {r}" for name, v in judged.items() if v.status == status for r in v.reasons)
    return Verdict(status=status, reasons=(*reasons, *caveat))


def exit_code(status: Status, fail_on: FailOn = "review") -> int:
    """Return the exit code of a run: 0 PASS, 3 FAIL, 4 no verdict (REVIEW or incomplete).

    `fail_on`: `"review"` as said; `"fail"` keeps only the 3; `"never"` is always 0.
    """
    if fail_on == "never" or status == "PASS":
        return 0
    if status == "FAIL":
        return 3
    return 4 if fail_on == "review" else 0


def _first(statuses: Iterable[Status], order: tuple[Status, ...]) -> Status:
    # Anything else (N/A, control) is no verdict, and no verdict is a REVIEW.
    present = {status if status in order else "REVIEW" for status in statuses}
    return next((status for status in order if status in present), "REVIEW")
