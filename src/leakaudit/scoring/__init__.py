"""Scoring: from evidence to leakage, intervals, controls and verdicts. Pure functions of arrays, without torch.

Names are imported from the modules below, so that reading a policy loads neither SciPy nor anything else heavy.
"""

__all__ = [
    "assignment",
    "canary",
    "chance",
    "checks",
    "controls",
    "epsilon",
    "families",
    "holdings",
    "identity",
    "images",
    "intervals",
    "leakage",
    "membership",
    "multiplicity",
    "outcome",
    "policy",
    "rates",
    "results",
    "segmentation",
    "verdicts",
]
