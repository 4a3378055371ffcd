"""A distribution whose plugins keep the contract, or break it in the one way that their parameter `fault` names."""

from __future__ import annotations

__all__ = ["FAULTY"]

PARAMS = """
import itertools
from pydantic import Field
from leakaudit.cohorts.phantom.params import PhantomParams
from fractions import Fraction
from leakaudit.facts import Absence
from leakaudit.plugins import AttackParams, DefenseParams, ShadowTraining
from leakaudit.protocols.params import CentralizedParams
from leakaudit.threats import Canaries, Needs, NotApplicable, Requires, Tap, ThreatModel

FAULT = Field("", description="How it breaks the contract.")
COUNT = itertools.count()

class Attack(AttackParams):
    fault: str = FAULT

    def requires(self, facts):
        if "activation" not in facts.channels:
            return NotApplicable(reason="" if self.fault == "reason" else "nothing is sent")
        channels = {"unseen": ("update",), "beside": ()}.get(self.fault, ("activation",))
        threat = ThreatModel(plays=("server",), channels=channels, knows=("architecture", "sample-ids"))
        if self.fault == "raises":
            raise KeyError("level9")
        if self.fault == "impure":
            return Requires(threat=threat, taps=(Tap(channel="activation", rounds=(next(COUNT),)),))
        return Requires(
            threat=threat, taps=(Tap(channel="activation"),), plays_in_training=self.fault in ("rider", "meddler"),
            canaries=Canaries(count=2) if self.fault == "canaries" else None,
        )

class Defense(DefenseParams):
    fault: str = FAULT

    def needs(self, facts):
        if "activation" not in facts.channels:
            return NotApplicable(reason="nothing is sent")
        return Needs(
            seats=("janitor",) if self.fault == "nobody" else ("client",), channels=("activation",),
            unit="patient" if self.fault == "unit" else None,
        )

    def shadow(self, victim):
        return {
            "loose": ShadowTraining(noise_multiplier=1.0), "zero": ShadowTraining(clip=0.0), "word": "ordinary",
            "impure": ShadowTraining(clip=1.0 + next(COUNT)), "fraction": ShadowTraining(clip=Fraction(1, 2)),
            "hush": ShadowTraining(), "lonely": ShadowTraining(alone=True),
            "in-place": ShadowTraining(sends=True), "sends": ShadowTraining(sends=True),
            "asks": 1 / (victim.steps - 1) if self.fault == "asks" else None,
        }.get(self.fault)

class Protocol(CentralizedParams):
    fault: str = FAULT

    def facts(self, cohort):
        from dataclasses import replace
        found = super().facts(cohort)
        if self.fault == "twice":
            return replace(found, seats=found.seats * 2)
        if self.fault == "flow":
            return replace(found, flows=found.flows[1:])
        if self.fault == "absence":
            return replace(found, absences=(Absence(seat="nobody", first=0),))
        return found

class Data(PhantomParams):
    fault: str = FAULT
    patients: int = Field(default=6, description="How many.")
    size: int = Field(default=32, description="Voxels a side.")
"""

PLUGIN = """
from leakaudit.plugins import AttackInfo, DatasetInfo, DefenseInfo, ProtocolInfo, hookimpl
from leakaudit_faulty import params

ANY = {"summary": "A plugin for testing the kit.", "api_version": "1.0", "references": ("The tests of leakaudit",)}
HERE = "leakaudit_faulty.runtime:"

@hookimpl
def leakaudit_attacks():
    facts = {"family": "reconstruction", "evidence": ("images",), "channels": ("activation",)}
    yield AttackInfo(name="a", params=params.Attack, target=HERE + "Attack", taxonomy=("atlas:AML.T0024",), **facts, **ANY)
    yield AttackInfo(
        name="careless", summary="Toy.", params=params.Attack, target=HERE + "Missing", api_version="1.0",
        taxonomy=("owasp:ML3",), **facts,
    )
    yield AttackInfo(name="no-attack", params=params.Attack, target=HERE + "Defense", **facts, **ANY)

@hookimpl
def leakaudit_defenses():
    yield DefenseInfo(name="d", params=params.Defense, target=HERE + "Defense", channels=("activation",), **ANY)
    yield DefenseInfo(
        name="boaster", params=params.Defense, target=HERE + "Defense", channels=("activation",), claim="perfect secrecy",
        stochastic=True, **ANY,
    )

@hookimpl
def leakaudit_protocols():
    yield ProtocolInfo(name="p", params=params.Protocol, target=HERE + "Protocol", **ANY)

@hookimpl
def leakaudit_datasets():
    yield DatasetInfo(name="s", params=params.Data, target="leakaudit_faulty.data:Data", synthetic=True, **ANY)
"""

