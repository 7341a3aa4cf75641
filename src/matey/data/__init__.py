"""Files to fields, fields to windows, windows to batches."""
