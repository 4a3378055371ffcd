"""A factory of realistic reports with any number of pairings, for the tests of the report room."""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

from factory_pairings import FAMILIES, guarantee, pairing, reach

from leakaudit.report.model import Report
from leakaudit.report.words import with_sentences

FLOWS = {
    "split": [("activation", "client", "server"), ("cut-gradient", "server", "client"), ("label", "client", "server")],
    "federated": [("update", "site", "aggregator"), ("model", "aggregator", "site")],
}
THRESHOLDS = (
    ("leakage_max", 0.1), ("membership_max", 0.2), ("patient_max", 0.3), ("tail_share", 0.1), ("tail_fail", 0.05),
    ("control_factor", 3), ("min_patients", 36), ("min_repeats", 3), ("dice_margin", 0.05),
)  # fmt: skip


def _by_kind(pairings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the strongest attack of each kind of leakage."""
    best: dict[str, dict[str, Any]] = {}
    for p in pairings:
        for e in p["endpoints"]:
            value = e["leakage"]["value"]
            if e["kind"] not in best or value > best[e["kind"]]["value"]:
                best[e["kind"]] = {
                    "kind": e["kind"], "value": value, "ci": e["leakage"]["ci"], "endpoint": e["name"], "attack": p["attack"],
                }  # fmt: skip
    return list(best.values())


def _baseline(protocol: str, defense: str, strength: float, pairings: list[dict[str, Any]]) -> dict[str, Any]:
    dice = round(0.86 - 0.22 * strength**2, 3)
    statuses = {p["status"] for p in pairings}
    status = "control" if defense == "none" else next((s for s in ("FAIL", "ERROR", "REVIEW", "PASS") if s in statuses), "N/A")
    utility = "control" if defense == "none" else "PASS" if strength < 0.4 else "FAIL"
    difference = (
        None if defense == "none" else {"value": round(dice - 0.86, 3), "ci": [round(dice - 0.89, 3), round(dice - 0.83, 3)]}
    )
    by_kind = _by_kind(pairings)
    return {
        "protocol": protocol,
        "defense": defense,
        "status": status,
        "reasons": [r for p in pairings for r in p["reasons"]][:1],
        "utility": {
            "dice": {"WT": round(dice + 0.04, 3), "TC": dice, "ET": None, "mean": dice},
            "hd95": {"WT": 6.1, "TC": 7.4, "ET": None},
            "ci": [round(dice - 0.02, 3), round(dice + 0.02, 3)],
            "difference": difference,
            "n": 40,
            "status": utility,
            "reason": "No test patient has enhancing tumor, so ET has no Dice.",
        },
        "strongest": max(by_kind, key=lambda s: s["value"], default=None),
        "by_kind": by_kind,
        "guarantee": guarantee() if defense.startswith("dp-sgd") else None,
        "traffic_bytes": 81_264_000,
        "seconds": 41.5,
    }


def _comparisons(baselines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare all defenses two by two, kind by kind: a difference of .1 counts where Dice differs by less than .05."""
    found = []
    for a, b in combinations(baselines, 2):
        if a["protocol"] != b["protocol"]:
            continue
        others = {s["kind"]: s for s in b["by_kind"]}
        for s in a["by_kind"]:
            if s["kind"] not in others:
                continue
            x = s["value"] - others[s["kind"]]["value"]
            y = a["utility"]["dice"]["mean"] - b["utility"]["dice"]["mean"]
            outcome = "not distinguishable"
            if abs(x) > 0.1:
                outcome = ("a beats b" if y > -0.05 else outcome) if x < 0 else ("b beats a" if y < 0.05 else outcome)
            found.append(
                {
                    "protocol": a["protocol"], "kind": s["kind"], "a": a["defense"], "b": b["defense"], "outcome": outcome,
                    "leakage": {"value": round(x, 4), "ci": [round(x - 0.08, 4), round(x + 0.08, 4)]},
                    "dice": {"value": round(y, 4), "ci": [round(y - 0.03, 4), round(y + 0.03, 4)]},
                }
            )  # fmt: skip
    return found


def _mark_dominated(baselines: list[dict[str, Any]], comparisons: list[dict[str, Any]]) -> None:
    beaten = {
        (c["protocol"], c["b"] if c["outcome"] == "a beats b" else c["a"])
        for c in comparisons
        if c["outcome"] != "not distinguishable"
    }
    for b in baselines:
        b["not_dominated"] = (b["protocol"], b["defense"]) not in beaten


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


def _equal_utility(protocol: str) -> list[dict[str, Any]]:
    curves = (("gaussian-noise", 0.24, ["none", "gaussian-noise"]), ("dropout", 0.38, ["none", "dropout"]))
    points = [{"defense": d, "settings": s, "leakage": {"value": v, "ci": [v - 0.06, v + 0.07]}} for d, v, s in curves]
    return [{"protocol": protocol, "kind": "fidelity", "dice": 0.82, "points": points}]


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
    comparisons = _comparisons(baselines)
    _mark_dominated(baselines, comparisons)
    statuses = {p["status"] for p in pairings}
    verdict = next((s for s in ("FAIL", "ERROR", "REVIEW", "PASS") if s in statuses), "REVIEW")
    reach_of = {(p, a): reach(p, a)[1::-1] for p in protocols for a in attacks}
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
                for n, v in THRESHOLDS
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
        "comparisons": comparisons,
        "equal_utility": _equal_utility(protocols[0]) if len(defenses) > 2 else [],
        "coverage": [
            {
                "protocol": p,
                "defense": d,
                "channel": c,
                "family": f,
                "required": f == "reconstruction",
                "state": "tested" if (c, f) in {reach_of[p, a] for a in attacks} else "not tested",
                "attacks": [a for a in attacks if reach_of[p, a] == (c, f)],
            }
            for p, d in dict.fromkeys((p, d) for p, d, _ in triples)
            for c, _, _ in FLOWS[p]
            for f in ("reconstruction", "membership")
        ],
        "traffic": [
            {"protocol": p, "defense": "none", "channel": c, "sender": s, "receiver": r, "messages": 480, "bytes": 31_000_000}
            for p in protocols
            for c, s, r in FLOWS[p]
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
