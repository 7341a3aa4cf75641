"""Scores on test trajectories."""
