"""How much of each cell of a plane mesh lies in each cell of a grid: exact areas.

The area of a polygon in a box is a sum over the polygon's edges: of each, the integral along x,
between the sides of the box, of its height above the bottom, cut off at the top. Edges that run
back count negative.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64

PAIRS = 2**20  # of polygons and boxes at once


def areas(
    corners: Float64[np.ndarray, "n k 2"],
    x: Float64[np.ndarray, " w"],
    y: Float64[np.ndarray, " h"],
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """The numbers of polygons, of boxes (x fastest) and the areas that they have in common.

    `corners` are those of each polygon in order, the last repeated where it has fewer; `x` and `y`
    are the edges of the boxes.
    """
    found = []
    for polygons, columns, rows in pairs(corners, x, y):
        points = corners[polygons]
        shared = area_in_box(points, x[columns], x[columns + 1], y[rows], y[rows + 1])
        keep = shared > 0
        boxes = rows * (len(x) - 1) + columns
        found.append((polygons[keep], boxes[keep], shared[keep]))
    every = [np.concatenate(each) for each in zip(*found, strict=True)]
    return every[0], every[1], every[2]


def pairs(
    corners: np.ndarray, x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Polygons, and the columns and rows of boxes that each may reach, some at once."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    first, count = [], []
    for axis, edges in enumerate((x, y)):
        begin = np.clip(np.searchsorted(edges, low[:, axis], "right") - 1, 0, len(edges) - 1)
        end = np.clip(np.searchsorted(edges, high[:, axis], "left"), 0, len(edges) - 1)
        first.append(begin)
        count.append(np.maximum(end - begin, 0))
    sizes = count[0] * count[1]
    groups = np.cumsum(sizes) // PAIRS
    for group in range(int(groups[-1]) + 1 if len(groups) else 0):
        chosen = np.flatnonzero((groups == group) & (sizes > 0))
        polygons = np.repeat(chosen, sizes[chosen])
        begins = np.repeat(np.cumsum(sizes[chosen]) - sizes[chosen], sizes[chosen])
        place = np.arange(len(polygons)) - begins
        wide = count[0][polygons]
        yield polygons, first[0][polygons] + place % wide, first[1][polygons] + place // wide


def area_in_box(
    points: Float64[np.ndarray, "m k 2"],
    left: Float64[np.ndarray, " m"],
    right: Float64[np.ndarray, " m"],
    bottom: Float64[np.ndarray, " m"],
    top: Float64[np.ndarray, " m"],
) -> Float64[np.ndarray, " m"]:
    """The area of each polygon in its box."""
    total = np.zeros(len(points))
    tall = top - bottom
    for corner in range(points.shape[1]):
        begin, end = points[:, corner - 1], points[:, corner]
        run = end[:, 0] - begin[:, 0]
        slope = np.divide(end[:, 1] - begin[:, 1], run, out=np.zeros_like(run), where=run != 0)
        near, far = np.clip(begin[:, 0], left, right), np.clip(end[:, 0], left, right)
        heights = [begin[:, 1] + slope * (along - begin[:, 0]) - bottom for along in (near, far)]
        total += (far - near) * mean_height(heights[0], heights[1], tall)
    return np.abs(total)


def mean_height(a: np.ndarray, b: np.ndarray, tall: np.ndarray) -> np.ndarray:
    """The mean of a height that goes evenly from a to b, cut off at 0 and at `tall`."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    c, d = np.clip(low, 0, tall), np.clip(high, 0, tall)
    within = (d - c) * (c + d) / 2 + np.maximum(high - np.maximum(low, tall), 0) * tall
    return np.divide(within, high - low, out=(c + d) / 2, where=high > low)
