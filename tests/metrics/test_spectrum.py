"""Spectra of waves, which have one coefficient, and of noise, whose power adds up."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matey.metrics.spectrum import (
    band_nrmse,
    band_power,
    energy_spectrum,
    fourier_rmse,
    logarithmic_edges,
    power,
    spectral_nmse,
    spectrum_distance,
)

BANDS = (-0.5, 4.5, 12.5, math.inf)


def wave(waves: int, points: int = 64, amplitude: float = 1.0, phase: float = 0.0, ndim: int = 2):
    """A wave along x with so many crests."""
    x = 2 * torch.pi * waves * torch.arange(points, dtype=torch.float64) / points
    shape = (1,) * (3 - ndim) + (points,) * ndim
    return amplitude * (x + phase).cos().expand(1, 1, *shape)


@given(
    shape=st.sampled_from([(1, 1, 7), (1, 1, 8), (1, 5, 6), (1, 8, 8), (4, 5, 6), (3, 3, 3)]),
    seed=st.integers(0, 99),
)
def test_the_power_of_all_coefficients_is_the_mean_square(shape, seed):
    fields = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(seed)).double()
    total = band_power(power(fields), shape[-1], (0.0, math.inf))[..., 0]
    torch.testing.assert_close(total, fields.square().mean(dim=(-3, -2, -1)))
    torch.testing.assert_close(band_power(power(fields), shape[-1], BANDS).sum(dim=-1), total)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_wave_has_half_its_amplitude_squared_at_its_wavenumber(ndim):
    points = 16
    for waves in range(1, 8):
        spectrum = energy_spectrum(power(wave(waves, points, 3.0, 0.3, ndim)), points)[0, 0]
        expected = torch.zeros(9, dtype=torch.float64)
        expected[waves] = 4.5
        torch.testing.assert_close(spectrum, expected)
    constant = torch.full((1, 1, 1, 1, points), 2.0)
    assert energy_spectrum(power(constant), points)[0, 0, 0] == 4


def test_wavenumbers_count_waves_along_the_longest_axis():
    """A box twice as wide as high: one wave along y is as long as two along x."""
    y = 2 * torch.pi * torch.arange(16) / 16
    fields = y.cos()[:, None].expand(1, 1, 1, 16, 32)
    assert int(energy_spectrum(power(fields), 32)[0, 0].argmax()) == 2


@pytest.mark.parametrize(("waves", "band"), [(4, 0), (5, 1), (12, 1), (13, 2), (32, 2)])
def test_a_band_has_the_errors_of_its_wavenumbers(waves, band):
    target = wave(3, amplitude=2.0)
    error = wave(waves)
    shares = band_nrmse(
        band_power(power(error), 64, BANDS), target.square().mean(dim=(-3, -2, -1))
    )[0, 0]
    size = 1.0 if waves == 32 else math.sqrt(0.5)  # the finest wave is 1, -1, 1, ...
    expected = torch.zeros(3, dtype=torch.float64)
    expected[band] = size / math.sqrt(2)
    torch.testing.assert_close(shares, expected)


def test_squares_of_the_band_errors_add_up_to_the_nrmse():
    prediction, target = torch.randn(2, 1, 3, 1, 16, 16).double()
    error = prediction - target
    bands = band_nrmse(band_power(power(error), 16, BANDS), target.square().mean(dim=(-3, -2, -1)))
    whole = error.square().mean(dim=(-3, -2, -1)) / target.square().mean(dim=(-3, -2, -1))
    torch.testing.assert_close(bands.square().sum(dim=-1), whole)


def test_the_fourier_rmse_is_per_wavenumber_of_its_band():
    """A wave of amplitude 1 has |F|² / N² = 1/4 at k and at -k; the bands hold 5, 8 and 20."""
    edges = (-0.5, 4.5, 12.5, 32.5)
    for waves, band, count in ((2, 0, 5), (7, 1, 8), (20, 2, 20)):
        found = fourier_rmse(band_power(power(wave(waves)), 64, edges), edges)[0, 0]
        assert float(found[band]) == pytest.approx(math.sqrt(0.5) / count)
        assert float(found.sum()) == pytest.approx(float(found[band]))


def test_the_error_of_a_band_over_its_power():
    error, target = wave(2, amplitude=0.5), wave(2) + wave(20)
    powers = [band_power(power(fields), 64, BANDS) for fields in (error, target)]
    found = spectral_nmse(*powers, eps=1e-7)[0, 0].tolist()
    assert found[0] == pytest.approx(0.25, rel=1e-6)  # ε is 2e-7 of the power
    assert found[1:] == pytest.approx([0, 0])


def test_a_spectrum_knows_no_phase_and_its_distance_is_relative():
    def spectrum(fields):
        return energy_spectrum(power(fields), 64)

    target = wave(3) + 5
    for prediction, distance in (
        (wave(3, phase=1.0) - 7, 0),  # the domain mean does not count
        (wave(3, amplitude=2.0), 3),
        (0 * wave(3), 1),
        (wave(9), 2),
    ):
        found = spectrum_distance(spectrum(prediction), spectrum(target))
        assert float(found) == pytest.approx(distance, abs=1e-12)
    assert spectrum_distance(spectrum(target), spectrum(0 * target)).isnan().all()
    assert float(spectrum_distance(spectrum(target * math.nan), spectrum(target))) == math.inf


def test_logarithmic_bands_reach_from_0_to_the_finest_corner():
    edges = logarithmic_edges((1, 64, 64))
    assert edges[0] == 0
    assert edges[2] / edges[1] == pytest.approx(edges[3] / edges[2])
    assert edges[1] == pytest.approx((32 * math.sqrt(2)) ** (1 / 3), rel=1e-6)
    fields = torch.randn(1, 1, 1, 64, 64).double()
    total = band_power(power(fields), 64, edges).sum(dim=-1)
    torch.testing.assert_close(total, fields.square().mean(dim=(-3, -2, -1)))
