"""Who the adversary is: channels, roles, grants, threat models, and what an attack or a defense asks of a run.

Pure data, without torch: the planner reads it before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

__all__ = [
    "CHANNELS", "GRANTS", "Alterable", "Auxiliary", "Canaries", "Channel", "Grant", "Needs", "NotApplicable", "Requires",
    "Shadows", "Tap", "ThreatModel", "Unit",
]  # fmt: skip

Channel = Literal["activation", "cut-gradient", "label", "update", "model", "output", "control"]
Grant = Literal["architecture", "weights", "defense", "defense-state", "labels", "sample-ids", "candidates"]
Alterable = Literal["cohort", "task", "replies"]
Auxiliary = Literal["none", "noise", "same", "shifted"]
Unit = Literal["record", "patient", "site"]

CHANNELS: tuple[Channel, ...] = get_args(Channel)
GRANTS: tuple[Grant, ...] = get_args(Grant)


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}


_GRANT_WORDS: dict[Grant, str] = {
    "architecture": "the network's architecture",
    "weights": "the other parties' weights",
    "defense": "the defense and its parameters",
    "defense-state": "what the defense learned",
    "labels": "the masks",
    "sample-ids": "which messages belong to the same sample",
    "candidates": "candidate patients whose membership it wants to decide",
}
_AUXILIARY_WORDS: dict[Auxiliary, str] = {
    "none": "no images of its own",
    "noise": "noise images only",
    "same": "images of other patients from the same hospitals",
    "shifted": "images of other patients from another hospital",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreatModel:
    """What one adversary plays, alters, sees and knows.

    Attributes:
        plays: Roles it holds. Several roles are a collusion; `"outsider"` is a role that no party of a protocol has.
        alters: What it changes. Empty is a passive adversary, and only a non-empty tuple enters the training key.
        channels: Channels it uses of those that its seats send or receive. May only narrow them.
        knows: What it is granted beyond its seats.
        auxiliary: Which images it owns.
    """

    plays: tuple[str, ...]
    alters: tuple[Alterable, ...] = ()
    channels: tuple[Channel, ...] = ()
    knows: tuple[Grant, ...] = ()
    auxiliary: Auxiliary = "same"

    @property
    def passive(self) -> bool:
        """Whether training runs exactly as without this adversary."""
        return not self.alters

    @property
    def told_masks(self) -> bool:
        """Whether it is told the masks of the samples behind its targets.

        With candidates the masks granted are theirs: those of the members beside them would tell who of them is one.
        """
        return "labels" in self.knows and "candidates" not in self.knows

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ThreatModel:
        """Read a threat model from plain JSON."""
        return ThreatModel(**_tuples(data))

    def describe(self) -> str:
        """Return the threat model in one plain sentence, for reports."""
        who = " colluding with ".join(f"the {role}" if role != "outsider" else "an outsider" for role in self.plays)
        does = "only watches" if self.passive else f"alters {', '.join(self.alters)}"
        sees = ", ".join(self.channels) or "nothing"
        knows = "; ".join(_GRANT_WORDS[grant] for grant in self.knows) or "nothing else"
        return f"{who[0].upper()}{who[1:]}, who {does}, sees {sees}, owns {_AUXILIARY_WORDS[self.auxiliary]}, and knows {knows}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """Which messages an attack needs recorded.

    Attributes:
        channel: Kind of message.
        rounds: Rounds to record; negative numbers count from the end (-1 is the last). None records every round.
        steps: Steps within a round; None records every step.
        names: Tensor names to keep (for example `"level0"`); None keeps all of them.
        rows: `"targets"` keeps only the rows of attacked patients where rows are samples; `"all"` keeps whole messages.
    """

    channel: Channel
    rounds: tuple[int, ...] | None = (-1,)
    steps: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    rows: Literal["targets", "all"] = "targets"

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Tap:
        """Read a tap from plain JSON."""
        return Tap(**_tuples(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadows:
    """Shadow models that the engine trains for an attack, with the victim's task and defense.

    Attributes:
        count: How many.
        pool: Whose patients they may be trained on.
        fraction: Share of the pool in each shadow's training set.
    """

    count: int
    pool: Literal["auxiliary", "auxiliary+candidates"] = "auxiliary"
    fraction: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """Canaries that an attack crafts. The engine tosses one fair coin for each; the attack never sees the coins.

    Attributes:
        count: How many canaries are crafted.
        unit: What one canary is.
        probability: Chance that a canary is included in training.
        form: `"patients"`: crafted images and masks (`Setup.canaries`); `"gradients"`: units that are nothing but a gradient
            (`Setup.gradients`), drawn into batches like any other.
    """

    count: int
    unit: Unit = "patient"
    probability: float = 0.5
    form: Literal["patients", "gradients"] = "patients"

    @property
    def fair(self) -> bool:
        """Whether coins are fair, as the theorems behind bounds on epsilon want them: then scores bound epsilon."""
        return self.probability == 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """What one attack entry needs of a run, known before anything is trained.

    Attributes:
        threat: Its threat model.
        taps: Messages to record.
        plays_in_training: Whether `Attack.play` takes the place of a party (or rides on it).
        shadows: Shadow models, if any.
        canaries: Canaries, if any; needs `"cohort"` in `threat.alters`.
    """

    threat: ThreatModel
    taps: tuple[Tap, ...] = ()
    plays_in_training: bool = False
    shadows: Shadows | None = None
    canaries: Canaries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one defense entry needs of a training, known before anything is trained.

    Attributes:
        seats: Roles that carry the defense.
        channels: Channels it acts on.
        sampling: How batches must be drawn; every seat of the protocol follows it.
        unit: Unit of its guarantee, None where it makes no formal claim.
        per_sample_loss: It needs each sample's gradient to depend on that sample alone (no batch normalization, no
            loss that mixes the samples of a batch, anywhere in the gradient's path).
        adds_coupled_loss: It adds a loss that mixes the samples of a batch.
        last: Nothing may act on its channels after it: what it sends means nothing to another defense (masks, ciphers).
    """

    seats: tuple[str, ...]
    channels: tuple[Channel, ...] = ()
    sampling: Literal["shuffle", "poisson"] = "shuffle"
    unit: Unit | None = None
    per_sample_loss: bool = False
    adds_coupled_loss: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """Why an attack or a defense has no meaning here; the pairing is shown as N/A with this reason."""

    reason: str
