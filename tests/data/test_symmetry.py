"""Shifts and mirrors: what holds of a field holds of its image."""

from itertools import product

import numpy as np
import pytest
import torch

from matey.config import WindowConfig
from matey.data.layouts.base import Trajectory
from matey.data.symmetry import Symmetry, apply, check_flips, draw_symmetry, move
from matey.errors import ConfigError
from matey.fields import (
    PERIODIC_SIDES,
    Batch,
    Boundary,
    Field,
    Grid,
    SystemSpec,
    Variable,
    stack_fields,
)
from matey.fields.mirrors import parity

POINTS = 8
LETTERS = "xyz"


def components(stem):
    return tuple(Variable(f"{stem}_{a}", axes=(a,)) for a in LETTERS)


STRESS = tuple(
    Variable(f"stress_{a}{b}", axes=(a, b), pseudo=False) for a, b in product(LETTERS, repeat=2)
)
VECTORS = (*components("velocity"), *components("vorticity"), *components("magnetic"))
SPEC = SystemSpec("any", 3, (Variable("density"), *VECTORS, *STRESS))


def gradient(values, letter):
    """Central difference on a periodic grid: a mirror turns its sign, exactly."""
    axis = {"z": -3, "y": -2, "x": -1}[letter]
    return (values.roll(-1, axis) - values.roll(1, axis)) / 2


def curl(vector):
    x, y, z = vector
    return torch.stack(
        [
            gradient(z, "y") - gradient(y, "z"),
            gradient(x, "z") - gradient(z, "x"),
            gradient(y, "x") - gradient(x, "y"),
        ]
    )


def flow():
    """Random velocity u, vorticity and magnetic field as curls of vectors, stress u u."""
    random = torch.Generator().manual_seed(0)
    shape = (POINTS, POINTS, POINTS)
    density, *rest = torch.randn((7, *shape), generator=random, dtype=torch.float64)
    velocity, potential = torch.stack(rest[:3]), torch.stack(rest[3:])
    stress = torch.stack([velocity[i] * velocity[j] for i, j in product(range(3), repeat=2)])
    return torch.cat([density[None], velocity, curl(velocity), curl(potential), stress])


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_the_image_of_a_flow_is_a_flow(axes):
    """Curl, divergence and tensor product are the same in the mirror: the image's vorticity is
    the curl of the image's velocity, and its stress the product. All exact: only signs change."""
    before = flow()
    after = move(before, Symmetry(mirrored=axes), SPEC)
    velocity = after[1:4]
    assert torch.equal(after[4:7], curl(velocity))
    product_of = [velocity[i] * velocity[j] for i, j in product(range(3), repeat=2)]
    assert torch.equal(after[10:], torch.stack(product_of))
    for first in (1, 7):  # velocity, and a magnetic field, which stays free of divergence
        divergence = [
            sum(gradient(values[first + i], a) for i, a in enumerate(LETTERS))
            for values in (before, after)
        ]
        turned = divergence[0].flip([axis - 3 for axis in axes])
        # The magnetic field's divergence also turns its sign, as it is a pseudoscalar.
        sign = (-1) ** len(axes) if first == 7 else 1
        torch.testing.assert_close(divergence[1], sign * turned, rtol=0, atol=1e-14)


def test_signs_follow_the_axes_of_a_component():
    velocity = Variable("velocity_x", axes=("x",))
    stress, normal = STRESS[1], STRESS[0]
    assert [parity(velocity, a) for a in LETTERS] == [-1, 1, 1]
    assert [parity(stress, a) for a in LETTERS] == [-1, -1, 1]
    assert [parity(normal, a) for a in LETTERS] == [1, 1, 1]
    assert [parity(Variable("magnetic_x", axes=("x",)), a) for a in LETTERS] == [1, -1, -1]


@pytest.mark.parametrize("name", ["magnetic_energy", "magnetic_pressure", "density", "height"])
def test_true_scalars_keep_their_sign(name):
    assert [parity(Variable(name), a) for a in LETTERS] == [1, 1, 1]


