"""DP-SGD around local training and site-level DP of federated averaging, with gradients per sample and accountants of Opacus."""

from __future__ import annotations
