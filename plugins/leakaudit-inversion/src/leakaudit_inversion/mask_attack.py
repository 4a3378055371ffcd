"""`mask-inversion`: the label holder's masks from the gradients that it lets others have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from leakaudit.attacks import Attack, Evidence, EvidenceError, Masks, Values, View
from leakaudit_inversion.mask_messages import arrivals
from leakaudit_inversion.mask_prior import HeldBrains, MaskPrior
from leakaudit_inversion.mask_readers import Reader, reader_of
from leakaudit_inversion.mask_rehearsal import rehearsed
from leakaudit_inversion.params_masks import MaskInversionParams, Method
from leakaudit_inversion.setting import seeded
from leakaudit_inversion.stance import Stage

__all__ = ["MaskInversion"]

Floats = NDArray[np.float32]


class MaskInversion(Attack[MaskInversionParams]):
    """Steals masks from cut gradients: solved for under a known head, or by the length or direction of gradients."""

    _methods: Mapping[Stage, Method] | None = None

    def fit(self, view: View) -> None:
        """Choose a method for each stage; `auto` at the server rehearses on the adversary's own patients."""
        method, stages = self.params.resolved, self.params.stages(view.facts.rounds)
        if self.params.method == "auto" and method == "closed-form":
            with seeded(self.seat.rng("rehearsal"), view.device):
                self._methods = {stage: rehearsed(self.params, view, stage) for stage in stages}
        else:
            self._methods = dict.fromkeys(stages, method)

    def run(self, view: View) -> Sequence[Evidence]:
        """Return masks, and where the adversary can tell how large a brain is, the tumor's share of it, for each stage."""
        if self._methods is None:
            self.fit(view)
        assert self._methods is not None
        seat = self.params.watcher or view.facts.seats_of("server")[0].id
        evidence: list[Evidence] = []
        for stage, method in self._methods.items():
            evidence += self._stage(view, seat, stage, reader_of(method, self.params.hints, view, stage))
        return evidence

    def _stage(self, view: View, seat: str, stage: Stage, reader: Reader) -> list[Evidence]:
        found, level = _read(view, seat, stage, reader)
        places = {target.token: target.position for target in view.targets if target.kind == "sample"}
        prior, about = MaskPrior.of(view), tuple(places)
        masks = np.stack([found[t] if t in found else _guess(prior, places[t], found) for t in about])
        holder = next((s.id for s in view.facts.seats if s.labels), None)
        name = f"{self.params.watcher or holder}/{level}{stage.suffix}"
        where: dict[str, Any] = {"channel": "cut-gradient", "about": about, "seat": holder, "level": level, "round": stage.round}
        pieces: list[Evidence] = [Masks(name=name, masks=masks, **where)]
        brains = _brains(view, prior, places)
        if brains is not None:
            tumors = (masks[:, 0] > 0.5).reshape(len(about), -1).sum(axis=1)
            shares = np.minimum(tumors / np.maximum(brains, 1), 1).astype(np.float32)
            pieces.append(Values(name=f"{name}/volume", values=shares, **where))
        return pieces


def _read(view: View, seat: str, stage: Stage, reader: Reader) -> tuple[dict[str, Floats], str]:
    """Return masks by target, the share of its observations that see each region at each voxel, and their level."""
    shape = None if view.holdings is None else view.holdings.shape
    votes: dict[str, list[Tensor]] = {}
    found: dict[str, Floats] = {}
    level = ""
    for arrival in arrivals(view, seat, stage):
        masks, level = reader.read(arrival).float(), arrival.level
        if shape is not None and masks.shape[2:] != shape:  # the coarser levels of a client
            masks = F.interpolate(masks, shape, mode="nearest")
        for token, mask, last in zip(arrival.tokens, masks.cpu(), arrival.last, strict=True):
            votes.setdefault(token, []).append(mask)
            if last:
                found[token] = torch.stack(votes.pop(token)).mean(dim=0).numpy()
    if not found:
        when = "the last rounds" if stage.round is None else f"round {stage.round}"
        raise EvidenceError(f"no cut gradient of a target reached {seat!r} in {when}: train for more rounds, or attack others")
    return found, level


def _guess(prior: MaskPrior | None, position: int, found: Mapping[str, Floats]) -> Floats:
    """Return the mask of a target none of whose gradients crossed in a stage: what most own patients have, else nothing."""
    return np.zeros_like(next(iter(found.values()))) if prior is None else prior.majority(position).numpy()


def _brains(view: View, prior: MaskPrior | None, places: Mapping[str, int]) -> NDArray[np.float64] | None:
    """Return how many voxels each target's brain has: of images the adversary holds, else the mean of its own patients."""
    held = HeldBrains.of(view)
    if held is not None:
        return np.array([held.size(token) for token in places])
    return None if prior is None else np.array([prior.brain(position) for position in places.values()])