@pytest.mark.parametrize("name", ["vorticity", "relative_vorticity", "potential_vorticity"])
def test_pseudoscalars_change_their_sign(name):
    assert [parity(Variable(name), a) for a in "xy"] == [-1, -1]


def test_only_canonical_names_are_known_and_only_by_the_whole_name():
    for name in ("magnetic", "magnetic_energy_x", "vorticity_of_mine", "velocity", "shear"):
        assert Variable(name).pseudo is None
    assert Variable("shear", pseudo=True) != Variable("shear", pseudo=False)
    assert Variable("density", pseudo=True).pseudo  # what is declared stands


def test_unknown_variables_refuse_mirrors():
    spec = SystemSpec("s", 2, (Variable("height"), Variable("shear")))
    check_flips(spec, [])
    message = (
        r"windows\.flip is \['x'\].* whether shear of system 's' .*Set `pseudo: {shear: false}`"
    )
    with pytest.raises(ConfigError, match=message):
        check_flips(spec, ["x"])
    with pytest.raises(ConfigError, match="What a mirror does to shear is unknown"):
        parity(Variable("shear"), "x")


def short():
    """Two frames between a wall and an open side."""
    spec = SystemSpec("s", 2, (Variable("height"), Variable("velocity_x", axes=("x",))))
    sides = (PERIODIC_SIDES, PERIODIC_SIDES, (Boundary.WALL, Boundary.OPEN))
    grid = Grid(("y", "x"), (1, 3, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    times = torch.arange(2, dtype=torch.float64)
    return Field(torch.rand(2, 2, 1, 3, 4), times, grid, sides, {}, spec)


def one():
    """A batch of one window."""
    return Batch(**vars(stack_fields([short()], [1.0], ["s"])), target=torch.rand(1, 2, 1, 3, 4))


def test_walls_change_sides_with_the_values_beside_them():
    before = one()
    after = apply([Symmetry(mirrored=(2,))], before)
    assert after.boundaries[0, 2].tolist() == [Boundary.OPEN, Boundary.WALL]
    assert torch.equal(after.boundaries[0, :2], before.boundaries[0, :2])
    assert torch.equal(after.values[0, :, 0, ..., 0], before.values[0, :, 0, ..., 3])
    assert torch.equal(after.values[0, :, 1, ..., 0], -before.values[0, :, 1, ..., 3])
    assert torch.equal(after.target[0, 0], before.target[0, 0].flip(-1))


def test_two_mirrors_are_the_identity():
    before = one()
    mirrors = [Symmetry(mirrored=(1, 2))]
    again = apply(mirrors, apply(mirrors, before))
    assert torch.equal(again.values, before.values)
    assert torch.equal(again.target, before.target)
    assert torch.equal(again.boundaries, before.boundaries)


def test_half_of_the_windows_are_mirrored_and_only_along_the_axes_named():
    history = short()
    known = Trajectory("a", history.times, history.grid, history.boundaries, {})
    rng = np.random.default_rng(0)
    config = WindowConfig(flip=("x", "z"), roll=True)
    drawn = [draw_symmetry(known, config, rng) for _ in range(1000)]
    assert {symmetry.mirrored for symmetry in drawn} == {(), (2,)}  # z has one point
    # The standard deviation of 1000 coin tosses is 16.
    assert sum(symmetry.mirrored == (2,) for symmetry in drawn) == pytest.approx(500, abs=64)
    assert {symmetry.shift for symmetry in drawn} == {(0, shift, 0) for shift in range(3)}


def test_parameters_with_a_direction_refuse_mirrors():
    spec = SystemSpec("mhd", 2, (Variable("magnetic_x", axes=("x",)),), ("Re", "Bx"))
    check_flips(spec, [])
    with pytest.raises(ConfigError, match=r"windows\.flip .*parameter Bx of system 'mhd'"):
        check_flips(spec, ["x"])
    for name in ("gravity", "Re", "eta", "max"):
        check_flips(SystemSpec("s", 2, (Variable("height"),), (name,)), ["x"])
