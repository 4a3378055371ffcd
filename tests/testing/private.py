"""A distribution with a small DP-SGD of its own, sound or broken in the one way that its parameter `fault` names."""

from __future__ import annotations

__all__ = ["PRIVATE"]

PARAMS = """
from pydantic import Field
from leakaudit.plugins import DefenseParams
from leakaudit.threats import Needs, NotApplicable

class Private(DefenseParams):
    fault: str = Field("", description="How it is broken.")

    def needs(self, facts):
        if "trainer" not in facts.roles:
            return NotApplicable(reason="nobody trains alone")
        sampling, unit = ("shuffle", "record") if self.fault in ("shuffle", "unsaid") else ("poisson", "patient")
        return Needs(seats=("trainer",), channels=("model",), sampling=sampling, unit=unit, per_sample_loss=True)
"""

PLUGIN = """
from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_private.params import Private

@hookimpl
def leakaudit_defenses():
    yield DefenseInfo(
        name="private", summary="A DP-SGD for testing the kit.", params=Private, target="leakaudit_private.runtime:Private",
        api_version="1.0", references=("The tests of leakaudit",), channels=("model",), claim="(epsilon, delta)-DP",
        stochastic=True,
    )
"""

RUNTIME = """
from dataclasses import replace
import torch
from leakaudit.defenses import Defense, Guarantee
from leakaudit_dp.accounting import spent
from leakaudit_dp.library import GradSampleModule

CLIP, NOISE, DELTA = 0.5, 1.0, 1e-5

class Steps:
    def __init__(self, local, module, fault, generator):
        self.local, self.module, self.fault, self.generator, self.steps = local, module, fault, generator, 0

    def zero_grad(self):
        for p in self.module.parameters():
            p.grad = p.grad_sample = None

    def step(self):
        self.steps += 1
        params = [p for p in self.module.parameters() if p.requires_grad]
        sums = self.clipped(params)
        if self.fault == "stray":
            torch.randn(len(self.local.units()), generator=self.generator)
        for i, (p, total) in enumerate(zip(params, sums)):
            scale = NOISE * CLIP * {"noiseless": 0.0, "weak": 0.5}.get(self.fault, 1.0) * (self.fault != "bare" or i != 1)
            p.grad = total + scale * torch.randn(total.shape, generator=self.generator)
        if self.fault == "late":
            norm = torch.stack([p.grad.norm() for p in params]).norm()
            for p in params:
                p.grad *= CLIP / norm.clamp(min=CLIP)
        for p in params:
            p.grad /= self.local.expected_units
        self.local.optimizer.step()

    def clipped(self, params):
        units = self.local.units()
        rows = [p.grad_sample if p.grad_sample is not None else torch.zeros(0, *p.shape) for p in params]
        if not len(units) or self.fault == "late":
            return [g.sum(dim=0) for g in rows]
        if self.local.unit == "patient" and self.fault != "rows":
            place = torch.unique(units, return_inverse=True)[1]
            count = int(place.max()) + 1
            rows = [torch.zeros(count, *g.shape[1:]).index_add_(0, place, g) for g in rows]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in rows]).norm(dim=0)
        return [torch.einsum("n,n...", CLIP / norms.clamp(min=CLIP), g) for g in rows]

class Private(Defense):
    steps = None

    def train(self, local):
        module = GradSampleModule(local.module, loss_reduction="mean")
        self.local = local
        self.steps = Steps(local, module, self.params.fault, self.seat.rng("noise"))
        return replace(local, module=module, optimizer=self.steps)

    def guarantee(self):
        if self.steps is None:
            return None
        steps = 1 if self.params.fault == "restart" else self.steps.steps
        return Guarantee(
            mechanism=f"DP-SGD: {steps} steps", unit=self.local.unit, neighbors="add-or-remove",
            releases=(("model", "trainer"), ("output", "model")), delta=DELTA, accountant="RDP", conversion="theorem 21",
            epsilon=spent("rdp", noise=NOISE, rate=self.local.rate, steps=steps, delta=DELTA), sampling="as drawn",
            sampling_assumed="" if self.params.fault == "unsaid" else "Poisson over patients",
        )
"""

PRIVATE = {"params.py": PARAMS, "plugin.py": PLUGIN, "runtime.py": RUNTIME}
"""Files of the package `leakaudit_private`."""
