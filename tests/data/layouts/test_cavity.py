"""Lid-driven cavity files: names, parameters, and z along Y."""

import numpy as np
import pytest
import torch

from matey import open as open_fields
from matey.data.reader import open_reader
from matey.errors import ShapeError
from matey.fields import Boundary


def test_parameters_stand_in_the_name_and_the_file_is_mapped_not_read(tmp_path):
    stored = np.random.default_rng(0).random((5, 6, 8, 4)).astype(np.float32)
    path = tmp_path / "numpy_Bx_0.25_Re_150.npy"
    np.save(path, stored)
    field = open_fields(path).read(0, slice(1, 4, 2))
    np.testing.assert_array_equal(field.values[:, :, 0].permute(0, 2, 3, 1), stored[1:4:2])
    assert field.parameters == {"Re": 200.0, "Rem": 150.0, "Bx": 0.25}
    assert field.grid.axes == ("z", "x")
    assert field.grid.origin[1:] == (-0.5, -0.5)  # on the walls, and so is the last point
    assert field.grid.spacing[1:] == pytest.approx((1 / 5, 1 / 7))
    assert field.times.tolist() == pytest.approx([0.4, 1.2])
    assert field.boundaries[1:] == ((Boundary.WALL, Boundary.WALL),) * 2


def test_other_shapes_are_refused_with_what_was_expected(tmp_path):
    path = tmp_path / "numpy_Bx_0.25_Re_150.npy"
    np.save(path, np.zeros((4, 5, 6, 8)))
    with pytest.raises(ShapeError, match=r"shape \(4, 5, 6, 8\), expected \[t, z, x, 4\]"):
        open_reader(path)


def test_real_flow_and_field_have_no_divergence_and_the_lid_moves_on_top(shared):
    """By the central differences that the fields were made with: to rounding, but where the lid
    meets the walls; with the axes exchanged it is of the size of the gradients."""
    fields = open_fields(shared / "mhd_cavity")
    assert [t.parameters["Bx"] for t in fields.trajectories] == [0.1, 0.2, 0.3]
    values = fields[0].values[5:, :, 0].double()
    assert bool((values[:, 0, -1, 1:-1] == 1).all())
    inner = (..., slice(4, -4), slice(4, -4))
    for x, y in ((0, 1), (2, 3)):
        along = {
            a: [(values[:, c].roll(-1, a) - values[:, c].roll(1, a))[inner] for c in (x, y)]
            for a in (1, 2)
        }
        right = (along[2][0] + along[1][1]).square().mean()
        swapped = (along[1][0] + along[2][1]).square().mean()
        assert right < 1e-8 * swapped
    assert torch.isfinite(values).all()
