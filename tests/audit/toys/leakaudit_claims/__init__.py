"""Toys that claim a guarantee, truly or falsely."""
