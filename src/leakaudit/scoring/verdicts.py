"""The verdict of one pairing: N/A, ERROR, FAIL, REVIEW or PASS, the first that matches, with its reasons."""

from __future__ import annotations

import math

from leakaudit.scoring.policy import Policy
from leakaudit.scoring.rates import clopper_pearson, patients_for_rate, tail_bound
from leakaudit.scoring.results import EndpointResult, PairingResult, Verdict

__all__ = ["limit_of", "pairing_verdict", "patients_needed"]

FEW = 5
"""Below this many patients there are values only."""
SOME = 10
"""Below this many patients an interval is indicative: the mean cannot FAIL, the tail can."""
WORSE_THAN_GUESSING = -0.05

PASS_WORDS = "These attacks, on these patients, stayed below the limit. A stronger attack may not."
REVIEW_WORDS = "REVIEW is not a mild PASS: the evidence cannot decide."


def limit_of(endpoint: EndpointResult, policy: Policy) -> float:
    """Return the limit of an endpoint: leakage_max, or membership_max for membership and epsilon."""
    return policy.leakage_max.value if endpoint.kind == "leakage" else policy.membership_max.value


def patients_needed(policy: Policy) -> int:
    """Return the fewest patients for PASS: min_patients, or more where tail_share asks for it."""
    return max(math.ceil(policy.min_patients.value), patients_for_rate(policy.tail_share.value))


def pairing_verdict(pairing: PairingResult, policy: Policy) -> Verdict:
    """Judge one pairing. The result depends neither on the order of patients nor on that of endpoints.

    Args:
        pairing: Its numbers.
        policy: Limits.

    Returns:
        The first that matches: N/A, ERROR, (undefended: control), FAIL, REVIEW, PASS.
    """
    if pairing.not_applicable is not None:
        return Verdict(status="N/A", reasons=(pairing.not_applicable,))
    endpoints = sorted(pairing.endpoints, key=lambda e: (e.name, e.channel))
    if errors := _errors(pairing, endpoints):
        return Verdict(status="ERROR", reasons=tuple(errors))
    if pairing.undefended:
        return Verdict(status="control", reasons=("Without defense: this pairing is a control, never a gate.",))
    covers = frozenset((e.channel, e.family) for e in endpoints if pairing.adaptive and e.controlled)
    failures = [reason for e in endpoints for reason in _failures(e, policy)]
    if pairing.claim is not None and pairing.claim.outcome == "REFUTED":
        claim = pairing.claim
        failures.append(
            f"The claim of epsilon {claim.claimed:g} for {claim.covers} is refuted: at least {claim.bound:.2f} was shown."
        )
    if failures:
        return Verdict(status="FAIL", reasons=tuple(failures), covers=covers)
    doubts = _doubts(pairing, endpoints, policy)
    if doubts:
        return Verdict(status="REVIEW", reasons=(*doubts, REVIEW_WORDS), covers=covers)
    worst = tuple(_worst_words(e) for e in endpoints if e.per_patient)
    return Verdict(status="PASS", reasons=(PASS_WORDS, *worst), covers=covers)


def _errors(pairing: PairingResult, endpoints: list[EndpointResult]) -> list[str]:
    if pairing.error is not None:
        return [pairing.error]
    if not endpoints and pairing.claim is None:
        return ["The attack returned no evidence that could be scored."]
    reasons = []
    for e in endpoints:
        numbers = (e.value, e.fail_low, e.pass_high, *e.per_patient)
        if e.interval is not None:
            numbers += (e.interval.low, e.interval.high)
        unbounded = e.kind == "epsilon"
        if any(math.isnan(x) or (math.isinf(x) and not unbounded) for x in numbers if x is not None):
            reasons.append(f"{_title(e)}: a score is NaN or infinite.")
        elif e.resolvable and e.value is None:
            reasons.append(f"{_title(e)}: the leakage is missing.")
        if e.kind == "leakage" and e.resolvable and len(e.per_patient) != e.patients:
            reasons.append(f"{_title(e)}: {len(e.per_patient)} patient values for {e.patients} patients; nobody may be missing.")
        if e.negative is not None and not e.negative.passed:
            reasons.append(
                f"{_title(e)}: the attack finds {e.negative.value:.3f} in shuffled messages "
                f"(99.9 % lower bound {e.negative.low:.3f}), where nothing can be found. The audit itself leaks or is wrong."
            )
        if not e.controlled and e.planted is not None and e.planted.passed is False:
            reasons.append(f"{_title(e)}: attack broken. It finds only {e.planted.value:.3f} of a leak planted on purpose.")
    return reasons


def _failures(e: EndpointResult, policy: Policy) -> list[str]:
    reasons, limit = [], limit_of(e, policy)
    if not e.resolvable:
        return []  # noise over hardly any room: of a true .10 it makes anything from -.13 to .41
    if e.patients >= SOME and e.fail_low is not None and e.fail_low > limit:
        shown = "" if e.value is None else f" {e.value:.3f}"
        reasons.append(
            f"{_title(e)}: leakage{shown} is above the limit {limit:g}; even its lower bound, corrected for the number of "
            f"endpoints, is {e.fail_low:.3f}."
        )
    above = _above(e, policy)
    if len(e.per_patient) >= FEW and above:
        low = clopper_pearson(above, len(e.per_patient)).low
        if low > policy.tail_fail.value:
            reasons.append(
                f"{_title(e)}: {above} of {len(e.per_patient)} patients are above {_patient_limit(e, policy)}; at least "
                f"{100 * low:.0f} % of such patients must be, where {100 * policy.tail_fail.value:g} % are allowed."
            )
    return reasons


