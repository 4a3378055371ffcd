"""A factory of realistic reports with any number of pairings, for the tests of the report room."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from itertools import product
from typing import Any

from leakaudit.report.images import encode_png
from leakaudit.report.model import Report
from leakaudit.report.words import with_sentences

FAMILIES = {
    "model-inversion": ("reconstruction", "activation", "fidelity"),
    "membership-loss": ("membership", "model", "membership"),
    "inpainting-inversion": ("reconstruction", "activation", "fidelity"),
    "gradient-matching": ("reconstruction", "update", "fidelity"),
    "label-from-gradient": ("label", "cut-gradient", "mask"),
}
SWAPS = {"federated": {"activation": "update", "cut-gradient": "model"}, "split": {"model": "activation", "update": "cut-gradient"}}
PATIENTS = 36


def reach(protocol: str, attack: str) -> tuple[str, str, str]:
    """Return family, channel and kind of an attack in a protocol."""
    family, channel, kind = FAMILIES[attack]
    return family, SWAPS[protocol].get(channel, channel), kind


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


def _leakage(rng: random.Random, center: float, half: float, kind: str) -> dict[str, Any]:
    patients = []
    if kind != "membership":
        values = [round(rng.gauss(center, 0.08), 3) for _ in range(PATIENTS)]
        center = sum(values) / len(values)
        patients = [{"patient": f"P-{rng.getrandbits(32):08x}", "value": v} for v in values]
    worst = (
        {"value": max(p["value"] for p in patients), "bound": 1 - 0.05 ** (1 / PATIENTS), "shuffled": 0.14} if patients else None
    )
    return {
        "value": round(center, 4),
        "ci": [round(center - half, 4), round(center + half, 4)],
        "scope": "these settings",
        "chance": 0.5 if kind == "membership" else 0.31,
        "chance_name": "a coin" if kind == "membership" else "auxiliary mean",
        "anchor": 1.0,
        "worst": worst,
        "patients": PATIENTS,
        "per_patient": patients,
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


def pairing(protocol: str, defense: str, attack: str, index: int, strength: float, images: bool) -> dict[str, Any]:
    """Build one pairing; `strength` in [0, 1] is how much the defense takes away."""
    rng = random.Random(f"{protocol}/{defense}/{attack}")
    family, channel, kind = reach(protocol, attack)
    center = (0.62 if kind == "fidelity" else 0.45) * (1 - strength) ** 1.6 + rng.uniform(-0.01, 0.02)
    half, limit = 0.035, 0.20 if kind == "membership" else 0.10
    leakage = _leakage(rng, center, half, kind)
    low, high = leakage["ci"]
    status, reasons = _status(defense, low, high, limit, index)
    endpoints: list[dict[str, Any]] = []
    if status not in ("ERROR", "N/A"):
        name = {"fidelity": "masked-ssim", "membership": "auc", "mask": "mask-dice"}[kind]
        raw = {
            "SSIM": {"value": round(0.31 + 0.69 * center, 3), "n": PATIENTS},
            "PSNR": {"value": round(14 + 10 * center, 1), "unit": "dB", "n": PATIENTS},
        }
        if kind == "membership":
            raw = {
                "AUC": {"value": round(0.5 + center / 2, 3), "n": PATIENTS},
                "TPR at 1 % FPR": {"value": None, "reason": "needs at least 100 non-members; there are 36"},
            }
        level = "level0" if channel == "activation" else None
        endpoints.append(
            {
                "name": name,
                "kind": kind,
                "channel": channel,
                "seat": "client-0",
                "level": level,
                "status": status,
                "limit": limit,
                "leakage": leakage,
                "raw": raw,
            }
        )
        if kind == "fidelity":
            rank = _leakage(rng, center * 0.9, 0.06, "fidelity")
            endpoints.append(
                {
                    **endpoints[0],
                    "name": "rank-1",
                    "kind": "identity",
                    "leakage": rank,
                    "raw": {
                        "rank-1": {
                            "value": round(max(0.0, center * 0.9), 3),
                            "unit": "of patients found first among 100",
                            "n": PATIENTS,
                        }
                    },
                }
            )
    pictures: list[dict[str, Any]] = []
    if images and kind == "fidelity" and endpoints:
        pictures = [
            {
                "patient": endpoints[0]["leakage"]["per_patient"][i]["patient"],
                "seat": "client-0",
                "level": "level0",
                "original": blob(i, 0),
                "reconstruction": blob(i, min(10, round(10 * strength) + 2)),
                "chance": blob(99, 10),
                "score": round(0.31 + 0.6 * center, 2),
            }
            for i in range(2)
        ]
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
        "controls": {
            "positive": {
                "value": 0.61,
                "ci": [0.55, 0.67],
                "n": PATIENTS,
                "criterion": "lower bound at least 0.30",
                "passed": True,
            },
            "negative": {
                "value": 0.01,
                "ci": [-0.02, 0.04],
                "n": PATIENTS,
                "criterion": "99.9 % lower bound at most 0.05",
                "passed": True,
            },
            "evidence_shuffle": {"value": 0.001, "n": PATIENTS, "criterion": "p value, 999 shuffles", "passed": True},
            "ratio": 0.27,
        }
        if endpoints
        else {},
        "leakage": {"endpoint": endpoints[0]["name"], "value": leakage["value"], "ci": leakage["ci"]}
        if endpoints
        else {"value": None, "reason": reasons[0]},
        "guarantee": guarantee() if defense.startswith("dp-sgd") else None,
        "claim": {"word": "NOT REFUTED", "epsilon": 3.1, "delta": 1e-3, "unit": "patient", "lower_bound": 0.4, "ceiling": 3.5}
        if defense.startswith("dp-sgd") and kind == "membership"
        else None,
        "cost": {"seconds": round(rng.uniform(2, 60), 1), "peak_memory_mb": 812.0},
        "images": pictures,
    }


def guarantee() -> dict[str, Any]:
    """Build a formal claim about the updates of two sites."""
    return {
        "mechanism": "DP-SGD, clip 1.0, noise 1.1",
        "unit": "patient",
        "neighbors": "add-or-remove",
        "releases": [["update", "site-0"], ["update", "site-1"]],
        "epsilon": 3.1,
        "delta": 1e-3,
        "accountant": "RDP (Opacus 1.5)",
        "conversion": "RDP to (epsilon, delta), improved",
        "sampling": "Poisson",
        "assumes": ["the noise stays secret"],
    }


def _baseline(protocol: str, defense: str, strength: float, pairings: list[dict[str, Any]]) -> dict[str, Any]:
    dice = round(0.86 - 0.22 * strength**2, 3)
    statuses = {p["status"] for p in pairings}
    status = "control" if defense == "none" else next((s for s in ("FAIL", "ERROR", "REVIEW", "PASS") if s in statuses), "N/A")
    utility = "control" if defense == "none" else "PASS" if strength < 0.4 else "FAIL"
    difference = (
        None if defense == "none" else {"value": round(dice - 0.86, 3), "ci": [round(dice - 0.89, 3), round(dice - 0.83, 3)]}
    )
    return {
        "protocol": protocol,
        "defense": defense,
        "status": status,
        "reasons": [r for p in pairings for r in p["reasons"]][:1],
        "utility": {
            "dice": {"WT": dice + 0.04, "TC": dice, "ET": None, "mean": dice},
            "hd95": {"WT": 6.1, "TC": 7.4},
            "ci": [dice - 0.02, dice + 0.02],
            "difference": difference,
            "n": 40,
            "status": utility,
            "reason": "No test patient has enhancing tumor, so ET has no Dice.",
        },
        "guarantee": guarantee() if defense.startswith("dp-sgd") else None,
        "traffic_bytes": 81_264_000,
        "seconds": 41.5,
        "not_dominated": defense != "none" and 0.3 < strength < 0.7,
    }


def _names(count: int) -> tuple[list[str], list[str], list[str]]:
    """Return protocols, defenses and attacks whose product has at least `count` members."""
    attacks = list(FAMILIES)[: 1 if count < 2 else 2 if count < 50 else 5]
    protocols = ["split", "federated"][: 1 if count < 2 else 2]
    wanted = math.ceil(count / len(attacks) / len(protocols))
    kinds = ["none", "gaussian-noise", "dropout", "dp-sgd"]
    defenses = [k if i < len(kinds) else f"{k}-{i // len(kinds)}" for i in range(wanted) for k in [kinds[i % len(kinds)]]]
    if wanted > len(kinds):
        defenses = [d for d in defenses if not d.startswith("none-")] + [f"chain-{i}" for i in range((wanted - 1) // len(kinds))]
    return protocols, defenses, attacks


def make_dict(count: int = 20, *, images: bool = True, synthetic: bool = True) -> dict[str, Any]:
    """Build `report.json` as plain data with exactly `count` pairings."""
    protocols, defenses, attacks = _names(count)
    strengths = {d: 0.0 if d == "none" else 0.15 + 0.75 * i / max(1, len(defenses)) for i, d in enumerate(defenses)}
    triples = list(product(protocols, defenses, attacks))[:count]
    pairings = [pairing(p, d, a, i, strengths[d], images) for i, (p, d, a) in enumerate(triples)]
    baselines = [
        _baseline(p, d, strengths[d], [q for q in pairings if (q["protocol"], q["defense"]) == (p, d)])
        for p, d in dict.fromkeys((p, d) for p, d, _ in triples)
    ]
    statuses = {p["status"] for p in pairings}
    verdict = next((s for s in ("FAIL", "ERROR", "REVIEW", "PASS") if s in statuses), "REVIEW")
    flows = {
        "split": [("activation", "client", "server"), ("cut-gradient", "server", "client"), ("label", "client", "server")],
        "federated": [("update", "site", "aggregator"), ("model", "aggregator", "site")],
    }
    return {
        "schema_version": "1.0",
        "leakaudit_version": "0.1.0",
        "created": "2026-11-20T14:03:00+00:00",
        "recipe": {"name": "Quickstart: phantom, split and federated", "sha256": "9f" * 32},
        "provenance": {
            "python": "3.11.9",
            "torch": "2.13.0",
            "device": "cpu",
            "threads": 2,
            "packages": {"monai": "1.5.1"},
            "plugins": [
                {"name": a, "kind": "attack", "distribution": "leakaudit-inversion", "version": "0.1.0", "ours": True}
                for a in attacks
            ],
        },
        "data": {
            "dataset": "phantom",
            "synthetic": synthetic,
            "modalities": ["flair", "t1"],
            "shape": [64, 64],
            "sites": 3,
            "patients": {"members": 80, "validation": 20, "test": 40, "non_members": 36, "auxiliary": 60},
            "sha256": "ab" * 32,
        },
        "verdict": {"status": verdict, "exit_code": {"PASS": 0, "FAIL": 3}.get(verdict, 4), "reasons": ["See the matrix."]},
        "policy": {
            "thresholds": [
                {"name": n, "value": v, "owner": "leakaudit default", "reason": "a convention, not a legal number"}
                for n, v in (
                    ("leakage_max", 0.1),
                    ("membership_max", 0.2),
                    ("patient_max", 0.3),
                    ("control_factor", 3),
                    ("min_patients", 36),
                    ("min_repeats", 3),
                    ("dice_margin", 0.05),
                )
            ],
            "required": {"activation": ["reconstruction"], "update": ["reconstruction"]},
            "candidates": [d for d in defenses if d != "none"][:3],
            "require": "any",
        },
        "limitations": ["Images are slices of 64 by 64 pixels; larger images may leak more detail."],
        "not_attacked": [
            {
                "protocol": p,
                "channel": "label" if p == "split" else "model",
                "family": None if p == "split" else "reconstruction",
                "reason": "no attack in the recipe",
            }
            for p in protocols
        ],
        "baselines": baselines,
        "pairings": pairings,
        "comparisons": [
            {
                "protocol": protocols[0],
                "a": defenses[1],
                "b": defenses[2],
                "leakage": {"value": 0.11, "ci": [0.05, 0.17]},
                "dice": {"value": 0.01, "ci": [-0.02, 0.04]},
                "outcome": "b beats a",
            }
        ]
        if len(defenses) > 2
        else [],
        "coverage": [
            {
                "protocol": p,
                "defense": d,
                "channel": c,
                "family": f,
                "required": f == "reconstruction",
                "state": "tested" if (c, f) in {reach(p, a)[1::-1] for a in attacks} else "not tested",
                "attacks": [a for a in attacks if reach(p, a)[1::-1] == (c, f)],
            }
            for p, d in dict.fromkeys((p, d) for p, d, _ in triples)
            for c, _, _ in flows[p]
            for f in ("reconstruction", "membership")
        ],
        "traffic": [
            {"protocol": p, "defense": "none", "channel": c, "sender": s, "receiver": r, "messages": 480, "bytes": 31_000_000}
            for p in protocols
            for c, s, r in flows[p]
        ],
        "alarms": [],
        "cells": {"computed": count * 3, "cached": 4, "failed": sum(p["status"] == "ERROR" for p in pairings), "seconds": 212.0},
        "errors": [
            {"cell": f"{p['protocol']} / {p['defense']} / {p['attack']}", "kind": "attack", "reason": p["reasons"][0]}
            for p in pairings
            if p["status"] == "ERROR"
        ],
        "sections": [
            {
                "title": "Scanner mix",
                "plugin": "scanner-mix",
                "paragraphs": ["Three scanners, evenly mixed."],
                "tables": [{"caption": "Scanners", "columns": ["scanner", "patients"], "rows": [["A", "70"], ["B", "66"]]}],
            }
        ],
    }


def make_report(count: int = 20, *, images: bool = True, synthetic: bool = True) -> Report:
    """Build a report with `count` pairings and its sentences."""
    return with_sentences(Report.model_validate(make_dict(count, images=images, synthetic=synthetic)))
