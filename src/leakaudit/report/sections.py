"""What a plugin's further section of the report implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from leakaudit.plugins.params import Params
from leakaudit.report.model import Report, SectionTable

__all__ = ["SectionWriter"]

P = TypeVar("P", bound=Params)


class SectionWriter(ABC, Generic[P]):
    """A further section: plain text and tables, made from what the report already holds.

    It sees the report as it is going to be shown, with pseudonyms and without what the recipe keeps back, and nothing of the
    patients. It cannot change a number, a status or the verdict. Markup is shown as text.

    Example:
        ```python
        class Weakest(SectionWriter[Params]):
            def write(self, report):
                failed = [p.attack for p in report.pairings if p.status == "FAIL"]
                return ["Attacks that succeeded somewhere: " + (", ".join(sorted(set(failed))) or "none") + "."]
        ```

    Args:
        params: The section's parameters.
    """

    def __init__(self, params: P) -> None:
        self.params = params

    @abstractmethod
    def write(self, report: Report) -> Sequence[str | SectionTable]:
        """Return the section's paragraphs and tables; an exception makes it a section that failed, and the rest stands.

        Args:
            report: The report, frozen.
        """
