"""Which process computes which cells. Here one process computes them all.

With `parallel.sequence` the cells of one sample are spread over several: then
`matey.train.exchange` puts its own share in place of this one.
"""

from torch import Tensor


class Share:
    """All cells belong to this process."""

    def own(self, rows: Tensor) -> Tensor:
        """Of rows that stand for all cells, those of this process' cells."""
        return rows

    def all(self, rows: Tensor, cells: int) -> Tensor:
        """The rows of all `cells`, from those that each process has of its own."""
        return rows
