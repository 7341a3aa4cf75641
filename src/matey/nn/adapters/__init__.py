"""Low-rank adapters: what fine-tuning adds to weights that stay as they are."""
