"""Pages made from result files only: no model is loaded, no field file opened."""
