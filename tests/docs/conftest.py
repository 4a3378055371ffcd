from __future__ import annotations

import sys
from pathlib import Path

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent / "plugins")]

from installed_plugins import site  # noqa: E402

__all__ = ["site"]
