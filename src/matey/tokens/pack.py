"""Packed tokens: the cells in use of all samples in one sequence, with no padding.

Axes: N cells in use, T times, D width, B samples; _ the cells in use of one level.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matey.fields import Crop, Points
from matey.tokens.lattice import Triple, lattice_shape
from matey.tokens.refine import RefinementPlan


@dataclass(frozen=True)
class Packing:
    """Which cells of a plan become tokens, and which of them may attend together.

    `levels` holds the cells in use of each level, as indices into the plan. `cell` holds all of
    them as packed, which is `torch.cat(levels)[order]` (None: in that order already). Packed
    cells are sorted by `sequence`; `lengths` counts the cells of each sequence. If the cells of
    every sequence are a whole lattice, `lattices` lists for each run of equal ones how many
    sequences it has and the lattice's shape; otherwise it is empty.
    """

    plan: RefinementPlan
    levels: tuple[Int[Tensor, " _"], ...]
    order: Int[Tensor, " N"] | None
    cell: Int[Tensor, " N"]
    sequence: Int[Tensor, " N"]
    lengths: tuple[int, ...]
    lattices: tuple[tuple[int, Triple], ...]

    @property
    def tokens(self) -> Int[Tensor, " B"]:
        """Tokens of each sample, per frame."""
        return torch.bincount(self.plan.sample[self.cell], minlength=self.plan.samples)


def pack_mixed(plan: RefinementPlan) -> Packing:
    """Adap_Mix: one sequence per sample: its leaves, coarse ones first."""
    levels = tuple(plan.leaves_at(level) for level in range(len(plan.sizes)))
    cell, order = torch.cat(levels), None
    if len(levels) > 1 and plan.samples > 1:
        order = torch.sort(plan.sample[cell], stable=True).indices
        cell = cell[order]
    sequence = plan.sample[cell]
    lengths = tuple(torch.bincount(sequence, minlength=plan.samples).tolist())
    lattices = ((plan.samples, lattice_shape(plan.grid, plan.sizes[0])),)
    mixed = len(cell) != len(levels[0])
    return Packing(plan, levels, order, cell, sequence, lengths, () if mixed else lattices)


def pack_local(plan: RefinementPlan) -> Packing:
    """Adap_Mul: one sequence per sample, of all its coarse cells, and one in each refined cell."""
    levels = tuple((plan.level == level).nonzero().squeeze(1) for level in range(len(plan.sizes)))
    lattices = [(plan.samples, lattice_shape(plan.grid, plan.sizes[0]))]
    for size, finer, cells in zip(plan.sizes, plan.sizes[1:], levels[1:], strict=False):
        inside = lattice_shape(size, finer)
        lattices.append((len(cells) // math.prod(inside), inside))
    lengths = tuple(math.prod(shape) for count, shape in lattices for _ in range(count))
    count = torch.tensor(lengths, device=plan.level.device)
    sequence = torch.arange(len(lengths), device=plan.level.device).repeat_interleave(count)
    return Packing(plan, levels, None, torch.cat(levels), sequence, lengths, tuple(lattices))


PACKINGS: dict[str, Callable[[RefinementPlan], Packing]] = {
    "uniform": pack_mixed,
    "adap_mix": pack_mixed,
    "adap_mul": pack_local,
}


@dataclass(frozen=True)
class TokenSequence:
    """The positions of all packed tokens in space and time, sorted by sequence.

    Tokens of one sequence may attend together; `lengths` and `lattices` are those of `Packing`.
    `centre` and `size` are fractions of the domain; `time` counts steps from the last frame
    (0, -1, ...). `band` is the index, along each axis, of the band of the domain that the cell
    lies in; `at_side` says whether it lies at the low and the high end of each axis; `active`
    are the axes with more than one grid point.
    """

    time: Float[Tensor, " T"]
    sequence: Int[Tensor, " N"]
    lengths: tuple[int, ...]
    lattices: tuple[tuple[int, Triple], ...]
    sample: Int[Tensor, " N"]
    centre: Float[Tensor, "N 3"]
    size: Float[Tensor, "N 3"]
    band: Int[Tensor, "N 3"]
    at_side: Bool[Tensor, "N 3 2"]
    active: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """`outer * inner` segments of one length, in consecutive cells.

    The cells are an array [outer, length, inner]: those of a segment stand `inner` apart.
    """

    outer: int
    length: int
    inner: int = 1

    @property
    def cells(self) -> int:
        return self.outer * self.length * self.inner


@dataclass(frozen=True, eq=False)
class Segments:
    """Which cells attend together: runs of segments, after sorting the cells by `order`.

    `time` says what the T frames are: `inside` a segment (its cells at all times attend
    together), the `segment` itself (each cell attends over its own times), or a `batch`
    axis (the cells of a segment attend at each time apart).
    """

    runs: tuple[Run, ...]
    time: Literal["inside", "segment", "batch"]
    order: Int[Tensor, " N"] | None = None

    def tables(self, cells: int, times: int, device: torch.device) -> list[Tensor]:
        """The tokens of each segment as rows of [N T], in a table `[S L]` for each run."""
        order = self.order if self.order is not None else torch.arange(cells, device=device)
        token = order[:, None] * times + torch.arange(times, device=device)
        pattern = "(S L M) T -> (S M T) L" if self.time == "batch" else "(S L M) T -> (S M) (L T)"
        return [
            rearrange(piece, pattern, S=run.outer, L=run.length, M=run.inner)
            for run, piece in zip(
                self.runs, token.split([run.cells for run in self.runs]), strict=True
            )
        ]


def locate(
    packing: Packing,
    times: int,
    band: int | None = None,
    points: Points | None = None,
    crop: Crop | None = None,
) -> TokenSequence:
    """The positions of packed tokens, each cell with so many `times`.

    `band` is the width in grid points of the bands along each axis; by default, and always
    inside a refined cell, it is the coarsest cell of the sequence. `points` are the positions of
    stretched grid points, whose volumes then make up a cell. Cells of a `crop` are located in the
    domain that it is a part of.
    """
    plan, cell = packing.plan, packing.cell
    grid = torch.tensor(plan.domain, device=cell.device)
    size, place = plan.size[cell], plan.corner[cell]
    corner = place - torch.tensor(plan.before, device=cell.device)
    widths = torch.tensor(
        [min(band or size, points) for size, points in zip(plan.sizes[0], plan.grid, strict=True)]
    )
    sample = plan.sample[cell]
    start = corner if crop is None else corner + crop.first[sample]
    domain = grid if crop is None else crop.domain[sample]
    centre, extent = (start + size / 2) / domain, size / domain
    if points is not None:
        first, last = (end.clamp(min=0).minimum(grid) for end in (corner, corner + size))
        low, high = points.at(sample, first), points.at(sample, last)
        inside = last > first  # others lie beyond the grid
        centre = torch.where(inside, ((low + high) / 2).to(centre), centre)
        extent = torch.where(inside, (high - low).to(extent), extent)
    # Sequences of one sample each come first, those inside a refined cell after them.
    whole = packing.sequence < plan.samples
    active = tuple(axis for axis, points in enumerate(plan.grid) if points > 1)
    lines = band is None or all(plan.sizes[0][axis] == band for axis in active)
    return TokenSequence(
        time=torch.arange(1 - times, 1, device=cell.device, dtype=torch.float32),
        sequence=packing.sequence,
        lengths=packing.lengths,
        lattices=packing.lattices if lines else (),
        sample=sample,
        centre=centre,
        size=extent,
        band=place // torch.where(whole[:, None], widths.to(cell.device), size),
        at_side=torch.stack([corner <= 0, corner + size >= grid], dim=-1),
        active=active,
    )


def pack(levels: Sequence[Float[Tensor, "_ *width"]], packing: Packing) -> Float[Tensor, "N ..."]:
    """The tokens of each level's cells in use (`packing.levels`) in one sequence."""
    tokens = torch.cat(list(levels)) if len(levels) > 1 else levels[0]
    return tokens if packing.order is None else tokens.index_select(0, packing.order)


def unpack(tokens: Float[Tensor, "N *width"], packing: Packing) -> list[Float[Tensor, "_ *width"]]:
    """The tokens of each level's cells in use: the inverse of `pack`."""
    if packing.order is not None:
        tokens = tokens.index_select(0, torch.argsort(packing.order))
    return list(tokens.split([len(cells) for cells in packing.levels]))