def _doubts(pairing: PairingResult, endpoints: list[EndpointResult], policy: Policy) -> list[str]:
    reasons = []
    gates = [e for e in endpoints if e.kind != "epsilon"]
    if gates and not pairing.adaptive:  # a canary shows what it shows, whatever the attacker knew
        reasons.append("The attack was not adaptive: the log shows no use of the defense's replica. Not evaluated.")
    if not pairing.converged:
        reasons.append("Training or attack did not converge: a longer one may leak more.")
    if pairing.claim is not None and pairing.claim.outcome == "UNTESTABLE":
        reasons.append(
            f"The claim of epsilon {pairing.claim.claimed:g} is untestable here. Epsilon covers {pairing.claim.covers} only; "
            f"the audit could have shown at most epsilon = {pairing.claim.ceiling:.2f}"
            + (f": {pairing.claim.reason}." if pairing.claim.reason else ".")
        )
    if not gates:
        reasons.append("An empirical epsilon can refute a claim, never pass one.")
    for e in gates:
        reasons += [f"{_title(e)}: {reason}" for reason in _endpoint_doubts(e, policy)]
    return reasons


def _endpoint_doubts(e: EndpointResult, policy: Policy) -> list[str]:
    limit, reasons = limit_of(e, policy), []
    if not e.resolvable:
        reasons.append("the metric cannot resolve: full recovery scores hardly better than chance.")
    if not e.controlled:
        reasons.append(_control_words(e, policy))
    if e.negative is None:
        reasons.append("no control with shuffled messages was run.")
    if e.patients < FEW:
        reasons.append(f"{e.patients} patients give values only; no interval can be trusted below {FEW}.")
    elif e.patients < patients_needed(policy):
        word = " The interval is indicative." if e.patients < SOME else ""
        if e.kind == "membership" and e.patients < SOME:
            word += " With so few, membership inference is a smoke test."
        reasons.append(f"{e.patients} patients are too few to pass; {patients_needed(policy)} are needed.{word}")
    if e.repeats < policy.min_repeats.value:
        count = "One training run" if e.repeats == 1 else f"{e.repeats} training runs"
        reasons.append(f"{count}: another may leak more. {policy.min_repeats.value:g} are needed to pass.")
    if e.pass_high is None and e.resolvable:
        reasons.append("there is no upper bound.")
    elif e.pass_high is not None and e.pass_high > limit:
        reasons.append(f"the upper bound {e.pass_high:.3f} is above the limit {limit:g}.")
    elif e.interval is not None and e.interval.high < WORSE_THAN_GUESSING:
        reasons.append(f"worse than guessing (upper bound {e.interval.high:.3f}): the attack is not adapted.")
    if above := _above(e, policy):
        reasons.append(
            f"{above} of {len(e.per_patient)} patients are above {_patient_limit(e, policy)}. {_worst_words(e)}{_bar_words(e)}"
        )
    if not e.stable:
        reasons.append("unstable: attack seeds differ by more than the limit.")
    if e.confounded:
        reached = "" if e.blind is None else f" (they reach {e.blind[0]:.3f})"
        reasons.append(f"confounded: site, scanner or intensity alone tell members apart{reached}.")
    return reasons


def _control_words(e: EndpointResult, policy: Policy) -> str:
    positive, planted = e.positive, e.planted
    if positive is None:
        why = "the attack was not run without defense, or on too few patients for an interval"
        return f"there is no positive control ({why}), so its failure means nothing."
    recovered = f"the attack recovered {positive.value:.3f} undefended (lower bound {positive.low:.3f})"
    if planted is not None and planted.passed:
        return f"{recovered}: nothing recovered; this run cannot tell a safe channel from a weak attack."
    words = f"{recovered}; below {policy.control_factor.value:g} times the limit its failure means nothing."
    if planted is not None:
        return f"{words} A planted leak, of which it found {planted.value:.3f} (lower bound {planted.low:.3f}), decides nothing."
    return words if e.no_planted is None else f"{words} No planted control: {e.no_planted}."


def _above(e: EndpointResult, policy: Policy) -> int:
    count = sum(value > policy.patient_max.value for value in e.per_patient)
    # With 32 fair coins 5 % of patients exceed .30, and one in a hundred is found in a gallery of a hundred.
    return min(count, e.above_bar) if e.coarse and e.above_bar is not None else count


def _patient_limit(e: EndpointResult, policy: Policy) -> str:
    also = " and above what evidence about others reaches" if e.coarse and e.above_bar is not None else ""
    return f"{policy.patient_max.value:g}{also}"


def _worst_words(e: EndpointResult) -> str:
    n = len(e.per_patient)
    return (
        f"Mean {math.fsum(e.per_patient) / n:.3f}; worst of {n} was {max(e.per_patient):.3f}; "
        f"up to {100 * tail_bound(n):.0f} % of such patients may be worse."
    )


def _bar_words(e: EndpointResult) -> str:
    if e.patient_bar is None or e.above_bar is None:
        return ""
    count = f"{e.above_bar} of {len(e.per_patient)} patients are above that"
    return f" Evidence about somebody else reaches {e.patient_bar:.3f}, and {count}."


def _title(e: EndpointResult) -> str:
    return f"{e.name} ({e.channel})"
