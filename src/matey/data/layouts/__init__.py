"""From arrays to fields: what known programs call them, and how they arrange them."""
