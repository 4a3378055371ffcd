"""Reports of a federation as plain data: updates of several rounds, protocols that differ in one number, a quiet search."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from factory import make_dict
from factory_pairings import endpoint, pairing

from leakaudit.report.model import Report
from leakaudit.report.words import with_sentences

MATCHING, INVERTER = "gradient-matching", "gradient-inverter"
BATCHES = {"fedsgd": 4, "batch-2": 2, "batch-1": 1}


def update_endpoint(
    kind: str, value: float, round_: int | None, *, half: float = 0.04, n: int = 36, many: bool = True
) -> dict[str, Any]:
    """Build an endpoint about updates with exactly this value and interval; below 5 patients it has no interval."""
    found = endpoint(random.Random(f"{kind}/{round_}"), kind, "update", value)
    suffix = f"@{round_}" if many and round_ is not None else ""
    found |= {"name": f"update/images{suffix} {kind}", "seat": None, "round": round_, "status": "control"}
    found["leakage"] |= {"value": value, "ci": [value - half, value + half] if n >= 5 else None, "patients": n, "per_patient": []}
    return found


def attack(protocol: str, defense: str, label: str, endpoints: Sequence[dict[str, Any]], *, repeats: int = 3) -> dict[str, Any]:
    """Build a pairing that reconstructs images from updates."""
    made = pairing("federated", defense, MATCHING, 0, 0.2, False)
    made |= {"protocol": protocol, "attack": label, "learned": label == INVERTER, "repeats": repeats, "images": []}
    made |= {"status": "control" if defense == "none" else "REVIEW", "reasons": [] if defense == "none" else ["n is small"]}
    top = endpoints[0]
    made["leakage"] = {"endpoint": top["name"], "kind": top["kind"], "value": top["leakage"]["value"], "ci": top["leakage"]["ci"]}
    return made | {"endpoints": list(endpoints)}


def trained(protocol: str, *, batch: int = 4, rounds: int = 9, **more: Any) -> dict[str, Any]:
    """Build how a protocol trained."""
    plain = {"plugin": "federated", "normalization": "instance", "activation": "leaky-relu", "local_epochs": 1}
    return {**plain, "protocol": protocol, "rounds": rounds, "batch_size": batch, **more}


def federation(
    pairings: Sequence[dict[str, Any]], protocols: Sequence[dict[str, Any]], sweeps: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Build `report.json` of a federation as plain data."""
    data = make_dict(1, images=False)
    first = data["baselines"][0]
    places = dict.fromkeys((p["protocol"], p["defense"]) for p in pairings)
    status = {True: "control", False: "REVIEW"}
    data["baselines"] = [first | {"protocol": p, "defense": d, "status": status[d == "none"], "strongest": None, "by_kind": []}
                         for p, d in places]  # fmt: skip
    data |= {"pairings": list(pairings), "protocols": list(protocols), "sweeps": [dict(s) for s in sweeps]}
    data |= {"comparisons": [], "equal_utility": [], "coverage": [], "traffic": [], "not_attacked": []}
    return data


def by_round(values: Mapping[str, Mapping[int, float]], *, label: str = MATCHING, **options: Any) -> list[dict[str, Any]]:
    """Build the pairings of one attack on `fedsgd`: fidelity of every round under each defense."""
    return [
        attack("fedsgd", d, label, [update_endpoint("fidelity", v, r, **options) for r, v in line.items()])
        for d, line in values.items()
    ]


def swept(values: Mapping[str, float], *, repeats: int = 3, **options: Any) -> dict[str, Any]:
    """Build a federation whose protocols differ in batch size, each attacked in its first round."""
    pairings = [
        attack(p, "none", MATCHING, [update_endpoint("fidelity", v, 0, many=False, **options)], repeats=repeats)
        for p, v in values.items()
    ]
    settings = sorted(({"protocol": p, "value": BATCHES[p]} for p in values), key=lambda s: s["value"])
    protocols = [trained(p, batch=BATCHES[p]) for p in values]
    return federation(pairings, protocols, [{"parameter": "batch_size", "settings": settings}])


def federation_report() -> Report:
    """Build a report with lines by round, defended and not, a sweep over batch sizes, and a warning about the architecture."""
    rounds = {"none": {0: 0.62, 4: 0.31, 8: 0.09}, "update-noise": {0: 0.20, 4: 0.18, 8: 0.17}}
    data = swept({"fedsgd": 0.05, "batch-2": 0.03, "batch-1": 0.02}, repeats=1)
    data["pairings"] += by_round(rounds, label="matching-by-round", n=12)
    data["pairings"].append(attack("fedsgd", "none", INVERTER, [update_endpoint("fidelity", 0.12, 0, many=False),
                                                               update_endpoint("identity", 0.9, 0, many=False)]))  # fmt: skip
    extra = data["baselines"][0] | {"defense": "update-noise", "status": "REVIEW"}
    data["baselines"].append(extra)
    return with_sentences(Report.model_validate(data))
