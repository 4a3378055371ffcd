"""What a check finds, and the error that lists every violated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from leakaudit.errors import UserError

__all__ = ["CheckResult", "ConformanceError", "Status", "UntriedError", "ViolationError"]

Status = Literal["passed", "failed", "expected", "not-tried"]


class ViolationError(Exception):
    """Raised by a check: the plugin breaks the contract.

    Args:
        problem: What is wrong, as the end of a sentence that begins with the check's name.
        fix: What its author should do.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem} Fix: {fix}")
        self.problem, self.fix = problem, fix


class UntriedError(Exception):
    """Raised by a check that does not concern this plugin; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check ended.

    Attributes:
        name: The check.
        status: `"passed"`; `"failed"`; `"expected"` (it failed, and the author says why that is right); `"not-tried"` (it does
            not concern this plugin, or a check that it builds on did not pass).
        detail: What was found and how to mend it; why it was not tried; or the author's reason. Empty when it passed.
    """

    name: str
    status: Status
    detail: str = ""


class ConformanceError(UserError):
    """A plugin breaks the contract. The message lists every violated check with its fix.

    Args:
        who: Kind and qualified name of the plugin.
        results: Results of all checks.
    """

    exit_code = 1

    def __init__(self, who: str, results: Sequence[CheckResult]) -> None:
        self.results = tuple(results)
        failed = [r for r in results if r.status == "failed"]
        checks = "1 check" if len(failed) == 1 else f"{len(failed)} checks"
        lines = "".join(f"\n  {r.name}: {r.detail}" for r in failed)
        super().__init__(f"{who} breaks the plugin contract in {checks} of {len(results)}:{lines}")
