import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matey.errors import ShapeError
from matey.tokens.lattice import all_patches, check_tiles, corners, join_patches

cell = st.tuples(*[st.integers(1, 3)] * 3)
lattice = st.tuples(*[st.integers(1, 3)] * 3)


@given(cell, lattice, st.integers(1, 3), st.integers(0, 99))
def test_patchify_then_unpatchify_is_the_identity(cell, lattice, samples, seed):
    torch.manual_seed(seed)
    points = tuple(k * size for k, size in zip(lattice, cell, strict=True))
    fields = torch.randn(samples, 1, 2, *points)
    patches = all_patches(fields, cell)
    assert torch.equal(join_patches(patches[:, 0], points), fields[:, 0])
    # Patches stand in the order of their corners, samples first.
    for patch, (z, y, x) in zip(
        patches, corners(lattice, cell, fields.device).repeat(samples, 1).tolist(), strict=True
    ):
        assert patch.shape == (1, 2, *cell)
        here = fields[:, :, :, z : z + cell[0], y : y + cell[1], x : x + cell[2]]
        assert bool((here == patch).flatten(1).all(dim=1).any())


def test_a_grid_that_cells_do_not_tile_is_refused_with_both_numbers_and_the_way_out():
    with pytest.raises(ShapeError, match=r"Axis Y has 50 grid points.*cells of 16.*Crop it to 48"):
        check_tiles((1, 50, 64), (1, 16, 16))
