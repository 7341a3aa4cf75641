"""Pages made from result files only: no model is loaded, no field file opened."""

from matey.report.page import build

__all__ = ["build"]
