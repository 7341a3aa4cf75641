"""The Fourier modes of the local path."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from matey.config import ModelConfig
from matey.errors import ConfigError
from matey.nn.local.spectral import CHANNELS, Spectral
from matey.nn.operations import Cost

GRIDS = [(33,), (12, 32), (6, 8, 10)]
MODES = 5


def path(ndim):
    torch.manual_seed(0)
    return Spectral(ndim, 6, 4, 1.0, MODES)


def inputs(pieces, channels=CHANNELS):
    """Values of three samples, of which the second has no periodic axis and the third one."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(3, channels, *pieces, generator=generator)
    wraps = torch.ones(3, len(pieces), dtype=torch.bool)
    wraps[1], wraps[2, 1:] = False, False
    return values, wraps


def lowest(values):
    """The modes that are kept of periodic values, by torch's transform."""
    axes, sizes = tuple(range(1, values.ndim)), values.shape[1:]
    found = torch.fft.rfftn(values, dim=axes)
    for axis, count in enumerate(sizes, start=1):
        number = torch.fft.fftfreq(count, 1 / count).abs()[: found.shape[axis]]
        kept = (number < MODES) & (2 * number < count)
        found = found * kept.view(-1, *(1,) * (values.ndim - 1 - axis))
    return torch.fft.irfftn(found, s=sizes, dim=axes)


@pytest.mark.parametrize("pieces", GRIDS)
def test_the_unit_matrix_keeps_the_lowest_modes_on_every_side(pieces):
    spectral, (values, wraps) = path(len(pieces)), inputs(pieces)
    spectral.matrices.data.zero_()
    spectral.matrices.data[..., 0] = torch.eye(CHANNELS)
    found = spectral.far(values, wraps)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found[0], lowest(values[0]), **close)
    # What goes on as in a mirror is periodic in twice the domain, where as many modes are kept.
    twice = values[1]
    for axis in range(1, twice.ndim):
        twice = torch.cat([twice, twice.flip(axis)], dim=axis)
    inside = (slice(None), *(slice(count) for count in pieces))
    torch.testing.assert_close(found[1], lowest(twice)[inside], **close)


@pytest.mark.parametrize("pieces", GRIDS)
def test_a_wave_that_travels_is_one_matrix_for_all_modes(pieces):
    """A shift by a whole number of pieces turns each wave by its number."""
    spectral, (values, _) = path(len(pieces)), inputs(pieces)
    wraps = torch.ones(3, len(pieces), dtype=torch.bool)
    number = torch.arange(MODES)  # along the last axis
    turn = torch.polar(torch.ones(MODES), -2 * torch.pi * number * 3 / pieces[-1])
    unit = torch.eye(CHANNELS)[None] * turn[:, None, None]
    spectral.matrices.data[:] = torch.view_as_real(unit)
    kept = torch.stack([lowest(sample) for sample in values])
    torch.testing.assert_close(
        spectral.far(values, wraps), kept.roll(3, dims=-1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("pieces", GRIDS)
def test_it_commutes_with_shifts_and_does_not_depend_on_batch_mates(pieces):
    spectral, (values, wraps) = path(len(pieces)), inputs(pieces, 6)
    case = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    found = spectral(values, case, wraps)
    for i in range(3):
        alone = spectral(values[i : i + 1], case[i : i + 1], wraps[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], alone)
    moved = spectral(values.roll(2, dims=2), case, wraps)
    torch.testing.assert_close(moved[0], found[0].roll(2, dims=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pieces", GRIDS)
def test_operations_are_those_that_torch_counts_for_a_quarter_of_a_complex_product(pieces):
    spectral, (values, wraps) = path(len(pieces)), inputs(pieces, 6)
    with FlopCounterMode(display=False) as counter:
        case = torch.zeros(3, 4, requires_grad=True)
        spectral(values.requires_grad_(), case, wraps).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    found = sum(flops * (4 if "bmm" in str(op) else 1) for op, flops in counts.items())
    cost = Cost()
    spectral.count(cost, 3, pieces)
    assert cost.operations == pytest.approx(found, rel=0.02)


def test_waves_without_a_local_path_are_refused():
    with pytest.raises(ConfigError, match=r"model\.waves is 8"):
        ModelConfig(waves=8)