RUNTIME = """
from dataclasses import replace
import numpy as np
import torch
from leakaudit import attacks, defenses, wire
from leakaudit.protocols.centralized import Centralized

def outside():
    return float(np.random.default_rng().random())

class Attack(attacks.Attack):
    def play(self, honest):
        return Meddler(honest) if self.params.fault == "meddler" else honest

    def run(self, view):
        fault = self.params.fault
        if fault == "crash":
            raise RuntimeError("no idea")
        about = tuple(t.token for t in view.targets)[: -1 if fault == "drops" else None]
        images = np.repeat(view.auxiliary.images.mean(axis=0, keepdims=True), len(about), axis=0)
        images += {"clock": outside, "global": lambda: torch.rand(()).item(), "nan": lambda: np.nan}.get(fault, lambda: 0.0)()
        facts = {"name": "mean", "channel": "activation", "about": about}
        if fault == "kind":
            return attacks.Values(values=images.mean(axis=(1, 2, 3)), **facts)
        return attacks.Images(images=images, modalities=view.modalities, **facts)

class Meddler(wire.Party):
    def __init__(self, honest):
        self.honest = honest

    def reply(self, inbox):
        return [m.carrying({k: 1.01 * t for k, t in m.tensors.items()}) for m in self.honest.reply(inbox)]

class Stepper:
    def __init__(self, local):
        self.local, self.zero_grad = local, local.optimizer.zero_grad

    def step(self):
        1 / len(self.local.units())
        self.local.optimizer.step()

class Defense(defenses.Defense):
    def outgoing(self, message):
        if message.channel != "activation":
            return message
        return message.carrying({k: self.change(t) for k, t in message.tensors.items()})

    def change(self, t):
        match self.params.fault:
            case "crash":
                raise RuntimeError("no idea")
            case "clock":
                return t + outside()
            case "global":
                return t + torch.rand_like(t)
            case "numpy":
                return t + float(np.random.random())
            case "noise":
                return t + torch.rand(t.shape, generator=self.seat.rng("noise"))
            case "detach" if t.requires_grad and message_is_a_replicas(t):
                return t.detach()
            case "nan":
                return t / 0
            case "hush":
                return -t
            case "in-place":
                return t + torch.empty(t.shape).normal_(generator=self.seat.rng("noise"))
        return 0.9 * t

    def train(self, local):
        return replace(local, optimizer=Stepper(local)) if self.params.fault == "empty" else local

    def guarantee(self):
        if self.params.fault not in ("claims", "ghost"):
            return None
        return defenses.Guarantee(
            mechanism="hope", unit="patient", neighbors="replace", epsilon=1.0, delta=0.0, accountant="none", conversion="none",
            releases=(("activation", "ghost" if self.params.fault == "ghost" else self.seat.id),), sampling="shuffle",
        )

def message_is_a_replicas(t):
    return len(t) == 2

class Protocol(Centralized):
    def party(self, seat, *more):
        party = super().party(seat, *more)
        if self.params.fault == "clock":
            with torch.no_grad():
                next(party.learner.module.parameters()).add_(outside())
        return party

    def predictor(self, states, task, guards):
        whole = super().predictor(states, task, guards)
        return Half(whole) if self.params.fault == "shape" else whole

    def replica(self, *more):
        return None if self.params.fault == "replica" else super().replica(*more)

class Half(torch.nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, x):
        return self.whole(x)[:, :2]
"""

DATA = """
from dataclasses import replace
import numpy as np
from leakaudit.cohorts.phantom.dataset import Phantom

class Data(Phantom):
    def inventory(self):
        if self.params.fault == "torch":
            import torch
        found = super().inventory()
        return replace(found, patients=found.patients[::-1]) if self.params.fault == "unsorted" else found

    def load(self, patients, *, visits=(0,)):
        cohort = super().load(patients, visits=visits)
        images = cohort.images.copy()
        brain = np.broadcast_to(cohort.brain[:, None], images.shape)
        match self.params.fault:
            case "raw":
                images *= 300
            case "background":
                images[~brain] = -1
            case "company":
                images[brain] *= 1 + 0.01 * len(cohort)
            case "labels":
                return replace(cohort, labels=np.where(cohort.labels == 3, 4, cohort.labels).astype(np.uint8))
            case "site":
                return replace(cohort, samples=tuple(replace(s, site="elsewhere") for s in cohort.samples))
        return replace(cohort, images=images)
"""

FAULTY = {"params.py": PARAMS, "plugin.py": PLUGIN, "runtime.py": RUNTIME, "data.py": DATA}
"""Files of the package `leakaudit_faulty`."""
