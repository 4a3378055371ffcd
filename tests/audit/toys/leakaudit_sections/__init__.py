"""Toy sections of a report."""
