"""What an executor is handed and what it gives back: plain JSON, so that both can travel to another machine."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Job", "Outcome", "Status"]

Status = Literal["ok", "error", "timeout", "killed", "blocked"]


@dataclass(frozen=True)
class Job:
    """One cell to compute.

    `spec` holds at least `runner`, the import string `module:function` of the function that does the work. It may hold
    `device` (default `cpu`), `threads` (default `cpus`) and `deterministic` (default true), which are set up before it runs.

    Attributes:
        key: Key of the cell; its result is stored under it.
        kind: `train`, `attack`, ...; jobs of one kind are expected to take similar times.
        label: What people read, for example `split/none`.
        spec: JSON-able instructions for the runner.
        inputs: Keys of the cells it reads.
        cpus: Cores that it keeps busy.
        gpus: Accelerators that it keeps busy.
        memory_mb: Memory it is expected to need; the scheduler adds these up.
        memory_limit_mb: Memory at which it is killed, or None for no limit.
        wall_s: Seconds after which it is killed. A limit never shortens a result: it gives an error.
        isolated: Whether the runner gets a clean child process for code that must not see the job.
        environment: Digest of `keys.environment(...)` the key was made for; a worker that differs refuses. Empty: any.
    """

    key: str
    kind: str
    label: str
    spec: dict[str, Any]
    inputs: tuple[str, ...] = ()
    cpus: int = 1
    gpus: int = 0
    memory_mb: int = 1000
    memory_limit_mb: int | None = None
    wall_s: float = 3600.0
    isolated: bool = False
    environment: str = ""

    @property
    def threads(self) -> int:
        """Number of torch threads of the job's process."""
        return int(self.spec.get("threads", self.cpus))

    def to_json(self) -> str:
        """Write the job as JSON."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` wrote."""
        record = json.loads(text)
        record["inputs"] = tuple(record["inputs"])
        return cls(**record)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        key: The job's key.
        status: `ok`; `error` (it raised, or did not store its result); `timeout` (over its wall clock); `killed` (its process
            died or broke its memory limit); `blocked` (an input failed, so it was not started).
        reason: One sentence for people; empty when ok.
        seconds: Wall-clock seconds.
        peak_mb: Largest resident memory of all its processes together, in MB (2**20 bytes); pages that they share are
            counted for each, so it errs upward.
        cached: Whether the result was there already.
        detail: What the runner returned: small JSON.
        public: The reason without the words of code that is not leakaudit's; empty where the reason has none of them.
        sandbox: `landlock` when the clean child was cut off from the file system, `none` when not, empty when unused.
    """

    key: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    cached: bool = False
    detail: dict[str, Any] = field(default_factory=dict)
    public: str = ""
    sandbox: str = ""

    @property
    def ok(self) -> bool:
        """Whether the result is in the store."""
        return self.status == "ok"
