"""Reports and pages that the tests of this folder share; built once."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from leakaudit.report.model import Report
from leakaudit.report.render import render_html

# Test folders are no packages (import mode importlib), so helpers beside the tests are found by their folder.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    return importlib.import_module("factory")


@pytest.fixture(scope="session")
def report(factory: ModuleType) -> Report:
    return factory.make_report(20)


@pytest.fixture(scope="session")
def page(report: Report) -> str:
    return render_html(report)
