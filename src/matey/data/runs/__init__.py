"""Which files are one run: frames of it, stretches of it, or variables of it."""
