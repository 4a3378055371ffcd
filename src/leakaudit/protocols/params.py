"""Parameters of the built-in protocols, without torch, and the facts that follow from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, JsonValue, model_validator

from leakaudit.facts import CohortFacts, Flow, ProtocolFacts, SeatFacts
from leakaudit.models.params import NetworkChoice, NetworkParams, SegResNetParams, TrainingParams
from leakaudit.plugins.params import ProtocolParams
from leakaudit.protocols.dropouts import Dropout, check_rounds, check_sites, described

__all__ = ["CentralizedParams", "FederatedParams", "SplitParams", "TrainedParams"]


class TrainedParams(ProtocolParams):
    """What every built-in protocol has."""

    network: NetworkChoice = Field(
        default_factory=NetworkParams,
        description="The network: a U-Net, or with `architecture: segresnet` a SegResNet, which is trained whole.",
    )
    training: TrainingParams = Field(default_factory=TrainingParams, description="Optimization.")
    rounds: int = Field(20, ge=1, description="Rounds of training (epochs, except in federated learning).")
    clients: list[list[str]] | None = Field(
        None,
        description="Modalities of each encoder; default one encoder per modality. In split learning each is a client.",
    )
    cut: int = Field(1, ge=0, description="Deepest level an encoder computes; level i has 1/2**i of the image's side.")
    skips: list[int] | None = Field(
        None, description="Levels above the cut that are passed on; default all. The cut's own level always is."
    )

    @model_validator(mode="after")
    def _levels_fit(self) -> TrainedParams:
        if isinstance(self.network, SegResNetParams):
            self._check_whole()
            return self
        depth = self.network.levels
        if self.cut >= depth:
            raise ValueError(f"cut {self.cut} must be below the number of levels, {depth} (length of network.channels)")
        if self.skips is not None and any(not 0 <= s < self.cut for s in self.skips):
            raise ValueError(f"skips {self.skips} must be levels above the cut: 0 to {self.cut - 1}")
        return self

    def _check_whole(self) -> None:
        """Raise ValueError if a network that cannot be cut is to be cut."""
        if self.cut != TrainedParams.model_fields["cut"].default or self.skips is not None:
            raise ValueError("cut and skips are for the U-Net: a segresnet is trained whole; leave them out")
        if self.clients is not None and len(self.clients) != 1:
            raise ValueError("clients: a segresnet takes all modalities together; leave clients out, or give one list")

    def key(self) -> dict[str, JsonValue]:
        """Return the parameters as plain JSON, those of network and training by their own keys."""
        return {**super().key(), "network": self.network.key(), "training": self.training.key()}

    def sent_levels(self) -> list[int]:
        """Return the levels that arrive at the trunk, ascending; the last is the cut. A SegResNet has none."""
        if isinstance(self.network, SegResNetParams):
            return []
        skips = range(self.cut) if self.skips is None else sorted(set(self.skips))
        return [*skips, self.cut]

    def groups(self, cohort: CohortFacts) -> list[list[str]]:
        """Return the modalities of each encoder.

        Raises:
            ValueError: A modality is unknown or given twice.
        """
        whole = isinstance(self.network, SegResNetParams)
        groups = self.clients or ([list(cohort.modalities)] if whole else [[m] for m in cohort.modalities])
        flat = [m for group in groups for m in group]
        for modality in flat:
            if modality not in cohort.modalities:
                raise ValueError(f"clients: the data has no modality {modality!r}; it has {', '.join(cohort.modalities)}")
        if len(set(flat)) != len(flat) or not all(groups):
            raise ValueError("clients: every client needs at least one modality, and no modality may be given twice")
        return groups

    def task(self, cohort: CohortFacts) -> dict[str, Any]:
        """Return the constructor arguments of the `SegmentationTask`, JSON."""
        index = [[cohort.modalities.index(m) for m in group] for group in self.groups(cohort)]
        return {
            "network": self.network.key(), "training": self.training.key(), "dims": len(cohort.shape),
            "groups": index, "levels": self.sent_levels(),
        }  # fmt: skip

    def check_shape(self, cohort: CohortFacts) -> None:
        """Raise ValueError if the images cannot be halved as often as the network is deep."""
        step = 2 ** (self.network.levels - 1)
        if any(side % step for side in cohort.shape):
            raise ValueError(f"images of {cohort.shape} voxels do not divide by {step}, which {self.network.levels} levels need")

    def _facts(
        self,
        cohort: CohortFacts,
        protocol: str,
        seats: list[SeatFacts],
        flows: list[Flow],
        levels: tuple[str, ...] = (),
    ) -> ProtocolFacts:
        self.check_shape(cohort)
        return ProtocolFacts(
            protocol=protocol, seats=tuple(seats), flows=(*flows, Flow(channel="output", sender="model", receiver="outsider")),
            rounds=self.rounds, spatial_dims=len(cohort.shape), normalization=self.network.normalization, levels=levels,
            # Nothing where it is a U-Net, so that facts from before there was a choice stay what they were.
            extra={} if isinstance(self.network, NetworkParams) else {"architecture": self.network.architecture},
        )  # fmt: skip


class CentralizedParams(TrainedParams):
    """All patients pooled in one place: the upper baseline of utility."""

    def facts(self, cohort: CohortFacts) -> ProtocolFacts:
        """One seat that holds everything."""
        seat = SeatFacts(id="trainer", role="trainer", modalities=cohort.modalities, labels=True, records=cohort.records)
        self.groups(cohort)
        flow = Flow(channel="model", sender="trainer", receiver="outsider", carries="patients")
        return self._facts(cohort, "centralized", [seat], [flow])


class SplitParams(TrainedParams):
    """Split learning over modalities (Split-U-Net): image clients, a server, masks at the server or at a client."""

    labels: Literal["server", "sent", "u-shaped"] = Field(
        "server",
        description="Who has the masks: the server; a client that sends them to the server; or a client that keeps them "
        "and the head (U-shaped).",
    )
    wire: Literal["float32", "float16"] = Field("float32", description="Number format of activations and gradients sent.")

    @model_validator(mode="after")
    def _can_be_cut(self) -> SplitParams:
        if not isinstance(self.network, NetworkParams):
            raise ValueError(
                f"split learning cuts the network between clients and server, and a {self.network.architecture} cannot be cut: use "
                "architecture: unet, or train it by federated or centralized"
            )
        return self

    def facts(self, cohort: CohortFacts) -> ProtocolFacts:
        """One seat per client, the server, and a label holder where masks are not at the server."""
        groups = self.groups(cohort)
        seats = [
            SeatFacts(id=f"client-{i}", role="client", modalities=tuple(group), records=cohort.records)
            for i, group in enumerate(groups)
        ]
        seats.append(SeatFacts(id="server", role="server", labels=self.labels == "server", records=0))
        levels = tuple(f"level{i}" for i in self.sent_levels())
        flows = [
            Flow(channel="activation", sender="client", receiver="server", names=levels),
            Flow(channel="cut-gradient", sender="server", receiver="client", names=levels),
        ]
        if self.labels != "server":
            seats.append(SeatFacts(id="labels", role="label-holder", labels=True, records=cohort.records))
        if self.labels == "sent":
            flows.append(Flow(channel="label", sender="label-holder", receiver="server", names=("regions",)))
        if self.labels == "u-shaped":
            flows.append(Flow(channel="activation", sender="server", receiver="label-holder", names=("features",)))
            flows.append(Flow(channel="cut-gradient", sender="label-holder", receiver="server", names=("features",)))
        return self._facts(cohort, "split", seats, flows, levels)


class FederatedParams(TrainedParams):
    """Federated averaging (McMahan et al. 2017) over sites that hold different patients."""

    clients: list[list[str]] | None = Field(
        None, description="Modalities of each encoder of the network; default one encoder that takes all of them."
    )
    local_epochs: int = Field(1, ge=1, description="Local passes over a site's data per round; ignored if local_steps is set.")
    local_steps: int | None = Field(None, ge=1, description="Local optimization steps per round instead of epochs.")
    weighting: Literal["samples", "uniform"] = Field("samples", description="Weight of a site's update in the aggregate.")
    optimizer_state: Literal["keep", "restart"] = Field(
        "restart",
        description="Whether a site's optimizer keeps its moments from round to round (Li et al. 2019 compare).",
    )
    participation: float = Field(1.0, gt=0, le=1, description="Share of the sites asked in each round (at least one).")
    dropouts: list[Dropout] = Field(
        [],
        description="Sites that leave in mid-training. Everybody else goes on: the sites of a round are drawn as if nobody had "
        "left, and who left is missing from them. A round that no update reaches leaves the model as it was.",
    )
    on_bad_update: Literal["fail", "drop"] = Field(
        "fail",
        description="What an update with numbers that are not finite does: fail ends the training with the site, round and tensor; "
        "drop leaves it out of that round's average, and the report says so.",
    )

    @model_validator(mode="after")
    def _faults_fit(self) -> FederatedParams:
        check_rounds(self.dropouts, self.rounds)
        return self

    @model_validator(mode="after")
    def _constant_rate(self) -> FederatedParams:
        if self.training.decay != "none":
            raise ValueError("training.decay must be none: a site's local run is defined with one learning rate")
        return self

    def groups(self, cohort: CohortFacts) -> list[list[str]]:
        """Return the modalities of each encoder; by default one encoder takes all."""
        return super().groups(cohort) if self.clients else [list(cohort.modalities)]

    def facts(self, cohort: CohortFacts) -> ProtocolFacts:
        """One seat per site that has members, and the aggregator."""
        self.groups(cohort)
        check_sites(self.dropouts, cohort.sites)
        seats = [
            SeatFacts(id=site, role="site", modalities=cohort.modalities, labels=True, site=site, records=0)
            for site in cohort.sites
        ]
        seats.append(SeatFacts(id="aggregator", role="aggregator"))
        flows = [
            Flow(channel="model", sender="aggregator", receiver="site", carries="site"),
            Flow(channel="update", sender="site", receiver="aggregator", carries="site"),
            Flow(channel="model", sender="aggregator", receiver="outsider", carries="site"),
            # Questions of a defense at the aggregator and their answers, such as shares of masks; without one there are none.
            Flow(channel="control", sender="aggregator", receiver="site", carries="nobody"),
            Flow(channel="control", sender="site", receiver="aggregator", carries="nobody"),
        ]
        local = {"local_steps": self.local_steps} if self.local_steps else {"local_epochs": self.local_epochs}
        extra = {k: str(v) for k, v in {**local, "batch_size": self.training.batch_size}.items()}
        if self.dropouts:
            extra["dropouts"] = described(self.dropouts)
        facts = self._facts(cohort, "federated", seats, flows)
        asked = self.asked(len(cohort.sites))
        return replace(
            facts, extra={**facts.extra, **extra}, absences=tuple(fault.absence() for fault in self.dropouts),
            drawn=asked if asked < len(cohort.sites) else None,
        )  # fmt: skip

    def asked(self, sites: int) -> int:
        """Return how many of so many sites are drawn in a round."""
        return max(1, round(self.participation * sites))
