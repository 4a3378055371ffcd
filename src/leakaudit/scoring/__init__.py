"""Scoring: from evidence to leakage, intervals, controls and verdicts. Pure functions of arrays, without torch.

Names are imported from the modules below, so that reading a policy loads neither SciPy nor anything else heavy.
"""

__all__ = [
    "assignment",
    "blind",
    "canary",
    "chance",
    "checks",
    "comparison",
    "contenders",
    "controls",
    "differences",
    "epsilon",
    "exchange",
    "families",
    "holdings",
    "identity",
    "images",
    "intervals",
    "leakage",
    "membership",
    "membership_choice",
    "multiplicity",
    "outcome",
    "paired",
    "permutation",
    "policy",
    "rates",
    "results",
    "segmentation",
    "strongest",
    "sweeps",
    "thresholds",
    "verdicts",
]
