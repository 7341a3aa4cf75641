"""What all systems have in common: fields, seeds, batches, precision, errors."""

import math
import platform
import resource

import pytest
import torch

from matey.data.symmetry import Symmetry, move
from matey.errors import ConfigError, DivergenceError
from matey.fields import Boundary
from matey.simulate import SYSTEMS, find_system, simulate
from matey.simulate.mhd_cavity import MHDCavity
from matey.simulate.thermals import Thermals
from matey.simulate.trajectories import keep_memory

NAMES = sorted(SYSTEMS)
# Points that these systems need.
COARSEST = {"kuramoto_sivashinsky": 32, "excitable": 48, "fracture": 40}
PREDICTABLE = {"kuramoto_sivashinsky": 2}  # frames: 13 s; an error grows e-fold in 4 s


def few(name, trajectories=2, **options):
    options = {"resolution": COARSEST.get(name, 16), "steps": 4, "seed": 5, **options}
    return simulate(name, trajectories=trajectories, **options)


@pytest.mark.parametrize(
    ("name", "variables", "shape"),
    [
        ("shallow_water", ["height"], (1, 16, 16)),
        ("diffusion_reaction", ["activator", "inhibitor"], (1, 16, 16)),
        (
            "thermals",
            ["density", "velocity_x", "velocity_y", "potential_temperature"],
            (1, 16, 32),
        ),
        (
            "incompressible",
            ["velocity_x", "velocity_y", "tracer", "force_x", "force_y"],
            (1, 16, 16),
        ),
        ("compressible", ["density", "pressure", "velocity_x", "velocity_y"], (1, 16, 16)),
        (
            "mhd",
            ["density", "pressure", "velocity_x", "velocity_y", "magnetic_x", "magnetic_y"],
            (1, 16, 16),
        ),
        ("mhd_cavity", ["velocity_x", "velocity_y", "magnetic_x", "magnetic_y"], (1, 16, 16)),
        ("burgers", ["velocity_x", "velocity_y"], (1, 16, 16)),
        ("kuramoto_sivashinsky", ["front"], (1, 32, 32)),
        ("gray_scott", ["A", "B"], (1, 16, 16)),
        ("taylor_green", ["velocity_x", "velocity_y", "velocity_z"], (16, 16, 16)),
        ("convection", ["velocity_x", "velocity_y", "temperature"], (1, 16, 32)),
        ("excitable", ["excitation", "recovery"], (1, 48, 48)),
        ("two_phase", ["phase", "velocity_x", "velocity_y"], (1, 16, 16)),
        (
            "fracture",
            ["displacement_x", "displacement_y", "velocity_x", "velocity_y", "damage"],
            (1, 40, 40),
        ),
        ("obstacle", ["velocity_x", "velocity_y", "mask"], (1, 16, 32)),
        ("blast", ["density", "pressure", "velocity_x", "velocity_y"], (1, 16, 16)),
        (
            "reacting",
            ["density", "pressure", "velocity_x", "velocity_y", "burnt"],
            (1, 16, 16),
        ),
    ],
)
def test_fields_say_what_they_hold(name, variables, shape):
    field = few(name, 1)[0]
    span = find_system(name).span
    assert field.spec.name == name
    assert [variable.name for variable in field.spec.variables] == variables
    assert field.values.shape == (4, len(variables), *shape)
    assert field.values.dtype == torch.float32
    assert field.values.isfinite().all()
    # Sums of thirds of the span are exact to rounding.
    assert field.times.tolist() == pytest.approx([0, span / 3, span * 2 / 3, span], rel=1e-15)
    assert field.spec.dt == pytest.approx(span / 3)


@pytest.mark.parametrize("name", NAMES)
def test_models_are_told_what_mirrors_do_and_the_value_of_every_parameter(name):
    """Without these a field cannot be mirrored in training, nor a parameter embedded."""
    field = few(name, 1, frames=1)[0]
    assert field.grid.ndim == field.spec.ndim
    for variable in field.spec.variables:
        assert variable.pseudo is not None, variable.name
        assert set(variable.axes) <= set("xyz"[: field.spec.ndim]), variable.name
    assert sorted(field.parameters) == sorted(field.spec.parameters)
    assert all(math.isfinite(number) for number in field.parameters.values())


