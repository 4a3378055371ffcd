"""Hook implementations of the toys."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import AttackInfo, DefenseInfo, hookimpl
from leakaudit_toys import params

_ATTACKS = {
    "toy-rider": (params.Riding, "players:Rider"),
    "toy-hijacker": (params.Hijacking, "players:Hijacker"),
    "toy-canary": (params.Crafting, "canary:Crafter"),
    "toy-colluder": (params.Colluding, "watchers:Colluder"),
    "toy-watcher": (params.Watching, "watchers:Watcher"),
    "toy-guess": (params.Guessing, "watchers:Guess"),
    "toy-told": (params.Told, "watchers:Teller"),
    "toy-snoop": (params.Snooping, "hostile:Snoop"),
    "toy-broken": (params.Breaking, "broken:Broken"),
    "toy-missing": (params.Guessing, "unimportable:Missing"),
}
_DEFENSES = {
    "toy-noise": (params.Noise, "defenses:Noise"),
    "toy-global-noise": (params.GlobalNoise, "defenses:GlobalNoise"),
    "toy-poisson": (params.Poisson, "defenses:Nothing"),
    "toy-watch": (params.Watchful, "defenses:Watch"),
}


@hookimpl
def leakaudit_attacks() -> Iterator[AttackInfo]:
    for name, (model, target) in _ATTACKS.items():
        scores = name == "toy-canary"
        yield AttackInfo(
            name=name, summary="A toy.", params=model, target=f"leakaudit_toys.{target}", api_version="1.0",
            family="membership" if scores else "reconstruction", evidence=("scores",) if scores else ("images",),
            channels=("output",) if scores else ("activation",),
        )  # fmt: skip


@hookimpl
def leakaudit_defenses() -> Iterator[DefenseInfo]:
    for name, (model, target) in _DEFENSES.items():
        yield DefenseInfo(
            name=name, summary="A toy.", params=model, target=f"leakaudit_toys.{target}", api_version="1.0",
            channels=("activation",), stochastic=name != "toy-watch", detector=name == "toy-watch",
        )  # fmt: skip
