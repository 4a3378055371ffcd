"""Why a network in whose updates attacks found little is no defense: said wherever a run could be read that way.

Rectifiers, instance normalization and pooling give a search for the image behind an update a bad landscape. They take no
information out of the update: a linear map learned on updates identifies patients all the same (Wu et al. 2023, arXiv 2210.10880,
learn such a map; leakaudit's own figures are in the package of its attacks on updates).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from leakaudit.report.model import Report
from leakaudit.report.pairings import Endpoint, Pairing
from leakaudit.report.phrases import listed, measured

__all__ = ["architecture_lines"]

_KINKED = ("relu", "leaky-relu", "prelu")
Found = list[tuple[Pairing, Endpoint]]


def architecture_lines(report: Report) -> list[str]:
    """Return one paragraph if a passive attack found little of the images in the undefended updates of some protocol, else none.

    Little is: no fidelity above the limit was shown. The paragraph says what of the architecture is known to hinder a search, and
    what a learned map, or whatever else identified patients, found in the same updates.
    """
    found: dict[str, list[Pairing]] = {}
    for pairing in report.pairings:
        if _counts(pairing):
            found.setdefault(pairing.protocol, []).append(pairing)
    # Where one search shows a leak, the quiet of another is no riddle of the architecture.
    unclear = {
        k: mine for k, mine in found.items() if not any(_of(p, "fidelity") and not _is_quiet(p) and not p.learned for p in mine)
    }
    quiet = {protocol: mine for protocol, pairings in unclear.items() if (mine := [p for p in pairings if _is_quiet(p)])}
    if not quiet:
        return []
    return [
        " ".join([_little(quiet), _hides_nothing(report, quiet), *_learned([p for protocol in quiet for p in found[protocol]])])
    ]


def _is_quiet(pairing: Pairing) -> bool:
    ends = _of(pairing, "fidelity")
    return bool(ends) and not any(_above(e, e.limit or 0.0) for e in ends)


def _counts(pairing: Pairing) -> bool:
    """Whether a pairing is a passive reconstruction from updates that nothing defends."""
    return pairing.defense == "none" and pairing.family == "reconstruction" and not pairing.threat.alters


def _of(pairing: Pairing, kind: str) -> list[Endpoint]:
    """Return the endpoints of one kind that were taken from updates and have a number."""
    return [e for e in pairing.endpoints if (e.channel, e.kind) == ("update", kind) and e.leakage.value is not None]


def _above(endpoint: Endpoint, bar: float) -> bool:
    leakage = endpoint.leakage
    return (leakage.ci[0] if leakage.ci else leakage.value or 0.0) > bar


def _largest(found: Found) -> tuple[Pairing, Endpoint]:
    return max(found, key=lambda pair: pair[1].leakage.value or 0.0)


def _said(endpoint: Endpoint) -> str:
    few = ", indicative" if isinstance(endpoint.leakage.patients, int) and endpoint.leakage.patients < 10 else ""
    return f"{endpoint.kind} leakage {measured(endpoint.leakage, endpoint.leakage.patients)}{few}"


def _little(quiet: Mapping[str, Sequence[Pairing]]) -> str:
    """Return which attacks found little, and the largest fidelity that they reached."""
    names = listed(dict.fromkeys(p.attack for pairings in quiet.values() for p in pairings))
    pairing, top = _largest([(p, e) for pairings in quiet.values() for p in pairings for e in _of(p, "fidelity")])
    several = f", the largest in {pairing.protocol}" if len(quiet) > 1 else ""
    return f"In undefended updates of {listed(quiet)}, {names} found little of the images ({_said(top)}{several})."


def _hides_nothing(report: Report, protocols: Collection[str]) -> str:
    """Return that an architecture is no defense, with what of these networks is known to hinder a search."""
    trained = [t for t in report.protocols if t.protocol in protocols]
    parts = dict.fromkeys(f"{t.normalization} normalization" for t in trained if t.normalization != "none")
    parts |= dict.fromkeys(f"rectifiers ({t.activation})" for t in trained if t.activation in _KINKED)
    here = f" (here: {listed(parts)})" if parts else ""
    return (
        f"The architecture is no defense: rectifiers, normalization and pooling{here} make the search for an image hard and hide "
        "nothing. A linear map of the same gradients can identify patients where a search fails, so low fidelity here says nothing "
        "about a learned map."
    )


def _learned(found: Sequence[Pairing]) -> list[str]:
    """Return what identified patients in the same updates, and what learned maps found; or that none was run."""
    lines = []
    identified = [(p, e) for p in found for e in _of(p, "identity") if _above(e, 0.0)]
    if identified:
        pairing, top = _largest(identified)
        name = f"{pairing.attack}, a learned map," if pairing.learned else pairing.attack
        lines.append(
            f"In this run {name} identified patients from updates of {pairing.protocol} more often than chance: {_said(top)}."
        )
    maps = [p for p in found if p.learned and p.endpoints]
    without = [p for p in dict.fromkeys(p.protocol for p in found) if p not in {m.protocol for m in maps}]
    if maps and not any(p.learned for p, _ in identified):
        ends = [(p, e) for p in maps for e in _of(p, "identity")] or [(p, e) for p in maps for e in _of(p, "fidelity")]
        said = f"; the most it reached: {_said(_largest(ends)[1])}" if ends else ""
        lines.append(f"A learned map was run and did not show that patients can be identified{said}. Another map may.")
    if without:
        lines.append(f"No learned map was run on updates of {listed(without)}.")
    return lines
