"""Errors by scale: discrete Fourier transforms over space, summed over bands of wavenumbers.

Axes: B samples, C variables, (Z, Y, X) grid points, K bands.

The wavenumber of a coefficient is k = n √(f_z² + f_y² + f_x²), where f are cycles per grid point
and n is the number of points of the longest axis: how many waves fit along that axis. This is
isotropic where the grid spacing is the same along all axes. No window is applied: along an axis
that is not periodic, the jump from one end to the other is part of the spectrum.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from matey.metrics.error import infinite_if_nan, root_ratio


def power(fields: Float[Tensor, "B C Z Y X"]) -> Float[Tensor, "B C Z Y H"]:
    """|F|² / N² of each coefficient F of the discrete Fourier transform over N grid points.

    Its sum is the mean square of the field (Parseval). Of a pair of conjugate coefficients along
    X only one is kept, with the power of both. NaN where a field is not finite.
    """
    points = math.prod(fields.shape[-3:])
    coefficients = torch.fft.rfftn(fields.double(), dim=(-3, -2, -1))
    square = coefficients.real.square() + coefficients.imag.square()
    square = torch.where(torch.isfinite(square), square, torch.nan)
    twice = torch.full(square.shape[-1:], 2.0, dtype=square.dtype, device=square.device)
    twice[0] = 1.0
    if fields.shape[-1] % 2 == 0:
        twice[-1] = 1.0
    return square * twice / points**2


@lru_cache(maxsize=32)
def wavenumbers(shape: tuple[int, int, int]) -> Float[Tensor, "Z Y H"]:
    """The wavenumber k of each coefficient that `power` keeps, for fields of this shape."""
    z, y, x = shape
    square = (
        torch.fft.fftfreq(z, dtype=torch.float64)[:, None, None].square()
        + torch.fft.fftfreq(y, dtype=torch.float64)[:, None].square()
        + torch.fft.rfftfreq(x, dtype=torch.float64).square()
    )
    return max(shape) * square.sqrt()


def band_power(
    powers: Float[Tensor, "B C Z Y H"], points: int, edges: Sequence[float]
) -> Float[Tensor, "B C K"]:
    """The sum of powers in each band edges[i] ≤ k < edges[i + 1].

    `points` is the length of the axis X, of which `powers` keeps half.
    """
    shape = (powers.shape[-3], powers.shape[-2], points)
    band = torch.bucketize(wavenumbers(shape), torch.tensor(edges, dtype=torch.float64), right=True)
    sums = powers.new_zeros((*powers.shape[:2], len(edges) + 1))
    return sums.index_add(-1, band.flatten().to(powers.device), powers.flatten(2))[..., 1:-1]


def shell_edges(shape: Sequence[int]) -> tuple[float, ...]:
    """Edges of shells around whole wavenumbers 0, 1, ... up to half the longest axis."""
    return tuple(k - 0.5 for k in range(max(shape) // 2 + 2))


def logarithmic_edges(shape: Sequence[int]) -> tuple[float, ...]:
    """Edges of three bands of equal ratio from one wave to the finest; the first begins at 0.

    In angular frequency per grid point these are 0 and logspace(2π/n, π√d + 1e-6) on a grid of d
    dimensions. Source: the package of arXiv:2412.00568, version 1.2.
    """
    longest, ndim = max(shape), sum(points > 1 for points in shape)
    lowest, highest = 2 * math.pi / longest, math.pi * math.sqrt(ndim) + 1e-6
    edges = [lowest * (highest / lowest) ** (i / 3) for i in range(4)]
    return (0.0, *(edge * longest / (2 * math.pi) for edge in edges[1:]))


def energy_spectrum(powers: Float[Tensor, "B C Z Y H"], points: int) -> Float[Tensor, "B C K"]:
    """E(k): the power in the shell k − ½ ≤ |k| < k + ½, for k = 0, 1, ... half the longest axis.

    In the variable's units squared; the sum over k is the mean square, but for the corners of the
    grid of wavenumbers beyond the last shell.
    """
    return band_power(powers, points, shell_edges((*powers.shape[-3:-1], points)))


def spectrum_distance(
    prediction: Float[Tensor, "B C K"], target: Float[Tensor, "B C K"]
) -> Float[Tensor, "B C"]:
    """Distance of two energy spectra Σ |E_p(k) − E_t(k)| / Σ E_t(k), over k ≥ 1.

    0 for equal spectra, whatever the phases; 1 for a prediction without variation. k = 0, the
    domain mean, is left out: see `matey.metrics.conserved`. NaN where the target is constant.
    """
    apart = (prediction - target)[..., 1:].abs().sum(dim=-1)
    scale = target[..., 1:].sum(dim=-1)
    return torch.where(scale == 0, torch.nan, infinite_if_nan(apart / scale))


def band_nrmse(
    error: Float[Tensor, "B C K"], target: Float[Tensor, "B C"]
) -> Float[Tensor, "B C K"]:
    """The part of each band in the NRMSE: √(Σ_band |F_p − F_t|² / Σ_all |F_t|²).

    The squares over all bands add up to NRMSE². `error` is the power of p − t by band, `target`
    that of t in all bands. NaN where the target is zero.
    """
    return root_ratio(infinite_if_nan(error), target[..., None], 0.0)


def fourier_rmse(error: Float[Tensor, "B C K"], edges: Sequence[float]) -> Float[Tensor, "B C K"]:
    """Error per wavenumber √(Σ_band |F_p − F_t|² / N²) / (k_max − k_min + 1).

    k_min and k_max are the first and last whole wavenumber of a band: its edges lie halfway
    between them. In the variable's units.
    Source: arXiv:2210.07182, appendix B (fRMSE). The paper leaves the transform's scale open:
    here it is 1 / N, so that a wave's coefficient does not depend on the grid.
    """
    counts = torch.tensor(edges, dtype=error.dtype, device=error.device).diff()
    return infinite_if_nan(error).sqrt() / counts


def spectral_nmse(
    error: Float[Tensor, "B C K"], target: Float[Tensor, "B C K"], eps: float
) -> Float[Tensor, "B C K"]:
    """Squared error of each band over the target's power there: Σ|F_p − F_t|² / (Σ|F_t|² + ε).

    Both sums are over the band, divided by N².
    Source: the package of arXiv:2412.00568, version 1.2 (ε = 1e-7).
    """
    return infinite_if_nan(error / (target + eps))
