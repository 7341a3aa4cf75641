"""Solvers that make fields: one file per system."""
