"""Defenses of federated updates: what a site sends of its local training is noised, clipped, thinned out or made coarse."""

from __future__ import annotations
