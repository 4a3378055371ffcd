"""Adversaries that act while a split network is trained: feature-space hijacking and passive simulation."""
