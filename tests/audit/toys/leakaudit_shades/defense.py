from __future__ import annotations

from leakaudit.defenses import Defense
from leakaudit_shades import params


class Steady(Defense[params.Steady]):
    """Does nothing; its recipe is what is tried."""
