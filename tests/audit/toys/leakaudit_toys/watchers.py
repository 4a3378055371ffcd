"""Passive toys: the mean image as a guess, what is told of masks, a watcher of two rounds, a server that colludes with a client."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from leakaudit.attacks import Attack, Images, Masks, Values, View
from leakaudit.cohorts import regions
from leakaudit_toys.params import Colluding, Guessing, Told, Watching


def tokens(view: View) -> tuple[str, ...]:
    return tuple(t.token for t in view.targets if t.kind == "sample")


def mean_image(view: View, name: str, seat: str | None = None) -> Images:
    """Guess the auxiliary patients' mean image for everybody."""
    about, owned = tokens(view), view.auxiliary
    assert owned is not None
    images = np.repeat(np.asarray(owned.images).mean(axis=0, keepdims=True), len(about), axis=0).astype(np.float32)
    return Images(name=name, channel="activation", about=about, images=images, modalities=owned.modalities, seat=seat)


def volumes(view: View, name: str) -> Values:
    about = tokens(view)
    return Values(name=name, channel="activation", about=about, values=np.full(len(about), 0.05, dtype=np.float32))


class Guess(Attack[Guessing]):
    def run(self, view: View) -> Images:
        held = view.holdings
        assert held is not None, "the server holds the masks"
        assert held.modalities == ()
        assert not np.asarray(held.brain).any()
        return mean_image(view, "mean")


class Teller(Attack[Told]):
    """Repeats the masks that it is told, in the first channel of the mean image or as they are."""

    def run(self, view: View) -> list[Images | Masks]:
        assert all(len(view.labels[t.token]) == t.size for t in view.targets)
        assert {token for m in view.messages() for token in m.samples} <= set(view.labels), "in either set of messages"
        about = tuple(t.token for t in view.targets for _ in range(t.size))
        masks = np.concatenate([regions(view.labels[t.token]) for t in view.targets])
        assert view.auxiliary is not None
        images = np.repeat(np.asarray(view.auxiliary.images).mean(axis=0, keepdims=True), len(about), axis=0).astype(np.float32)
        images[:, 0] += 100 * masks[:, 0]
        name, channel, ordered = "told", view.threat.channels[0], view.targets[0].kind == "sample"
        if self.params.says == "masks":
            return [Masks(name=name, channel=channel, about=about, masks=masks, ordered=ordered)]
        return [Images(name=name, channel=channel, about=about, images=images, modalities=view.modalities, ordered=ordered)]


class Watcher(Attack[Watching]):
    """Checks what it was promised: messages of the rounds it asked for, and the weights after each of them."""

    def run(self, view: View) -> Values:
        rounds = [m.round for m in view.messages(sender="client-0")]
        if 0 in self.params.rounds:
            before, after = (view.replica("client-0", round=r).module.state_dict() for r in (0, -1))
            assert not all((before[k] == after[k]).all() for k in before), "training changed nothing after the first round"
            last = view.facts.rounds - 1
            assert set(rounds) == {0, last}, f"messages of rounds {sorted(set(rounds))}"
        return volumes(view, "watched")


class Colluder(Attack[Colluding]):
    def run(self, view: View) -> list[Images]:
        held = view.holdings
        assert held is not None
        assert held.modalities == ("flair",), held.modalities
        assert np.asarray(held.labels).any(), "the server's masks are its own to see"
        place = {s.patient: i for i, s in enumerate(held.samples)}
        assert set(tokens(view)) <= set(place), "holdings and messages do not align"
        replica, x = view.replica("client-0"), np.asarray(held.images)
        for message in view.messages(sender="client-0"):
            rows = [place[token] for token in message.samples]
            sent = replica.send(x=torch.from_numpy(x[rows]))["level0"].detach()
            likeness = np.corrcoef(sent.numpy().ravel(), message.tensors["level0"].numpy().ravel())[0, 1]
            if view._messages == "messages":
                assert likeness > 0.99, f"the held images do not give what was sent: {likeness}"
        mine = mean_image(view, "mine", "client-0")
        other = mean_image(view, "other", "client-1")
        i = other.modalities.index("t1")
        return [mine, replace(other, images=other.images[:, i : i + 1], modalities=("t1",))]
