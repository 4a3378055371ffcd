"""Reports and pages that the tests of this folder share; built once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from leakaudit.report.model import Report
from leakaudit.report.render import render_html


def _load_factory() -> ModuleType:
    # Test folders are no packages (import mode importlib), so the factory is loaded by its path.
    spec = importlib.util.spec_from_file_location("report_factory", Path(__file__).with_name("factory.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_factory"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    return _load_factory()


@pytest.fixture(scope="session")
def report(factory: ModuleType) -> Report:
    return factory.make_report(20)


@pytest.fixture(scope="session")
def page(report: Report) -> str:
    return render_html(report)
