"""Baselines: networks to compare the transformer with."""
