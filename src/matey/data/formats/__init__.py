"""From bytes to arrays: one container for each format, and what keeps reading safe."""
