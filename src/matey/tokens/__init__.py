"""How a grid is cut into patches that become tokens. No learned weights here.

In reading order: `normalise` makes fields dimensionless, `lattice` cuts a grid into cells,
`criteria` measures each cell, `refine` plans which cells are cut finer, and `pack` puts the cells
in use into sequences of tokens.
"""
