"""Where fine tokens go: which cells are refined, and the plan of cells that follows.

`plan_refinement` measures a criterion in every cell (`measure_cells`), chooses cells by it
(`choose_cells`) and cuts them (`cut_cells`).

Axes: B samples, (Z, Y, X) grid points, (Kz, Ky, Kx) cells of one level, M cells of all
levels, N leaves.
Source: arXiv:2412.20601, section 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matey.config import RefineConfig
from matey.errors import ConfigError
from matey.fields.grid import Points, even_points
from matey.fields.inputs import periodic
from matey.tokens.criteria import cell_volumes, measure_cells
from matey.tokens.lattice import (
    NOWHERE,
    Triple,
    continued,
    corners,
    covering,
    cropped,
    lattice_shape,
)

# Normalised fields vary by about 1. A variation below this is rounding, not physics.
STILL = 1e-9

Cells = Bool[Tensor, "B Kz Ky Kx"]
Levels = list[Bool[Tensor, "B ..."]]  # one mask over a lattice for each level but the finest


@dataclass(frozen=True)
class RefinementPlan:
    """The cells that a batch of fields is cut into, coarse levels first.

    `domain` is the shape of the fields, `grid` that of the least lattice of coarse cells over it,
    of which so many points lie `before` the domain, and `sizes` are the cells' sizes on each level,
    in grid points. Each of the M cells has its `sample`, `level`, `corner` (its lowest point of the
    lattice, z y x), `parent` (index of the cell it was cut from, -1 for none) and `refined` (it was
    cut further).
    Within a level cells are sorted by sample, and the children of a cell are consecutive.
    """

    grid: Triple
    sizes: tuple[Triple, ...]
    samples: int
    sample: Int[Tensor, " M"]
    level: Int[Tensor, " M"]
    corner: Int[Tensor, "M 3"]
    parent: Int[Tensor, " M"]
    refined: Bool[Tensor, " M"]
    domain: Triple
    before: Triple = NOWHERE

    @cached_property
    def leaves(self) -> Int[Tensor, " N"]:
        """Indices of the cells that are not cut further. They tile each domain once.

        Sorted by sample; within a sample coarse cells come before fine ones.
        """
        leaf = (~self.refined).nonzero().squeeze(1)
        return leaf[torch.sort(self.sample[leaf], stable=True).indices]

    @cached_property
    def size(self) -> Int[Tensor, "M 3"]:
        """Extent of each cell in grid points."""
        return torch.tensor(self.sizes, device=self.level.device)[self.level]

    @property
    def labels(self) -> Int[Tensor, "B Z Y X"]:
        """The leaf that each grid point lies in."""
        points = self.level.new_full((self.samples, *self.grid), -1)
        for level, size in enumerate(self.sizes):
            lattice = lattice_shape(self.grid, size)
            leaves = self.leaves_at(level)
            marked = self.level.new_full((self.samples * math.prod(lattice),), -1)
            marked[self.lattice_index(level, leaves)] = leaves
            points = points.maximum(spread(marked.view(self.samples, *lattice), points))
        return cropped(points, self.domain, self.before)

    @property
    def tokens(self) -> Int[Tensor, " B"]:
        """Leaves of each sample, per frame."""
        return torch.bincount(self.sample[self.leaves], minlength=self.samples)

    def leaves_at(self, level: int) -> Int[Tensor, " leaves"]:
        """Indices of the leaves of one level, sorted by sample."""
        return ((self.level == level) & ~self.refined).nonzero().squeeze(1)

    def lattice_index(self, level: int, cells: Int[Tensor, " chosen"]) -> Int[Tensor, " chosen"]:
        """Indices of cells of one level in the level's lattice [B Kz Ky Kx], flattened."""
        size = torch.tensor(self.sizes[level], device=self.level.device)
        _, rows, columns = lattice = lattice_shape(self.grid, self.sizes[level])
        z, y, x = (self.corner[cells] // size).unbind(1)
        return self.sample[cells] * math.prod(lattice) + (z * rows + y) * columns + x

    def index_of(self, level: int, cells: Int[Tensor, " chosen"]) -> Int[Tensor, " chosen"] | None:
        """The same; None for all coarse cells, which are in order."""
        whole = self.samples * math.prod(self.grid) // math.prod(self.sizes[0])
        return None if level == 0 and len(cells) == whole else self.lattice_index(level, cells)


@torch.no_grad()
def plan_refinement(
    fields: Float[Tensor, "B T C Z Y X"],
    boundaries: Int[Tensor, "B 3 2"],
    sizes: Sequence[Triple],
    config: RefineConfig,
    points: Points | None = None,
    before: Triple = NOWHERE,
) -> RefinementPlan:
    """Cut every sample into cells of `sizes[0]`, and those that deserve it into finer ones.

    Each sample is planned by itself. `boundaries` decide whether a buffer goes on across a side,
    and how fields are continued where cells do not tile their grid, or begin so many points
    `before` it: what lies beyond counts nowhere.
    `points` are the positions of stretched or masked grid points.
    Raises ConfigError for an unknown criterion or a token budget below the number of coarse cells.
    """
    domain = fields.shape[-3], fields.shape[-2], fields.shape[-1]
    check_budget(domain, sizes[0], config, before)
    wraps = periodic(boundaries)
    if (grid := covering(domain, sizes[0], before)) != domain:
        points = (points or even_points(len(fields), domain, fields.device)).continued(grid, before)
        fields = continued(fields, grid, wraps, before)
    values = [measure_cells(config.criterion, fields, size, points) for size in sizes[:-1]]
    if config.bulk is not None and points is not None:  # of integrals, not of means
        values = [v * cell_volumes(points, size) for v, size in zip(values, sizes, strict=False)]
    masks = choose_cells(values, sizes, wraps, config)
    return cut_cells(grid, sizes, masks, len(fields), fields.device, domain, before)


def join_plans(plans: Sequence[RefinementPlan]) -> RefinementPlan:
    """Plans of one sample each, on one grid, as the plan of a batch."""
    sizes = torch.tensor([len(plan.level) for plan in plans])
    sample = torch.arange(len(plans)).repeat_interleave(sizes)
    level = torch.cat([plan.level for plan in plans])
    order = torch.argsort(level * len(plans) + sample, stable=True)
    place = torch.argsort(order)  # where each cell comes to stand
    parent = torch.cat([plan.parent for plan in plans])
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    parent = torch.where(parent < 0, -1, place[parent + first])
    return replace(
        plans[0],
        samples=len(plans),
        sample=sample[order],
        level=level[order],
        corner=torch.cat([plan.corner for plan in plans])[order],
        parent=parent[order],
        refined=torch.cat([plan.refined for plan in plans])[order],
    )


def check_budget(
    grid: Triple, size: Triple, config: RefineConfig, before: Triple = NOWHERE
) -> None:
    """Raise ConfigError for a token budget below the number of coarse cells on a grid, of which the
    first begin so many points `before` it."""
    coarse = math.prod(lattice_shape(covering(grid, size, before), size))
    if config.token_budget is not None and config.token_budget < coarse:
        raise ConfigError(
            f"model.refine.token_budget is {config.token_budget}, but the coarse patches alone are "
            f"{coarse} tokens per frame: the least possible. Give {coarse} or more."
        )


def choose_cells(
    values: Sequence[Float[Tensor, "B ..."]],
    sizes: Sequence[Triple],
    periodic: Bool[Tensor, "B 3"],
    config: RefineConfig,
) -> Levels:
    """The cells to refine of each level but the finest, as masks over its whole lattice.

    `values` are the criterion in all cells of these levels. A cell is refined where it exceeds
    `config.threshold` of the largest value among the sample's cells of that level. By definition
    a threshold of 0 refines every cell, and 1 none; above 0 a constant field is refined nowhere.
    `config.bulk`, `config.fraction` or `config.token_budget` decide instead if they are given;
    ties go to the lower cell.
    """
    if config.token_budget is not None:
        return choose_by_budget(values, sizes, periodic, config.token_budget, config.buffer)
    masks: Levels = []
    for value in values:
        candidates = spread(masks[-1], value) if masks else torch.ones_like(value, dtype=torch.bool)
        chosen = select(value, candidates, config)
        masks.append(dilate(chosen, config.buffer, periodic) & candidates)
    return masks


def select(value: Float[Tensor, "B Kz Ky Kx"], candidates: Cells, config: RefineConfig) -> Cells:
    """The candidates of one level to refine, by threshold, bulk or fraction."""
    if config.bulk is not None:
        return hold_bulk(value, candidates, config.bulk)
    if config.fraction is not None:
        count = candidates.flatten(1).sum(dim=1, keepdim=True)
        lowest = value.masked_fill(~candidates, -torch.inf)
        return (rank(lowest.flatten(1)) < (config.fraction * count).round()).view_as(candidates)
    if config.threshold in (0, 1):
        return candidates if config.threshold == 0 else torch.zeros_like(candidates)
    largest = value.masked_fill(~candidates, 0).flatten(1).amax(dim=1)
    bar = (config.threshold * largest).clamp(min=STILL)
    return candidates & (value > bar[:, None, None, None])


def hold_bulk(value: Float[Tensor, "B Kz Ky Kx"], candidates: Cells, bulk: float) -> Cells:
    """The fewest candidates that together hold the fraction `bulk` of their sum.

    By definition all of them for 1; otherwise none whose value is rounding.
    Source: Dörfler (1996), SIAM J. Numer. Anal. 33, 1106.
    """
    if bulk == 1:
        return candidates
    held = value.masked_fill(~candidates | (value <= STILL), 0).flatten(1).double()
    falling, order = held.sort(dim=1, descending=True, stable=True)
    before = falling.cumsum(dim=1) - falling  # held by larger ones
    chosen = (before < bulk * held.sum(dim=1, keepdim=True)) & (falling > 0)
    return torch.zeros_like(chosen).scatter(1, order, chosen).view_as(candidates)


def choose_by_budget(
    values: Sequence[Float[Tensor, "B ..."]],
    sizes: Sequence[Triple],
    periodic: Bool[Tensor, "B 3"],
    budget: int,
    buffer: int,
) -> Levels:
    """As many cells as a `budget` of leaves per sample allows, largest value first.

    Cells of all levels compete, but none is cut before the cell it lies in. The set of refined
    cells grows with the budget.
    """
    if not values:  # one level: nothing to choose
        return []
    coarse = math.prod(values[0].shape[1:])
    claims = [values[0]]
    for value in values[1:]:
        claims.append(value.minimum(spread(claims[-1], value)))
    ranks = rank(torch.cat([claim.flatten(1) for claim in claims], dim=1))
    parts = ranks.split([claim[0].numel() for claim in claims], dim=1)
    by_level = [part.view_as(claim) for part, claim in zip(parts, claims, strict=True)]
    gains = [math.prod(size) // math.prod(finer) - 1 for size, finer in pairwise(sizes)]

    def first(count: Int[Tensor, " B"]) -> Levels:
        """The masks that refine the first `count` cells of each sample, and their buffers."""
        masks: Levels = []
        for level_ranks in by_level:
            chosen = dilate(level_ranks < count[:, None, None, None], buffer, periodic)
            masks.append(chosen & spread(masks[-1], level_ranks) if masks else chosen)
        return masks

    def leaves(masks: Levels) -> Int[Tensor, " B"]:
        counts = torch.stack([mask.flatten(1).sum(dim=1) for mask in masks])
        return coarse + (counts * torch.tensor(gains, device=counts.device)[:, None]).sum(dim=0)

    # Bisection: the leaves grow with the count, and `low` always fits.
    low = torch.zeros_like(ranks[:, 0])
    high = torch.full_like(low, ranks.shape[1])
    while bool((low < high).any()):
        middle = (low + high + 1) // 2
        fits = leaves(first(middle)) <= budget
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle - 1)
    return first(low)


def cut_cells(
    grid: Triple,
    sizes: Sequence[Triple],
    masks: Levels,
    samples: int,
    device: torch.device,
    domain: Triple | None = None,
    before: Triple = NOWHERE,
) -> RefinementPlan:
    """The plan that follows from the `masks` of cells to refine."""
    corner = corners(lattice_shape(grid, sizes[0]), sizes[0], device)
    sample = torch.arange(samples, device=device).repeat_interleave(len(corner))
    corner = corner.repeat(samples, 1)
    parent = torch.full_like(sample, -1)
    levels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    first = 0  # index in the plan of this level's first cell
    for mask, (size, finer) in zip(masks, pairwise(sizes), strict=True):
        z, y, x = (corner // torch.tensor(size, device=device)).unbind(1)
        refined = mask[sample, z, y, x]
        levels.append((sample, corner, parent, refined))
        inner = corners(lattice_shape(size, finer), finer, device)
        chosen = refined.nonzero().squeeze(1)
        parent = (first + chosen).repeat_interleave(len(inner))
        first += len(sample)
        sample = sample[chosen].repeat_interleave(len(inner))
        corner = (corner[chosen, None] + inner).flatten(0, 1)
    levels.append((sample, corner, parent, torch.zeros_like(sample, dtype=torch.bool)))
    counts = torch.tensor([len(cells[0]) for cells in levels], device=device)
    sample, corner, parent, refined = (torch.cat(parts) for parts in zip(*levels, strict=True))
    return RefinementPlan(
        grid=grid,
        sizes=tuple(sizes),
        samples=samples,
        sample=sample,
        level=torch.arange(len(levels), device=device).repeat_interleave(counts),
        corner=corner,
        parent=parent,
        refined=refined,
        domain=domain or grid,
        before=before,
    )


def rank(value: Float[Tensor, "B K"]) -> Int[Tensor, "B K"]:
    """The rank of each value of a row, 0 for the largest; ties in their order in the row."""
    return value.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def spread(cells: Tensor, finer: Tensor) -> Tensor:
    """Values of cells, repeated for the cells of the finer lattice inside them."""
    for axis in (1, 2, 3):
        cells = cells.repeat_interleave(finer.shape[axis] // cells.shape[axis], dim=axis)
    return cells


def dilate(cells: Cells, rings: int, periodic: Bool[Tensor, "B 3"]) -> Cells:
    """The cells and `rings` rings of neighbours, corners too, also across periodic sides."""
    for _ in range(rings):
        for axis in (1, 2, 3):
            wraps = periodic[:, axis - 1].view(-1, 1, 1, 1)
            below, above = cells.roll(1, axis), cells.roll(-1, axis)
            below.narrow(axis, 0, 1).logical_and_(wraps)
            above.narrow(axis, cells.shape[axis] - 1, 1).logical_and_(wraps)
            cells = cells | below | above
    return cells
