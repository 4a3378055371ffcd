"""Runs without cells: score files written by hand into a store, and judged by the real code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from leakaudit.attacks import Images
from leakaudit.engine.endpoints import Endpoint, Ground
from leakaudit.engine.plan import Baseline, Pairing, Plan
from leakaudit.engine.results import Results, judge
from leakaudit.engine.store import RunStore
from leakaudit.facts import CohortFacts
from leakaudit.plugins import AttackInfo, AttackParams, DatasetInfo
from leakaudit.plugins.params import DatasetParams
from leakaudit.protocols.params import FederatedParams, SplitParams
from leakaudit.scoring.policy import Policy
from leakaudit.threats import Requires, ThreatModel

COHORT = CohortFacts(
    modalities=("flair", "t1", "t1ce", "t2"), shape=(64, 64), members=40, auxiliary=20, sites=("site-0", "site-1"), records=80
)
CHANNELS = {"reconstruction": ("activation",), "membership": ("output",), "label": ("cut-gradient",), "identity": ("update",)}


class Run:
    """A run to be judged.

    Args:
        root: Where its store lies.
        families: Family of each attack by its label.
        defenses: Labels beside `"none"`.
        repeats: Trainings of each.
    """

    def __init__(
        self, root: Path, families: Mapping[str, Any], defenses: Sequence[str] = (), repeats: int = 1, protocol: str = "split"
    ) -> None:
        self.store, self.families, self.repeats, self.protocol = RunStore(root), dict(families), repeats, protocol
        params = SplitParams() if protocol == "split" else FederatedParams()
        self.facts = params.facts(COHORT)
        self.baselines: list[Baseline] = []
        self.pairings: list[Pairing] = []
        for defense in ("none", *defenses):
            self.baselines.append(
                Baseline(protocol=protocol, defense=defense, facts=self.facts, trains=tuple(self._train(defense)))
            )

    def _train(self, defense: str) -> list[str]:
        rng = np.random.default_rng(len(defense))
        dice = [rng.uniform(0.7, 0.8, (12, 3)).tolist() for _ in range(self.repeats)]
        return [self._write(f"train/{defense}/{repeat}", "train.json", train(rows)) for repeat, rows in enumerate(dice)]

    def _write(self, name: str, file: str, content: Any) -> str:
        key = "".join(f"{ord(c):02x}" for c in name)[-64:].rjust(64, "0")
        with self.store.write(key, {"kind": "test", "sensitive": True}) as folder:
            (folder / file).write_text(json.dumps(content))
        return key

    def add(self, attack: str, defense: str, repeats: Sequence[Sequence[Mapping[str, Any]]], *, adaptive: bool = True) -> None:
        """Add a pairing with the pieces of evidence of each repeat (`piece`)."""
        place = f"{attack}/{defense}"
        scores, attacks = [], []
        for repeat, pieces in enumerate(repeats):
            replica = {"seat": "client-0", "calls": int(adaptive), "defended": adaptive}
            attacks.append(self._write(f"attack/{place}/{repeat}", "attack.json", {"replicas": [replica], "sandbox": "landlock"}))
            scores.append(self._write(f"score/{place}/{repeat}", "score.json", {"evidence": list(pieces)}))
        channels = CHANNELS[self.families[attack]]
        threat = ThreatModel(plays=("outsider",), channels=channels, auxiliary="same")
        trains = next(b.trains for b in self.baselines if b.defense == defense)
        self.pairings.append(
            Pairing(
                protocol=self.protocol, defense=defense, attack=attack, requires=Requires(threat=threat, taps=()), trains=trains,
                attacks=tuple(attacks), scores=tuple(scores), defended=("client-0",),
            )
        )  # fmt: skip

    def fail(self, attack: str, defense: str) -> None:
        """Add a pairing whose cells left nothing."""
        trains = next(b.trains for b in self.baselines if b.defense == defense)
        lost = ("f" * 64,) * len(trains)
        self.pairings.append(
            Pairing(protocol=self.protocol, defense=defense, attack=attack, trains=trains, attacks=lost, scores=lost)
        )

    def plan(self, order: Sequence[int] | None = None) -> Plan:
        attacks = [SimpleNamespace(label=label, plugin=SimpleNamespace(info=info(label, f))) for label, f in self.families.items()]
        dataset = DatasetInfo(
            name="phantom", summary="x", params=DatasetParams, target="a:B", api_version="1.0", synthetic=True, public=True
        )
        recipe: Any = SimpleNamespace(
            attacks=attacks, data=SimpleNamespace(plugin=SimpleNamespace(info=dataset), params=None),
            report=SimpleNamespace(per_patient=False, images="none"),
        )  # fmt: skip
        pairings = self.pairings if order is None else [self.pairings[i] for i in order]
        unused: Any = None
        return Plan(
            recipe=recipe, device="cpu", inventory=unused, cohort=COHORT, split=unused, cohort_key="", jobs=(),
            baselines=tuple(self.baselines), pairings=tuple(pairings),
        )  # fmt: skip

    def judge(self, policy: Policy | None = None, order: Sequence[int] | None = None) -> Results:
        return judge(self.plan(order), self.store, {}, policy or Policy())


def info(label: str, family: Any) -> AttackInfo:
    return AttackInfo(
        name=label, summary="x", params=AttackParams, target="a:B", api_version="1.0", family=family, evidence=("images",),
        channels=CHANNELS[family],
    )  # fmt: skip


def train(dice: list[list[float | None]], **more: Any) -> dict[str, Any]:
    """Return what a train cell leaves of its test patients."""
    utility = {"patients": [f"test-{i:02d}" for i in range(len(dice))], "dice": dice, **more}
    return {"digest": "x", "utility": utility, "traffic": [], "alarm": None, "guarantees": {}}


def piece(
    name: str, endpoints: Sequence[Any], shuffled: Sequence[Any] | None = None, channel: str = "activation"
) -> dict[str, Any]:
    """Return one piece of scored evidence, as a score cell stores it."""
    plain = [e.to_json() if isinstance(e, Endpoint) else e for e in endpoints]
    other = None if shuffled is None else [e.to_json() if isinstance(e, Endpoint) else e for e in shuffled]
    return {"name": name, "channel": channel, "seat": None, "level": None, "endpoints": plain, "shuffled": other, "pictures": []}


def fidelity(values: Sequence[float], **changes: Any) -> Endpoint:
    """Return an endpoint in which patient i leaks `values[i]`."""
    n = len(values)
    base = Endpoint(
        name="fidelity", patients=tuple(f"p-{i:03d}" for i in range(n)), score=np.asarray(values, dtype=np.float64),
        chance=np.zeros(n), anchor=np.ones(n), chance_name="mean",
    )  # fmt: skip
    return replace(base, **changes)


def membership(rng: np.random.Generator, shift: float, n: int = 40, blind: float | None = None) -> dict[str, Any]:
    """Return a membership endpoint with n members and n others of two sites; members score higher by `shift`."""
    member = [True] * n + [False] * n
    found = {
        "name": "membership", "patients": [f"c-{i:03d}" for i in range(2 * n)], "member": member,
        "score": (rng.normal(size=2 * n) + shift * np.array(member)).tolist(), "site": ["a", "b"] * n,
    }  # fmt: skip
    if blind is not None:
        found["blind"] = (rng.normal(size=2 * n) + blind * np.array(member)).tolist()
        found["blind_pooled"] = found["blind"]
    return found


def images_of(ground: Ground, array: Any, modalities: tuple[str, ...] = ("t2",)) -> Images:
    """Return images as evidence about the first members."""
    about = tuple(f"t{i}" for i in range(len(array)))
    return Images(name="e", channel="activation", about=about, images=np.asarray(array, dtype=np.float32), modalities=modalities)
