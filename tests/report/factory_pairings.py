"""Realistic pairings as plain data: every kind of endpoint, control, claim and missing value that a report can hold."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import Any

from leakaudit.report.images import encode_png

# Family, channel, and the kinds of its endpoints.
FAMILIES = {
    "model-inversion": ("reconstruction", "activation", ("fidelity", "identity")),
    "membership-loss": ("membership", "model", ("membership",)),
    "inpainting-inversion": ("reconstruction", "activation", ("fidelity", "identity")),
    "gradient-matching": ("reconstruction", "update", ("fidelity", "identity")),
    "label-from-gradient": ("label", "cut-gradient", ("mask",)),
}
SWAPS = {"federated": {"activation": "update", "cut-gradient": "model"}, "split": {"model": "activation", "update": "cut-gradient"}}
NAMES = {"fidelity": "masked-ssim", "identity": "rank-1", "membership": "auc", "mask": "mask-dice"}
PATIENTS = 36


def reach(protocol: str, attack: str) -> tuple[str, str, tuple[str, ...]]:
    """Return family, channel and kinds of an attack in a protocol."""
    family, channel, kinds = FAMILIES[attack]
    return family, SWAPS[protocol].get(channel, channel), kinds


@lru_cache
def blob(seed: int, tenths: int, size: int = 48) -> str:
    """Draw something like a head with a lesion as PNG; `tenths` in 0..10 takes detail away."""
    rng, blur = random.Random(seed), tenths / 10
    cx, cy, r = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65), rng.uniform(0.08, 0.16)
    rows = []
    for j in range(size):
        row = []
        for i in range(size):
            x, y = i / size, j / size
            inside = ((x - 0.5) / 0.4) ** 2 + ((y - 0.5) / 0.46) ** 2 < 1
            texture = 0.45 + 0.12 * math.sin(24 * x + 8 * math.sin(9 * y)) * (1 - blur)
            lesion = 0.45 * (1 - blur) * ((x - cx) ** 2 + (y - cy) ** 2 < r * r)
            row.append((texture + lesion + rng.gauss(0, 0.05 * blur)) if inside else 0.0)
        rows.append(row)
    return encode_png(rows)


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered, last = sorted(values), len(values) - 1
    at = {"low": 0.05, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "high": 0.95}
    return {name: round(ordered[round(share * last)], 4) for name, share in at.items()}


def leakage(rng: random.Random, center: float, half: float, kind: str) -> dict[str, Any]:
    """Build a leakage; membership has nothing by patient."""
    membership = kind == "membership"
    found: dict[str, Any] = {
        "scope": "3 trainings, 36 patients", "chance": 0.5 if membership else 0.31, "anchor": 1.0, "patients": PATIENTS,
        "chance_name": "coin toss" if membership else "auxiliary mean", "attack_seeds": 1 if membership else 3,
        "seed_spread": None if membership else 0.021,
    }  # fmt: skip
    if not membership:
        values = [round(rng.gauss(center, 0.08), 3) for _ in range(PATIENTS)]
        center, above = sum(values) / len(values), sum(v > 0.3 for v in values) / len(values)
        found |= {
            "per_patient": [{"patient": f"P-{rng.getrandbits(32):08x}", "value": v} for v in values],
            "quantiles": _quantiles(values),
            "above": {"value": round(above, 4), "ci": [max(0.0, round(above - 0.08, 4)), min(1.0, round(above + 0.1, 4))]},
            "worst": {
                "value": max(values), "bound": 1 - 0.05 ** (1 / PATIENTS), "shuffled": 0.14, "limit": 0.19,
                "above": sum(v > 0.19 for v in values),
            },
        }  # fmt: skip
    return found | {"value": round(center, 4), "ci": [round(center - half, 4), round(center + half, 4)]}


def controls(limit: float, p: float) -> dict[str, Any]:
    """Build the controls of one endpoint."""
    need = f"lower bound of the undefended leakage >= 3 x {limit:g}"
    return {
        "positive": {"value": 0.71, "ci": [0.65, 0.77], "n": PATIENTS, "criterion": need, "passed": True},
        "negative": {
            "value": 0.01, "ci": [-0.02, 0.04], "n": PATIENTS, "passed": True,
            "criterion": "99.9 % lower bound from shuffled messages <= 0.05",
        },
        "evidence_shuffle": {"p": p, "adjusted": min(1.0, 2 * p), "floor": 0.001, "possible": True, "n": PATIENTS},
        "ratio": 0.27,
    }  # fmt: skip


RAW: dict[str, Any] = {
    "fidelity": lambda x: {
        "masked SSIM": {"value": round(0.31 + 0.69 * x, 3), "n": PATIENTS},
        "psnr_db": {"value": round(14 + 10 * x, 1), "unit": "dB", "n": PATIENTS},
        "nmi": {"value": round(0.2 + 0.5 * max(0.0, x), 3), "n": PATIENTS},
    },
    "identity": lambda x: {"rank-1": {"value": round(max(0.0, x), 3), "unit": "of patients found first among 100", "n": PATIENTS}},
    "mask": lambda x: {"mask Dice": {"value": round(0.2 + 0.6 * x, 3), "n": PATIENTS}},
    "membership": lambda x: {
        "auc": {"value": round(0.5 + x / 2, 3), "n": PATIENTS},
        "balanced_accuracy": {"value": round(0.5 + x / 4, 3), "n": PATIENTS},
        "tpr_at_1_percent_fpr": {"value": None, "reason": "needs at least 100 non-members; there are 36"},
    },
}  # fmt: skip


def endpoint(rng: random.Random, kind: str, channel: str, center: float) -> dict[str, Any]:
    """Build one endpoint without its status."""
    limit = 0.20 if kind == "membership" else 0.10
    found = leakage(rng, center, 0.06 if kind == "identity" else 0.035, kind)
    membership = kind == "membership"
    return {
        "name": NAMES[kind],
        "kind": kind,
        "channel": channel,
        "seat": "client-0",
        "level": "level0" if channel == "activation" else None,
        "limit": limit,
        "leakage": found,
        "controls": controls(limit, 0.001 if found["value"] > 0.1 else 0.31),
        "blind": {"value": 0.06, "ci": [-0.09, 0.21]} if membership else None,
        "raw": RAW[kind](found["value"]),
    }


def _status(defense: str, low: float, high: float, limit: float, index: int) -> tuple[str, list[str]]:
    if defense == "none":
        return "control", []
    if index % 17 == 16:
        return "ERROR", ["The attack returned NaN for 3 of 36 patients."]
    if index % 23 == 22:
        return "N/A", ["The channel does not exist in this protocol."]
    if low > limit:
        return "FAIL", [f"The lower bound {low:.2f} lies above the limit {limit:.2f}."]
    if index % 7 == 6:
        return "REVIEW", ["The attack did not use the replica of the defense, so it is not adaptive."]
    if high > limit:
        return "REVIEW", [f"The interval {low:.2f} to {high:.2f} includes the limit {limit:.2f}."]
    return "PASS", []


def _pictures(endpoints: list[dict[str, Any]], strength: float) -> list[dict[str, Any]]:
    first = endpoints[0]["leakage"]
    return [
        {
            "patient": first["per_patient"][i]["patient"],
            "seat": "client-0",
            "level": "level0",
            "original": blob(i, 0),
            "reconstruction": blob(i, min(10, round(10 * strength) + 2)),
            "chance": blob(99, 10),
            "score": round(0.31 + 0.6 * first["value"], 2),
        }
        for i in range(2)
    ]


def pairing(protocol: str, defense: str, attack: str, index: int, strength: float, images: bool) -> dict[str, Any]:
    """Build one pairing; `strength` in [0, 1] is how much the defense takes away."""
    rng = random.Random(f"{protocol}/{defense}/{attack}")
    family, channel, kinds = reach(protocol, attack)
    center = (0.72 if kinds[0] == "fidelity" else 0.65) * (1 - strength) ** 1.6 + rng.uniform(-0.01, 0.02)
    endpoints = [endpoint(rng, kind, channel, center * (0.9 if kind == "identity" else 1.0)) for kind in kinds]
    low, high = endpoints[0]["leakage"]["ci"]
    status, reasons = _status(defense, low, high, endpoints[0]["limit"], index)
    for e in endpoints:
        e["status"] = status
    if status in ("ERROR", "N/A"):
        endpoints = []
    top = endpoints[0] if endpoints else None
    private = defense.startswith("dp-sgd")
    return {
        "protocol": protocol,
        "defense": defense,
        "attack": attack,
        "family": family,
        "status": status,
        "reasons": reasons,
        "repeats": 3,
        "threat": {
            "plays": ["server"],
            "alters": [],
            "channels": [channel],
            "knows": ["architecture", "defense"],
            "auxiliary": "same",
            "words": "The server, who only watches, sees " + channel + ", owns images of other "
            "patients from the same hospitals, and knows the network's architecture; the defense and its parameters.",
        },
        "adaptive": None if defense == "none" else index % 7 != 6,
        "isolation": "a process of its own",
        "endpoints": endpoints,
        "controls": top["controls"] if top else {},
        "leakage": {"endpoint": top["name"], "kind": top["kind"], "value": top["leakage"]["value"], "ci": top["leakage"]["ci"]}
        if top
        else {"value": None, "reason": reasons[0]},
        "guarantee": guarantee() if private else None,
        "claim": claim(protocol) if private and family == "membership" else None,
        "cost": {"seconds": round(rng.uniform(2, 60), 1), "peak_memory_mb": 812.0},
        "images": _pictures(endpoints, strength) if images and top and kinds[0] == "fidelity" else [],
    }


def claim(protocol: str) -> dict[str, Any]:
    """Build a tested claim: not refuted in one protocol, untestable in the other."""
    found: dict[str, Any] = {"epsilon": 3.1, "delta": 1e-3, "unit": "patient"}
    if protocol == "federated":
        return found | {"word": "NOT REFUTED", "lower_bound": 0.4, "ceiling": 3.5}
    return found | {"word": "UNTESTABLE", "lower_bound": 0.1, "ceiling": 2.25, "reason": "30 canaries are too few."}


def guarantee() -> dict[str, Any]:
    """Build a formal claim about the updates of two sites."""
    return {
        "mechanism": "DP-SGD: gradient of each patient clipped to 1, Gaussian noise 1.1 times that, 90 steps",
        "unit": "patient",
        "neighbors": "add-or-remove",
        "releases": [["update", "site-0"], ["update", "site-1"]],
        "epsilon": 3.1,
        "delta": 1e-3,
        "accountant": "RDP (Opacus 1.5)",
        "conversion": "RDP to (epsilon, delta), improved",
        "sampling": "Poisson over patients, rate 0.1",
        "sampling_assumed": "Poisson over patients",
        "assumes": ["the noise stays secret", "settings were not tuned on these patients"],
    }
