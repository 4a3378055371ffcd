"""DP-SGD around local training, with per-sample gradients and accountants of Opacus."""

from __future__ import annotations
