"""Opacus, imported in one place, because its import gives the root logger a handler: that is the application's to decide."""

from __future__ import annotations

import logging

_handlers = list(logging.root.handlers)

import opacus  # noqa: E402
from opacus import GradSampleModule  # noqa: E402
from opacus.accountants import RDPAccountant, create_accountant  # noqa: E402
from opacus.accountants.utils import get_noise_multiplier  # noqa: E402
from opacus.optimizers import DPOptimizer  # noqa: E402
from opacus.validators import ModuleValidator  # noqa: E402

logging.root.handlers = _handlers

__all__ = [
    "VERSION", "DPOptimizer", "GradSampleModule", "ModuleValidator", "RDPAccountant", "create_accountant",
    "get_noise_multiplier",
]  # fmt: skip

VERSION: str = opacus.__version__
