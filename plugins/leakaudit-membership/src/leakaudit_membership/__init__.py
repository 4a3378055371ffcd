"""Membership inference for leakaudit: was this patient among those the model was trained on?"""
