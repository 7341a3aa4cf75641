"""Blocks of cells of several sizes onto one grid, by means over volume.

Each cell of the grid gets the mean of what the blocks hold in it, weighted by volume: the integral
of a variable over the domain stays what it is. Where the grid is finer than a block, its cells
share the block's value.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from matey.data.resample.frames import Target, Values

HALF = 0.5  # the share of a cell that has to be covered for a value in it


@dataclass(frozen=True)
class Block:
    """A box of cells: their edges along each axis, and how to read their values [C ...].

    `live` marks the cells that count, where finer blocks hold the others; None is all of them.
    """

    edges: tuple[np.ndarray, ...]
    read: Callable[[], np.ndarray]
    live: Bool[np.ndarray, "..."] | None = None


def average(blocks: Iterable[Block], count: int, target: Target) -> Values:
    """The mean of `count` variables over the cells of a grid [C ...], NaN where less than half a
    cell is covered."""
    sums = np.zeros((count, *target.shape))
    volume = np.zeros(target.shape)
    for block in blocks:
        parts = [overlap(*pair) for pair in zip(target.edges, block.edges, strict=True)]
        empty = block.live is not None and not block.live.any()
        if empty or not all(shares.size for _, shares in parts):
            continue
        where = tuple(part for part, _ in parts)
        shares = [each for _, each in parts]
        values = np.asarray(block.read(), np.float64)
        if block.live is None:
            volume[where] += spread(np.ones([1] * len(shares)), [s.sum(1)[:, None] for s in shares])
        else:
            volume[where] += spread(block.live.astype(np.float64), shares)
            values = np.where(block.live, values, 0.0)
        sums[(slice(None), *where)] += spread(values, shares)
    cells = np.ones(())
    for edges in target.edges:
        cells = cells[..., None] * np.diff(edges)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(volume > HALF * cells, sums / volume, np.nan)


def overlap(coarse: np.ndarray, fine: np.ndarray) -> tuple[slice, Float64[np.ndarray, "n m"]]:
    """Which cells of a grid those of a block reach along an axis, and the length that each of them
    has in common with each of the block's; both by their edges."""
    first = max(int(np.searchsorted(coarse, fine[0], "right")) - 1, 0)
    last = min(int(np.searchsorted(coarse, fine[-1], "left")), len(coarse) - 1)
    edges = coarse[first : last + 1] if last > first else coarse[:1]
    low = np.maximum(edges[:-1, None], fine[None, :-1])
    high = np.minimum(edges[1:, None], fine[None, 1:])
    return slice(first, max(last, first)), np.clip(high - low, 0.0, None)


def spread(values: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray:
    """Sums of values over their last axes, with the shares along each."""
    lead = values.ndim - len(shares)
    for axis, weights in enumerate(shares, start=lead):
        values = np.moveaxis(np.tensordot(values, weights, (axis, 1)), -1, axis)
    return values


def uncovered(
    edges: Sequence[np.ndarray], low: Float64[np.ndarray, "n d"], high: Float64[np.ndarray, "n d"]
) -> Bool[np.ndarray, "..."] | None:
    """Which cells of a block lie in none of the finer boxes (low and high corners); None if all."""
    live = np.ones([len(each) - 1 for each in edges], bool)
    centres = [(each[1:] + each[:-1]) / 2 for each in edges]
    first, last = np.array([each[0] for each in edges]), np.array([each[-1] for each in edges])
    for box in np.flatnonzero(((low < last) & (high > first)).all(axis=1)):
        inside = [
            slice(*np.searchsorted(points, (low[box, axis], high[box, axis])))
            for axis, points in enumerate(centres)
        ]
        live[tuple(inside)] = False
    return None if live.all() else live


def even_edges(low: float, high: float, cells: int) -> np.ndarray:
    """The edges of so many cells of one size."""
    return low + (high - low) * (np.arange(cells + 1) / cells)
