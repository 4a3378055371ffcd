"""Iterations per second of FSHA and SDAR in a split training, against plain PyTorch loops of the same arithmetic.

    python plugins/leakaudit-hijacking/benchmarks/run.py

Seconds are of this machine and moment; the ratio is what to compare. Both loops take turns on one thread, in processor time, and
the ratio is the median over the turns. The plain loops have no messages, no copies, no random streams, no parties: what is
beyond 1 is what these cost.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from leakaudit_hijacking.adversarial import conditioned, deceive, discriminate
from leakaudit_hijacking.hijack_params import FeatureSpaceHijackParams
from leakaudit_hijacking.networks import Critic, Pilot, decoder_for
from leakaudit_hijacking.sdar_params import SdarParams
from leakaudit_hijacking.wgan import client_loss, critic_loss, gradient_penalty
from torch import Tensor, nn

from leakaudit.cohorts import Cohort, Origin, Sample, regions
from leakaudit.engine.places import adversary_seat, honest_place, played_place
from leakaudit.facts import CohortFacts
from leakaudit.models import SegmentationNet, load_task
from leakaudit.plugins import AttackParams
from leakaudit.plugins.targets import target_of
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.split import Split
from leakaudit.threats import Requires
from leakaudit.wire import Party, Seat, Secret, Wire

SIDE, ROWS, BATCH = 64, 96, 8
LEVELS = {"level0": (8, SIDE, SIDE), "level1": (16, SIDE // 2, SIDE // 2)}
PROTOCOL = SplitParams.model_validate(
    {"rounds": 1, "network": {"channels": [8, 16, 32]}, "training": {"batch_size": BATCH}, "clients": [["t1"]]}
)
FSHA = FeatureSpaceHijackParams(preset="quick", pilot_iterations=0)
SDAR = SdarParams(preset="quick", steps=1, image_weight=1e-5)  # one step with all four parts, as the plain loop takes it


def cohort(seed: int) -> Cohort:
    """Return noise in the shape of slices: arithmetic does not care."""
    rng = np.random.default_rng(seed)
    return Cohort(
        images=rng.standard_normal((ROWS, 1, SIDE, SIDE), dtype=np.float32),
        labels=(3 * (rng.random((ROWS, SIDE, SIDE)) > 0.8)).astype(np.uint8), brain=np.ones((ROWS, SIDE, SIDE), dtype=bool),
        samples=tuple(Sample(patient=str(i)) for i in range(ROWS)), modalities=("t1",), origin=Origin(dataset="noise"),
    )  # fmt: skip


VICTIMS, OWNED = cohort(0), cohort(1)
X, Y = torch.from_numpy(VICTIMS.images), torch.from_numpy(regions(VICTIMS.labels))
OWN_X, OWN_Y = torch.from_numpy(OWNED.images), torch.from_numpy(regions(OWNED.labels))
FACTS = CohortFacts(modalities=("t1",), shape=(SIDE, SIDE), members=ROWS, auxiliary=ROWS, sites=("site-0",), records=ROWS)


def audited(attack: str) -> Callable[[], None]:
    """Return one pass of split training through the wire with the attack in the server's seat."""
    protocol = Split(PROTOCOL, FACTS)
    task, secret = load_task(protocol.task()), Secret.from_seed(1)
    tokens = tuple(f"{i:04d}" for i in range(ROWS))

    params: AttackParams = FSHA if attack == "fsha" else SDAR
    asked = params.requires(protocol.facts)
    assert isinstance(asked, Requires)
    attacker = {
        "target": "leakaudit_hijacking.hijacking:FeatureSpaceHijack" if attack == "fsha" else "leakaudit_hijacking.sdar:Sdar",
        "params_target": target_of(type(params)), "params": params.key(), "threat": asdict(asked.threat),
    }  # fmt: skip
    parties: dict[str, Party] = {}
    for facts in protocol.facts.seats:
        seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"))
        holds = Holdings(
            tokens=tokens, units=torch.arange(ROWS), images=X if facts.modalities else None, regions=Y if facts.labels else None
        )
        place = honest_place(protocol, task, seat, [], holds)
        if facts.role == "server":
            mine = adversary_seat(
                protocol, task, facts, attacker, [], secret=secret.branch("adversary"), lent=secret.branch("lent"),
                device=torch.device("cpu"), precision="float32", auxiliary=OWNED,
            )  # fmt: skip
            place = played_place(place, attacker, mine, secret.branch("wire", facts.id))
        parties[facts.id] = place.party
    wire = Wire(parties, secret)

    def work() -> None:
        protocol.run(wire, Schedule(tokens, range(ROWS), 1, BATCH, Sampling(), secret))

    return work


class Plain:
    """The victims' arithmetic without parties."""

    def __init__(self) -> None:
        self.task = load_task(Split(PROTOCOL, FACTS).task())
        network = self.task.build()
        assert isinstance(network, SegmentationNet)
        self.encoder, self.server = network.encoders[0], nn.ModuleDict({"trunk": network.trunk, "head": network.head})
        rate = PROTOCOL.training.learning_rate
        self.client_step = torch.optim.Adam(self.encoder.parameters(), lr=rate)
        self.server_step = torch.optim.Adam(self.server.parameters(), lr=rate)

    def predict(self, levels: list[Tensor]) -> Tensor:
        """Return the server's logits."""
        return self.server["head"](self.server["trunk"]([levels]))

    def work(self) -> None:
        """Train for one pass."""
        order, own = torch.randperm(ROWS), torch.randperm(ROWS)
        for i in range(0, ROWS, BATCH):
            rows = order[i : i + BATCH]
            self.client_step.zero_grad()
            sent = self.encoder(X[rows])
            z = [t.detach().requires_grad_() for t in sent]
            self.server_step.zero_grad()
            self.task.loss(self.predict(z), Y[rows]).mean().backward()
            self.server_step.step()
            torch.autograd.backward(sent, self.replies(z, own[i : i + BATCH]))
            self.client_step.step()

    def replies(self, z: list[Tensor], own: Tensor) -> list[Tensor]:
        """Return the gradients for the client, and learn from what it sent."""
        raise NotImplementedError


