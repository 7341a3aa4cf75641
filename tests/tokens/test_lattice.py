import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matey.errors import ShapeError
from matey.tokens.lattice import all_patches, check_tiles, put_patches, take_patches
from matey.tokens.refine import corners

cell = st.tuples(*[st.integers(1, 3)] * 3)
lattice = st.tuples(*[st.integers(1, 3)] * 3)


@given(cell, lattice, st.integers(1, 3), st.integers(0, 99))
def test_patchify_then_unpatchify_is_the_identity(cell, lattice, samples, seed):
    torch.manual_seed(seed)
    points = tuple(k * size for k, size in zip(lattice, cell, strict=True))
    fields = torch.randn(samples, 1, 2, *points)
    corner = corners(lattice, cell, torch.device("cpu")).repeat(samples, 1)
    sample = torch.arange(samples).repeat_interleave(len(corner) // samples)
    patches = all_patches(fields, cell)
    assert torch.equal(patches, take_patches(fields, cell, sample, corner))
    rebuilt = put_patches(torch.zeros_like(fields[:, 0]), patches[:, 0], sample, corner)
    assert torch.equal(rebuilt, fields[:, 0])


def test_a_grid_that_cells_do_not_tile_is_refused_with_both_numbers_and_the_way_out():
    with pytest.raises(ShapeError, match=r"Axis Y has 50 grid points.*cells of 16.*Crop it to 48"):
        check_tiles((1, 50, 64), (1, 16, 16))
