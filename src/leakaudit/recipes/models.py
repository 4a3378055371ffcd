"""The recipe's structure. What a plugin's own parameters must look like is the plugin's business."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

__all__ = [
    "NONE", "AttackEntry", "DataEntry", "DefenseEntry", "Entry", "ExecutorEntry", "Filter", "Recipe", "ReportSettings",
    "RunSettings", "is_undefended", "raw_label",
]  # fmt: skip

NONE = "none"
"""Label of the undefended training, which every run has first."""

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=80)]
"""Name of an entry: letters, digits, `_`, `-`, `.`, `+`."""

Values = dict[str, JsonValue]

_LABEL = "Label in plan and report: letters, digits and any of . _ - +. By default the plugin's name."


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Model):
    """One use of a plugin."""

    use: str = Field(description="Plugin name, or distribution/name where two plugins share a name.")
    name: Label | None = Field(
        default=None, description="Label in plan and report: letters, digits and any of . _ - +. By default the plugin's name."
    )
    params: Values = Field(default_factory=dict, description="Parameters of the plugin.")

    @property
    def label(self) -> str:
        """The name, by default the plugin's bare name."""
        return self.name or self.use.rpartition("/")[2]


class DataEntry(Entry):
    """The dataset and how its patients are split."""

    split: Values = Field(default_factory=dict, description="How many patients each part of the cohort gets.")


class DefenseEntry(_Model):
    """One defense, or a chain of defenses that is applied in order."""

    use: str | None = Field(default=None, description="Plugin name, or distribution/name where two plugins share a name.")
    chain: tuple[Entry, ...] | None = Field(default=None, min_length=1, description="Defenses applied one after another.")
    name: Label | None = Field(
        default=None, description="Label in plan and report: letters, digits and any of . _ - +. By default the plugin names."
    )
    params: Values = Field(default_factory=dict, description="Parameters of the plugin.")

    @model_validator(mode="after")
    def _one_form(self) -> DefenseEntry:
        if (self.use is None) == (self.chain is None):
            raise ValueError("a defense has either 'use' or 'chain'")
        if self.chain is not None and self.params:
            raise ValueError("the params of a chain belong to its entries")
        return self

    @property
    def links(self) -> tuple[Entry, ...]:
        """The defenses in order: one, or the chain's."""
        return self.chain or (Entry(use=self.use or NONE, params=self.params),)

    @property
    def label(self) -> str:
        """The name, by default the plugins' bare names joined by `+`."""
        return self.name or "+".join(link.label for link in self.links)


class Filter(_Model):
    """A choice of pairings by label; what is left out is not restricted."""

    protocols: tuple[str, ...] | None = Field(default=None, description="Labels of protocols.")
    defenses: tuple[str, ...] | None = Field(default=None, description="Labels of defenses; 'none' is the undefended one.")

    def matches(self, protocol: str, defense: str) -> bool:
        """Whether a pairing fits everything that is said here."""
        fits_protocol = self.protocols is None or protocol in self.protocols
        return fits_protocol and (self.defenses is None or defense in self.defenses)


class AttackEntry(Entry):
    """One attack, by default against every protocol and defense."""

    only: Filter | None = Field(default=None, description="Only the pairings that fit all that is said here.")
    skip: Filter | None = Field(default=None, description="Leave out the pairings that fit all that is said here.")
    seeds: int = Field(
        default=1, ge=1, le=10,
        description="Runs of the attack with different randomness on the same recording; the result is their mean, and where they "
        "differ by more than the limit no defense can pass.",
    )  # fmt: skip


class ExecutorEntry(_Model):
    """Where cells are computed."""

    use: str = Field(default="local", description="Plugin name of the executor.")
    params: Values = Field(default_factory=dict, description="Parameters of the executor.")


class RunSettings(_Model):
    """How the run is computed. Only threads, device class, determinism and precision can change a number."""

    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto (CUDA when present), cpu, cuda or cuda:N."
    )
    executor: ExecutorEntry = Field(default_factory=ExecutorEntry, description="Executor plugin, or its bare name.")
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        default=1, description="Cells computed at the same time; auto takes what the machine has."
    )
    isolation: Literal["process", "strict"] = Field(
        default="process",
        description="process: an active party runs in the training process; strict: in a process of its own.",
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Threads of each cell; part of the cell's key.")
    cell_timeout_s: float | None = Field(
        default=21600.0, gt=0, allow_inf_nan=False, description="Seconds after which a hanging cell is an ERROR; null never."
    )
    determinism: bool = Field(default=True, description="Refuse operations whose result is not reproducible.")
    precision: Literal["float32", "mixed"] = Field(default="float32", description="Arithmetic of training and attacks.")


class ReportSettings(_Model):
    """What the report may show."""

    images: Literal["none", "synthetic", "public", "all"] = Field(
        default="public",
        description="Images of patients: none; of synthetic data; of synthetic or declared public data; or of all data, "
        "which also needs --patient-images on the command line.",
    )
    per_patient: bool = Field(default=False, description="List scores by patient, under pseudonyms salted per run.")
    min_cell: int = Field(
        default=5, ge=1, le=1000,
        description="Fewest patients that a number may rest on, where they are real and not public: exact counts below it and "
        "numbers from so few patients are not shown. 1 shows everything.",
    )  # fmt: skip
    sections: tuple[Entry, ...] = Field(
        default=(), description="Further sections that plugins write, in this order; they never change a number or the verdict."
    )


def raw_label(item: Any) -> str:
    """Return the label of an entry that is not validated yet, an empty string where it is too wrong to have one."""
    if not isinstance(item, dict):
        return ""
    if isinstance(item.get("name"), str):
        return str(item["name"])
    if isinstance(item.get("chain"), list):
        links = [raw_label(link) for link in item["chain"]]
        return "+".join(links) if all(links) else ""
    use = item.get("use")
    return use.rpartition("/")[2] if isinstance(use, str) else ""


def is_undefended(item: Any) -> bool:
    """Whether a raw defense entry is a bare `none`: allowed, and without effect, for that training is always there."""
    return bool(item == {"use": NONE})


class Recipe(_Model):
    """The YAML file that states one audit."""

    version: Literal[1] = Field(description="Version of the recipe format: 1.")
    name: Label = Field(description="Name of the audit: letters, digits and any of . _ - +.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed from which every random stream is derived.")
    repeats: int = Field(default=1, ge=1, le=1000, description="Trainings of each protocol and defense; PASS needs 3.")
    data: DataEntry = Field(description="The dataset, its parameters and its split.")
    protocols: tuple[Entry, ...] = Field(min_length=1, description="How the parties train together.")
    defenses: tuple[DefenseEntry, ...] = Field(default=(), description="Defenses besides the implicit 'none'.")
    attacks: tuple[AttackEntry, ...] = Field(default=(), description="Attacks, each against every protocol and defense.")
    policy: Values | str = Field(default_factory=dict, description="Thresholds, or the path of a YAML file with them.")
    run: RunSettings = Field(default_factory=RunSettings, description="How the run is computed.")
    report: ReportSettings = Field(default_factory=ReportSettings, description="What the report may show.")
