"""The synthetic phantom: thousands of seeded patients with known anatomy, tumor and identity, and no license burden.

`Phantom` renders the patients, `PhantomParams` says which, and `decode` reads planted identity bits back from an image.
Nothing here needs torch; the names below are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakaudit._lazy import lazy

if TYPE_CHECKING:
    from leakaudit.cohorts.phantom.canary import BITS, decode
    from leakaudit.cohorts.phantom.dataset import Phantom
    from leakaudit.cohorts.phantom.params import PhantomParams

__all__ = ["BITS", "Phantom", "PhantomParams", "decode"]

__getattr__ = lazy(__name__, {"BITS": "canary", "decode": "canary", "Phantom": "dataset", "PhantomParams": "params"})
