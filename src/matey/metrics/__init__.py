"""Formulas that score fields."""