class PlainHijack(Plain):
    """FSHA with a frozen pilot, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.pilot = Pilot(1, (SIDE, SIDE), LEVELS, FSHA.pilot)
        self.critics = nn.ModuleList(
            Critic(c, size, width=FSHA.critic_width, blocks=FSHA.critic_blocks) for c, size in map(_pair, LEVELS.values())
        )
        self.judge = torch.optim.Adam(self.critics.parameters(), lr=FSHA.critic_rate)

    def replies(self, z: list[Tensor], own: Tensor) -> list[Tensor]:
        """Return the gradients for the client, and learn from what it sent."""
        gradients = []
        for critic, t in zip(self.critics, z, strict=True):
            leaf = t.detach().requires_grad_()
            gradients += torch.autograd.grad(client_loss(critic(leaf)), leaf)
        private = [t.detach() for t in z]
        for _ in range(FSHA.critic_steps):
            with torch.no_grad():
                public = list(self.pilot(OWN_X[own]).values())
            self.judge.zero_grad()
            for critic, a, b in zip(self.critics, private, public, strict=True):
                penalty = gradient_penalty(critic, a, b, torch.rand(len(a)), FSHA.penalty_norm)
                (critic_loss(*critic(torch.cat([a, b])).chunk(2)) + FSHA.penalty * penalty).backward()
            self.judge.step()
        return gradients


class PlainSimulation(Plain):
    """SDAR conditioned on the server's predictions, written out."""

    def __init__(self) -> None:
        super().__init__()
        network = self.task.build()
        assert isinstance(network, SegmentationNet)
        self.simulator = network.encoders[0]
        p, width = SDAR, {"width": SDAR.discriminator_width, "blocks": SDAR.discriminator_blocks}
        sizes = [(c + 3, size) for c, size in map(_pair, LEVELS.values())]
        self.decoders = nn.ModuleList(decoder_for(p.decoder, (c, *s), (SIDE, SIDE), 1, p.decoder_width) for c, s in sizes)
        self.features = nn.ModuleList(Critic(c, s, **width) for c, s in sizes)
        self.images = nn.ModuleList(Critic(4, (SIDE, SIDE), **width) for _ in sizes)
        rates = {"simulator": p.simulator_rate, "decoders": p.decoder_rate, "features": p.feature_rate, "images": p.image_rate}
        self.steps = {name: torch.optim.Adam(getattr(self, name).parameters(), lr=rate) for name, rate in rates.items()}

    def replies(self, z: list[Tensor], own: Tensor) -> list[Tensor]:
        """Return the gradients for the client, and learn from what it sent."""
        honest = [t.grad for t in z if t.grad is not None]
        private, x = [t.detach() for t in z], OWN_X[own]
        self.server.requires_grad_(False)
        with torch.no_grad():
            known = self.predict(private).sigmoid()
        public = self.simulator(x)
        logits = self.predict(public)
        mine = logits.detach().sigmoid()
        self.features.requires_grad_(False)
        loss = self.task.loss(logits, OWN_Y[own]).mean()
        for judge, t in zip(self.features, public, strict=True):
            loss = loss + SDAR.feature_weight * deceive(judge(conditioned(t, mine)))
        self._take("simulator", loss)
        self.server.requires_grad_(True)
        self.features.requires_grad_(True)
        cut = [t.detach() for t in public]
        for judge, a, b in zip(self.features, private, cut, strict=True):
            discriminate(judge(conditioned(a, known)), judge(conditioned(b, mine))).backward()
        self._take("features")
        self.images.requires_grad_(False)
        guesses = []
        for decoder, judge, a, b in zip(self.decoders, self.images, private, cut, strict=True):
            guess = decoder(conditioned(a, known))
            deceived = deceive(judge(conditioned(guess, known)))
            (F.mse_loss(decoder(conditioned(b, mine)), x) + SDAR.image_weight * deceived).backward()
            guesses.append(guess.detach())
        self._take("decoders")
        self.images.requires_grad_(True)
        for judge, guess in zip(self.images, guesses, strict=True):
            discriminate(judge(conditioned(x, mine)), judge(conditioned(guess, known))).backward()
        self._take("images")
        return honest

    def _take(self, name: str, loss: Tensor | None = None) -> None:
        if loss is not None:
            loss.backward()
        self.steps[name].step()
        self.steps[name].zero_grad()


def _pair(size: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    return size[0], tuple(size[1:])


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure both attacks and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="passes of each loop")
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"one client, {', '.join(LEVELS)}, {SIDE} x {SIDE}, batch {BATCH}, one thread, torch {torch.__version__}")
    for name, attack, plain in (
        ("FSHA (quick)", "fsha", PlainHijack()),
        ("SDAR (quick, one step, with D2)", "sdar", PlainSimulation()),
    ):
        whole = audited(attack)
        seconds(whole), seconds(plain.work)  # the first pass builds networks and warms up
        pairs = [(seconds(whole), seconds(plain.work)) for _ in range(turns)]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        steps = ROWS // BATCH
        print(f"{name}: {steps / ours:.1f} iterations/s, plain loop {steps / theirs:.1f}, time {ratio:.3f} times the plain loop's")


if __name__ == "__main__":
    main()
