"""Defenses at the cut of split learning: what image clients send is noised or partly dropped."""

from __future__ import annotations
