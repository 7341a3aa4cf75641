"""Cells and patches: where a field is cut, and how fine. No learned weights here."""
