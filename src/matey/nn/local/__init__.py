"""Maps of the points around: what the fields at a point make of their neighbours."""
