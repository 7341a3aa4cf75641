"""Where fine tokens go: the criterion, and the plan of cells that follows from it.

Axes: B samples, T times, C variables, (Z, Y, X) grid points, (Kz, Ky, Kx) cells,
M cells of all levels, N leaves.
Source: arXiv:2412.20601, section 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matey.config import RefineConfig
from matey.errors import ConfigError, nearest
from matey.tokens.lattice import Triple, cells, lattice_shape

Criterion = Callable[[Tensor, Triple], Tensor]
CRITERIA: dict[str, Criterion] = {}

# Normalised fields vary by about 1. What varies by less than this is rounding, not physics.
STILL = 1e-9


def criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Register a criterion under the name that `model.refine.criterion` gives.

    It receives normalised fields [B T C Z Y X] and a cell (z, y, x) in grid points, and
    returns a number [B Kz Ky Kx] for each cell: the larger, the more it deserves refining.
    """

    def register(function: Criterion) -> Criterion:
        CRITERIA[name] = function
        return function

    return register


@criterion("variance")
def cell_variance(
    fields: Float[Tensor, "B T C Z Y X"], cell: Triple
) -> Float[Tensor, "B Kz Ky Kx"]:
    """Variance inside each cell over time and space, averaged over variables.

    `cell` is (z, y, x) in grid points. Pass normalised, dimensionless `fields`: otherwise
    the variable of largest magnitude decides alone.
    Raises ShapeError if the cells do not tile the grid.
    """
    patches = rearrange(cells(fields, cell), "B Kz Ky Kx T C z y x -> B Kz Ky Kx C (T z y x)")
    return patches.var(dim=-1, correction=0).mean(dim=-1)


@dataclass(frozen=True)
class RefinementPlan:
    """The cells that a batch of fields is cut into, coarse levels first.

    `grid` is the shape of the fields and `sizes` the cell of each level, in grid points.
    For each of M cells: `sample`, `level`, `corner` (its lowest grid point, z y x), `parent`
    (index of the cell it was cut from, -1 for none) and `refined` (it was cut further).
    Within a level cells are sorted by sample.
    """

    grid: Triple
    sizes: tuple[Triple, ...]
    samples: int
    sample: Int[Tensor, " M"]
    level: Int[Tensor, " M"]
    corner: Int[Tensor, "M 3"]
    parent: Int[Tensor, " M"]
    refined: Bool[Tensor, " M"]

    @cached_property
    def leaves(self) -> Int[Tensor, " N"]:
        """Indices of the cells in use: those not cut further. They tile each domain once.

        Sorted by sample; within a sample coarse cells come before fine ones.
        """
        leaf = (~self.refined).nonzero().squeeze(1)
        return leaf[torch.sort(self.sample[leaf], stable=True).indices]

    @cached_property
    def size(self) -> Int[Tensor, "M 3"]:
        """Extent of each cell in grid points."""
        return torch.tensor(self.sizes, device=self.level.device)[self.level]

    @property
    def tokens(self) -> Int[Tensor, " B"]:
        """Leaves of each sample: the tokens that it costs, per frame."""
        return torch.bincount(self.sample[self.leaves], minlength=self.samples)

    def at(self, level: int) -> Int[Tensor, " leaves"]:
        """Indices of the leaves of one level, sorted by sample."""
        return ((self.level == level) & ~self.refined).nonzero().squeeze(1)


@torch.no_grad()
def plan_refinement(
    fields: Float[Tensor, "B T C Z Y X"], sizes: Sequence[Triple], config: RefineConfig
) -> RefinementPlan:
    """Cut every sample into cells of `sizes[0]`, and those that deserve it further.

    A cell is refined where its criterion exceeds `config.threshold` of the largest among
    the sample's cells of that level. By definition a threshold of 0 refines every cell, and
    1 none; a constant field is refined nowhere for thresholds above 0. What is planned for
    a sample does not depend on the others.
    Raises ShapeError if the cells do not tile the grid, ConfigError for an unknown criterion.
    """
    if config.criterion not in CRITERIA:
        raise ConfigError(
            f"model.refine.criterion is {config.criterion!r}, which is not registered. "
            f"{nearest(config.criterion, CRITERIA)} Register your own with @matey.criterion(name)."
        )
    samples = len(fields)
    z, y, x = fields.shape[-3:]
    grid = (z, y, x)
    corner = corners(lattice_shape(grid, sizes[0]), sizes[0], fields.device)
    count = len(corner)
    sample = torch.arange(samples, device=fields.device).repeat_interleave(count)
    corner = corner.repeat(samples, 1)
    parent = torch.full_like(sample, -1)
    levels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    first = 0  # index in the plan of this level's first cell
    for level, size in enumerate(sizes):
        last = level == len(sizes) - 1
        refined = (
            torch.zeros_like(sample, dtype=torch.bool)
            if last
            else select_cells(fields, size, sample, corner, config)
        )
        levels.append((sample, corner, parent, refined))
        if last:
            break
        finer = sizes[level + 1]
        inner = corners(lattice_shape(size, finer), finer, fields.device)
        chosen = refined.nonzero().squeeze(1)
        parent = (first + chosen).repeat_interleave(len(inner))
        first += len(sample)
        sample = sample[chosen].repeat_interleave(len(inner))
        corner = (corner[chosen, None] + inner).flatten(0, 1)
    lengths = torch.tensor([len(group[0]) for group in levels], device=fields.device)
    return RefinementPlan(
        grid=grid,
        sizes=tuple(sizes),
        samples=samples,
        sample=torch.cat([group[0] for group in levels]),
        level=torch.arange(len(levels), device=fields.device).repeat_interleave(lengths),
        corner=torch.cat([group[1] for group in levels]),
        parent=torch.cat([group[2] for group in levels]),
        refined=torch.cat([group[3] for group in levels]),
    )


def select_cells(
    fields: Float[Tensor, "B T C Z Y X"],
    size: Triple,
    sample: Int[Tensor, " M"],
    corner: Int[Tensor, "M 3"],
    config: RefineConfig,
) -> Bool[Tensor, " M"]:
    """Which of a level's cells to refine, by the criterion over each sample's own largest."""
    if config.threshold in (0, 1):
        return torch.full_like(sample, config.threshold == 0, dtype=torch.bool)
    z, y, x = (corner // torch.tensor(size, device=corner.device)).unbind(1)
    value = CRITERIA[config.criterion](fields, size)[sample, z, y, x]
    largest = value.new_zeros(len(fields)).scatter_reduce(0, sample, value, "amax")
    return value > (config.threshold * largest).clamp(min=STILL)[sample]


def corners(lattice: Triple, cell: Triple, device: torch.device) -> Int[Tensor, "K 3"]:
    """Lowest grid points of all cells of a lattice, in order Z, Y, X."""
    axes = [torch.arange(n, device=device) * size for n, size in zip(lattice, cell, strict=True)]
    return torch.cartesian_prod(*axes).reshape(-1, 3)