def mirrored(values, spec, axis):
    """The image of frames [B C Y X] across y (axis 1) or x (axis 2)."""
    return move(values[:, :, None], Symmetry(mirrored=(axis,)), spec)[:, :, 0]


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(
    "name",
    ["incompressible", "compressible", "burgers", "gray_scott", "excitable", "blast", "reacting"],
)
def test_the_image_of_a_solution_is_the_solution_of_the_image(name, axis):
    """To rounding: the equations and the schemes know no left and right."""
    system = find_system(name)
    frame = system.observe(system.initial([0, 1], 16, seed=3))
    state_of = getattr(system, "state_of", lambda frame: frame)
    spec, times = system.spec(1.0), [0.0, system.span / 20]
    *_, end = map(system.observe, system.run(state_of(frame), times))
    *_, image = map(system.observe, system.run(state_of(mirrored(frame, spec, axis)), times))
    torch.testing.assert_close(image, mirrored(end, spec, axis), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(end, mirrored(end, spec, axis), atol=1e-3)  # unlike its image


def test_the_image_of_a_cavity_has_a_lid_that_moves_the_other_way():
    """Across x the magnetic field, a pseudovector, keeps its component along x, and with it the
    background: a true vector would not be a solution."""
    times, lids = [0.0, 1.0], (1.0, -1.0)
    systems = [MHDCavity(Bx=(0.3, 0.3), lid=lid) for lid in lids]
    ends = [list(s.run(s.initial([0], 16, seed=0), times))[-1] for s in systems]
    end, image = (s.observe(end) for s, end in zip(systems, ends, strict=True))
    expected = mirrored(end, systems[0].spec(1.0), 2)
    torch.testing.assert_close(image, expected, rtol=1e-10, atol=1e-10)
    assert (image[:, 2:] + expected[:, 2:]).abs().max() > 0.01  # another sign would show


def test_thermals_stand_on_the_ground_between_open_ends():
    """z lies along Y between walls; x is periodic."""
    field = few("thermals", 1)[0]
    assert field.grid.axes == ("z", "x")
    assert field.boundaries[1] == (Boundary.WALL, Boundary.WALL)
    assert field.boundaries[2] == (Boundary.PERIODIC, Boundary.PERIODIC)
    # 10 km and 20 km in cells of 625 m, the first centre half a cell in.
    assert field.grid.spacing[1:] == (625, 625)
    assert field.grid.origin[1:] == (312.5, 312.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(name):
    first, again, other = (few(name, seed=seed, frames=2) for seed in (5, 5, 6))
    assert all(torch.equal(a.values, b.values) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].values, other[0].values)
    assert not torch.equal(first[0].values, first[1].values)


@pytest.mark.parametrize("name", NAMES)
def test_a_trajectory_does_not_depend_on_how_many_are_made(name):
    """The initial state has the same bits. Vector and scalar instructions may round
    differently, which the float32 solution may carry to some 1e-5 of its range."""
    alone, among = (few(name, number, frames=2)[1].values for number in (2, 5))
    assert torch.equal(alone[0], among[0])
    difference = (alone - among).abs().amax(dim=(0, 2, 3, 4))
    extent = among.amax(dim=(0, 2, 3, 4)) - among.amin(dim=(0, 2, 3, 4))
    assert (difference <= 2e-5 * extent).all()


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_near_double(name):
    """Within 1e-4 of each variable's range, until chaos takes over: hundreds of steps of
    rounding at 6e-8 of numbers that, for thermals, are a hundred times larger than their
    departures."""
    single, double = (
        few(name, 1, dtype=dtype)[0].values[: PREDICTABLE.get(name)]
        for dtype in (torch.float32, torch.float64)
    )
    extent = double.amax(dim=(0, 2, 3, 4)) - double.amin(dim=(0, 2, 3, 4))
    assert ((single - double).abs().amax(dim=(0, 2, 3, 4)) < 1e-4 * extent).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_frames_alone_are_those_of_the_whole_trajectory(name):
    first, whole = few(name, 1, frames=2)[0], few(name, 1)[0]
    assert torch.equal(first.values, whole.values[:2])
    assert torch.equal(first.times, whole.times[:2])
    assert first.spec == whole.spec


def test_more_frames_than_there_are_steps_are_refused():
    with pytest.raises(ConfigError, match="frames is 99"):
        few("shallow_water", 1, frames=99)


def test_progress_counts_every_frame():
    seen: list[tuple[int, int]] = []
    few("shallow_water", 3, progress=lambda made, total: seen.append((made, total)))
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


def test_an_unknown_system_is_named_with_its_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'shallow_water'"):
        few("shalow_water")


@pytest.mark.parametrize("setting", ["trajectories", "resolution", "steps", "seed"])
def test_numbers_out_of_range_are_refused_by_name(setting):
    options = {"trajectories": 1, "resolution": 16, "steps": 3, "seed": 0, setting: -1}
    with pytest.raises(ConfigError, match=f"{setting} is -1"):
        simulate("shallow_water", **options)


def test_a_solution_that_blows_up_is_reported(monkeypatch):
    monkeypatch.setattr("matey.simulate.thermals.Thermals", lambda: Thermals(courant=4.0))
    with pytest.raises(DivergenceError, match="Trajectory 0 of 'thermals'"):
        few("thermals", 1)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of another C library")
def test_arrays_of_a_step_are_not_mapped_anew():
    """Ten arrays of 1 MiB, of 256 pages each, freed together and made again ten times: a hundred
    pages for what else the process does, where all would be 25600."""
    keep_memory()

    def touched() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            arrays = [torch.zeros(2**18) for _ in range(10)]
            del arrays
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    touched()
    assert touched() < 100
