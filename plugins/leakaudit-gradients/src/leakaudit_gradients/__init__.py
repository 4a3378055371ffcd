"""Gradient inversion for leakaudit: images, masks and tumor volumes from the updates that sites send."""
