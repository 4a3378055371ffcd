"""A toy that plants canaries: auxiliary patients with a pattern, under names that it chooses badly on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from leakaudit.attacks import Attack, Scores, Setup, View
from leakaudit.cohorts import regions
from leakaudit.wire import Message, Party
from leakaudit_toys.params import Crafting


class Onlooker(Party):
    def __init__(self, honest: Party) -> None:
        self.honest = honest

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        return self.honest.reply(inbox)


class Crafter(Attack[Crafting]):
    def prepare(self, setup: Setup) -> Setup:
        owned = setup.auxiliary
        assert owned.origin.digest == "", "the digest of the data is not the adversary's to know"
        rows = [i % len(owned) for i in range(self.params.count)]
        crafted = owned.take(rows)
        rng = np.random.default_rng(self.seat.rng("pattern").initial_seed() % 2**32)
        images = np.where(crafted.brain[:, None], crafted.images + rng.standard_normal(crafted.images.shape), 0).astype(np.float32)
        # Names of auxiliary patients, which are not its to give: the engine names canaries itself.
        samples = tuple(replace(s, patient=f"{s.patient}x{i}") for i, s in enumerate(crafted.samples))
        return replace(setup, canaries=replace(crafted, images=images, samples=samples))

    def play(self, honest: Party) -> Party:
        return Onlooker(honest)

    def run(self, view: View) -> Scores:
        assert not list(Path.cwd().rglob("*coin*")), "there are coins in the view"
        cohort = view.candidates
        assert cohort is not None
        about = tuple(t.token for t in view.targets if t.kind == "candidate")
        answers = {m.samples[0]: m.tensors["logits"].numpy() for m in view.messages(channel="output")}
        loss = []
        for token in about:
            i = next(i for i, s in enumerate(cohort.samples) if s.patient == token)
            truth = regions(np.asarray(cohort.labels[i : i + 1]))
            loss.append(float(np.logaddexp(0, -answers[token] * (2 * truth - 1)).mean()) if answers else float(i))
        channel = view.threat.channels[0]
        return Scores(name="canaries", channel=channel, about=about, scores=-np.array(loss, dtype=np.float32))
