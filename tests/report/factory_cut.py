"""Reports of split learning as plain data: four clients, every level of the cut, rounds, detectors and Fisher information."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from factory import make_dict
from factory_pairings import endpoint, pairing

from leakaudit.report.model import Report
from leakaudit.report.words import with_sentences

MODALITIES = ("flair", "t1", "t1ce", "t2")
LEVELS = ("level0", "level1", "level2", "level3", "level4")
ATTACKS = ("model-inversion", "inpainting-inversion")
SCRUTINIZER = "gradient-scrutinizer"


def _at(defense: str, attack: str, seat: str, level: str | None, round_: int | None, strength: float) -> dict[str, Any]:
    """Build the endpoint of one attack on one seat and level; deeper levels leak less, later rounds more."""
    depth = LEVELS.index(level) if level in LEVELS else 0
    rng = random.Random(f"{defense}/{attack}/{seat}/{level}/{round_}")
    ripe = 1.0 if round_ is None else 0.5 + 0.05 * min(round_, 10)
    center = (0.92 - 0.22 * depth) * (1 - strength) * ripe + rng.uniform(-0.04, 0.04)
    found = endpoint(rng, "fidelity", "activation", center)
    suffix = "" if round_ is None else f"@{round_}"
    found |= {"name": f"{seat}/{level or 'joint'}{suffix} fidelity", "seat": seat, "level": level, "round": round_}
    found["raw"] = {
        "ssim": {"value": 0.61, "n": 36},
        "mse": {"value": 0.0141, "unit": "", "n": 36},
        "psnr": {"value": 18.5, "unit": "dB", "n": 36},
    }
    found["leakage"]["per_patient"] = []
    return found


def cut_dict(*, defenses: int = 3, rounds: Sequence[int | None] = (None,), seats: bool = True) -> dict[str, Any]:
    """Build `report.json` of a split protocol as plain data.

    Args:
        defenses: How many trainings besides the undefended one.
        rounds: Rounds that the first attack reports; the others report the last messages only.
        seats: Whether the report says who holds what.
    """
    data = make_dict(1, images=False)
    labels = ["none", *[f"gaussian-noise-{i}" for i in range(1, defenses + 1)]]
    pairings = []
    for i, defense in enumerate(labels):
        strength = i / max(1, defenses + 1)
        for attack in ATTACKS:
            made = pairing("split", defense, attack, 0, strength, False)
            made["endpoints"] = [
                _at(defense, attack, f"client-{c}", level, round_, strength) | {"status": made["status"]}
                for c in range(4)
                for round_ in (rounds if attack == ATTACKS[0] else (None,))
                for level in (*LEVELS, *([None] if attack == ATTACKS[0] else []))
            ]
            made["leakage"] |= {"endpoint": made["endpoints"][0]["name"]}
            pairings.append(made)
    first = data["baselines"][0]
    data["pairings"] = pairings
    data["baselines"] = [first | {"defense": d, "status": "control" if d == "none" else "REVIEW"} for d in labels]
    data["baselines"][-1]["information"] = [
        {"seat": "client-0", "dfil": {"value": 41.7}, "mse": {"value": 0.02398}, "images": 8},
        {"seat": "client-1", "dfil": {"value": 120.0}, "mse": {"value": 0.008333}, "images": 8},
    ]
    held = [
        {"protocol": "split", "seat": f"client-{i}", "role": "client", "modalities": [m], "levels": list(LEVELS)}
        for i, m in enumerate(MODALITIES)
    ]
    data["seats"] = [*held, {"protocol": "split", "seat": "server", "role": "server", "labels": True}] if seats else []
    return data


def rate(alarms: int, trainings: int) -> dict[str, Any]:
    """Build a rate with the Clopper-Pearson interval of 0 of 3, 1 of 3 or 3 of 3."""
    bounds = {0: [0.0, 0.708], 1: [0.008, 0.906], 3: [0.292, 1.0]}
    return {"value": alarms / trainings, "ci": bounds[alarms]}


def with_detections(data: dict[str, Any]) -> dict[str, Any]:
    """Add a watching defense: one false alarm, one attack always noticed, one never."""
    for attack in ("fsha", "sdar"):
        p = pairing("split", SCRUTINIZER, ATTACKS[0], 0, 0.3, False) | {"attack": attack}
        p["endpoints"] = [_at(SCRUTINIZER, p["attack"], "client-0", "level0", None, 0.4) | {"status": p["status"]}]
        p["leakage"] |= {"endpoint": p["endpoints"][0]["name"]}
        p["threat"] |= {"alters": ["replies"]}
        data["pairings"].append(p)
    data["baselines"].append(data["baselines"][0] | {"defense": SCRUTINIZER, "status": "REVIEW"})
    place = {"protocol": "split", "defense": SCRUTINIZER, "trainings": 3}
    data["detections"] = [
        place | {"attack": "fsha", "alarms": 3, "rate": rate(3, 3), "batches": [12, 16, 41], "planned": 240},
        place | {"attack": None, "alarms": 1, "rate": rate(1, 3), "batches": [77], "planned": 240},
        place | {"attack": "sdar", "alarms": 0, "rate": rate(0, 3)},
    ]
    data["alarms"] = [
        {"protocol": "split", "defense": SCRUTINIZER, "attack": "fsha", "seat": "client-0", "round": 0, "text": "gradients apart"}
    ]
    return data


def cut_report(**options: Any) -> Report:
    """Build a report of split learning with detections and its sentences."""
    return with_sentences(Report.model_validate(with_detections(cut_dict(**options))))
