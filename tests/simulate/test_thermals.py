"""Colliding thermals against miniWeather's own files, balance and conservation."""

import math

import netCDF4
import pytest
import torch

from matey.data.layouts.miniweather import FULL
from matey.simulate.thermals import COLLISION, Bubble, Thermals, at_faces

NAMES = ("dens", "uwnd", "wwnd", "theta")


def read(path):
    """Perturbations [T 4 Z X] as miniWeather stores them, and the times."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_mask(False)
        arrays = [torch.from_numpy(file[name][:].astype("float64")) for name in NAMES]
        return torch.stack(arrays, dim=1), file["t"][:].tolist()


def bubbles(path):
    """The thermals that a file starts with, as its attributes tell."""
    with netCDF4.Dataset(path) as file:
        numbers = [float(number) for number in file.thermals_values]
    return Bubble(*numbers[:5]), Bubble(*numbers[6:11])


def state_of(frame, system):
    """The solver's state of one stored frame [4 Z X]."""
    air = system.background(frame.shape[-2])
    density = air.inner_density + frame[0]
    added = (frame[3] + system.theta) * density - air.inner_density_theta
    return torch.stack([frame[0], frame[1] * density, frame[2] * density, added])[None]


def stored(states, system):
    """What miniWeather would write of these states: [T 4 Z X]."""
    frames = torch.cat([system.observe(state) for state in states])
    frames[:, 0] -= system.background(frames.shape[-2]).inner_density
    frames[:, 3] -= system.theta
    return frames


def compare_as_published(path, interval, tolerance):
    """Run from the first frame as miniWeather does; compare times and every variable."""
    published, times = read(path)
    system = Thermals()
    pairs = list(system.run_as_published(state_of(published[0], system), interval))
    assert [time for time, _ in pairs] == times
    error = stored([state for _, state in pairs], system) - published
    for variable, name in enumerate(NAMES):
        nrmse = error[:, variable].norm() / published[:, variable].norm()
        assert nrmse < tolerance, f"{name}: {nrmse:.1e}"


def test_miniweathers_double_precision_file_is_reproduced_to_rounding(shared):
    """Required: 1e-3. Measured: 4e-14 over 450 s; 1e-11 leaves room for other processors."""
    compare_as_published(shared / "miniweather/raw/output_upstream_64x32.nc", 50.0, 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 5, 11])
def test_miniweathers_single_precision_files_are_reproduced_to_rounding(shared, number):
    """The files' own rounding, 6e-8, moves the first frame; 1e-6 lets it grow tenfold."""
    path = shared / f"miniweather/thermals/thermals_{number:03}.nc"
    compare_as_published(path, 25.0, 1e-6)


def test_any_output_times_may_be_asked_for(shared):
    """`run` cuts intervals into equal steps; here, into miniWeather's own."""
    published, times = read(shared / "miniweather/raw/output_upstream_64x32.nc")
    published, times = published[:3], times[:3]
    system = Thermals()
    error = stored(system.run(state_of(published[0], system), times), system) - published
    assert error.norm() / published.norm() < 1e-11


def test_thermals_are_placed_as_in_every_file(shared):
    """The file's rounding to float32 is 6e-8 of 20 K at most."""
    system = Thermals()
    for path in sorted((shared / "miniweather/thermals").glob("*.nc")):
        state = system.place(bubbles(path), system.grid(64))[None]
        difference = stored([state], system)[0] - read(path)[0][0]
        assert difference.abs().max() < 2e-6, path.name


def test_air_at_rest_stays_at_rest_exactly():
    """Departures from the background are carried, so nothing can come of none."""
    system = Thermals()
    state = system.place((), system.grid(16))[None]
    final = list(system.run(state, [0.0, 50.0]))[-1]
    assert not final.any()


def test_the_background_is_in_hydrostatic_balance():
    """Pressure at faces falls by the weight between them, up to the midpoint rule's error."""
    errors = []
    for cells in (20, 40):
        system = Thermals()
        air, dz = system.background(cells), system.height / cells
        weight = system.gravity * air.inner_density * dz
        errors.append(((air.face_pressure.diff(dim=0) + weight) / weight).abs().max())
    assert errors[1] < 2e-4
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_mass_is_conserved():
    """Rounding of some 100 steps, relative to the mass of the section.

    Heat is not: as in miniWeather, hyperviscosity smooths it across the walls too, which
    changes the total by 1e-6.
    """
    system = Thermals()
    state = system.place(COLLISION, system.grid(24))[None]
    final = list(system.run(state, [0.0, 150.0]))[-1]
    change = (final - state).sum(dim=(0, 2, 3)).abs()
    air = system.background(24)
    assert change[0] / (air.inner_density.sum() * 48) < 1e-14
    assert change[3] / (air.inner_density_theta.sum() * 48) < 1e-6
    assert final[:, 2].abs().max() > 1


def test_thermals_above_each_other_stay_mirror_symmetric():
    """Density is even and wind along x odd about x = 10 km; 100 s of rounding grow to 1e-10."""
    system = Thermals()
    state = system.place(COLLISION, system.grid(24))[None]
    final = list(system.run(state, [0.0, 100.0]))[-1]
    parity = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(final, final.flip(-1) * parity, rtol=0, atol=1e-10)


def test_values_at_faces_are_exact_for_cubics():
    """From cell means of x³ the face value is x³ and the third difference 6: order 4."""
    edge = torch.arange(9, dtype=torch.float64)
    value, third = at_faces((edge**4).diff() / 4, axis=0)
    torch.testing.assert_close(value, edge[2:-2] ** 3, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(third, torch.full_like(third, 6), rtol=1e-12, atol=0)


def test_warm_air_rises_and_cold_air_sinks():
    system = Thermals()
    warm, cold = COLLISION
    for bubble, direction in ((warm, 1), (cold, -1)):
        state = system.place((bubble,), system.grid(16))[None]
        momentum = list(system.run(state, [0.0, 30.0]))[-1][0, 2]
        row, column = round(bubble.z / 625 - 0.5), round(bubble.x / 625 - 0.5)
        assert direction * momentum[row, column] > 0


def test_simulated_thermals_mix_with_miniweathers_files():
    """The same names and the same spelling of the units, or they would be two systems."""
    assert Thermals().spec(2.0).variables == tuple(FULL.values())
