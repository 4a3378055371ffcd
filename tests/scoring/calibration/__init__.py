"""Simulations that hold the shipped rules of evidence against the figures they were designed by."""
