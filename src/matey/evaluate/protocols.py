"""Named protocols: which metrics, and every detail that a score depends on.

Scores of one protocol mean the same wherever they were computed: a change of detail is a new name.

Axes: B samples, C variables, (Z, Y, X) grid points, K bands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from matey.errors import ConfigError, ShapeError, nearest
from matey.metrics import conserved, error, spectrum
from matey.records.files import Endless

UNEVEN_SPECTRA = "spectra, and errors by wavenumber, which need points that are evenly apart."
INTERPOLATE = "Interpolate to such a grid to have them (xarray's `interp`)."
MASKED_SPECTRA = "spectra, and errors by wavenumber, which need a field at every grid point."
BANDS = ("low", "mid", "high")


@dataclass(frozen=True)
class Protocol:
    """How predictions are scored.

    `primary` is the metric that verdicts go by. `eps` is added to the denominator of errors, in
    the variable's units squared; `correction` is of variances. `bands` are three bands of whole
    wavenumbers by the first of each and the last of all (none: up to the finest), or `logarithmic`
    ones that depend on the grid. Scores are clipped at `clip`. `windows` are first and last leads
    of means besides that over all leads. A rollout is decorrelated below `correlated`, and diverged
    where its RMSE exceeds `bound` standard deviations of the truth.
    """

    name: str
    source: str
    primary: str
    metrics: tuple[str, ...]
    eps: float = 0.0
    correction: Literal[0, 1] = 0
    bands: tuple[int, int, int, int | None] | Literal["logarithmic"] = (0, 5, 13, None)
    clip: Endless = torch.inf
    windows: tuple[tuple[int, int], ...] = ()
    correlated: float = 0.8
    bound: float = 10.0

    def edges(self, shape: tuple[int, int, int]) -> tuple[float, ...]:
        """Edges of the bands on a grid: halfway between whole wavenumbers."""
        if self.bands == "logarithmic":
            return spectrum.logarithmic_edges(shape)
        *first, last = self.bands
        return (*(k - 0.5 for k in first), torch.inf if last is None else last + 0.5)


@dataclass(frozen=True)
class Frame:
    """A predicted frame and the true one, with spectra computed once for all metrics.

    `weights` are the points' shares of the domain on stretched and masked grids, else none.
    """

    prediction: Float[Tensor, "B C Z Y X"]
    target: Float[Tensor, "B C Z Y X"]
    protocol: Protocol
    weights: Float[Tensor, "B 1 Z Y X"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.target.shape[-3:]
        return z, y, x

    @cached_property
    def target_power(self) -> Tensor:
        return self.power_of(self.target)

    @cached_property
    def target_spectrum(self) -> Float[Tensor, "B C K"]:
        return spectrum.energy_spectrum(self.target_power, self.shape[-1])

    @cached_property
    def spectrum(self) -> Float[Tensor, "B C K"]:
        return spectrum.energy_spectrum(self.power_of(self.prediction), self.shape[-1])

    @cached_property
    def edges(self) -> tuple[float, ...]:
        return self.protocol.edges(self.shape)

    @cached_property
    def error_power(self) -> Tensor:
        return self.power_of(self.prediction.double() - self.target.double())

    def power_of(self, fields: Float[Tensor, "B C Z Y X"]) -> Tensor:
        """The power of each wave. Raises ShapeError on a stretched grid, which has no waves."""
        if self.weights is not None:
            if bool((self.weights == 0).any()):
                raise ShapeError(f"A grid with masked points has no {MASKED_SPECTRA}")
            raise ShapeError(f"A stretched grid has no {UNEVEN_SPECTRA} {INTERPOLATE}")
        return spectrum.power(fields)

    @cached_property
    def band_error(self) -> Float[Tensor, "B C K"]:
        return spectrum.band_power(self.error_power, self.shape[-1], self.edges)

    @cached_property
    def band_target(self) -> Float[Tensor, "B C K"]:
        return spectrum.band_power(self.target_power, self.shape[-1], self.edges)

    @property
    def fourier_rmse(self) -> Float[Tensor, "B C K"]:
        """Whole shells only: the last is half as many waves as the longest axis has points."""
        edges = tuple(min(edge, max(self.shape) // 2 + 0.5) for edge in self.edges)
        shells = spectrum.band_power(self.error_power, self.shape[-1], edges)
        return spectrum.fourier_rmse(shells, edges)


Scorer = Callable[[Frame], Float[Tensor, "B C"]]


def in_band(score: Callable[[Frame], Float[Tensor, "B C K"]], band: int) -> Scorer:
    """One band of a metric that has a score per band."""
    return lambda frame: score(frame)[..., band]


BY_BAND: dict[str, Callable[[Frame], Float[Tensor, "B C K"]]] = {
    "band_nrmse": lambda f: spectrum.band_nrmse(f.band_error, conserved.mean_square(f.target)),
    "frmse": lambda f: f.fourier_rmse,
    "spectral_mse": lambda f: error.infinite_if_nan(f.band_error),
    "spectral_nmse": lambda f: spectrum.spectral_nmse(f.band_error, f.band_target, f.protocol.eps),
}

# Every metric by name, as a score per sample and variable of one frame: 0 is exact.
METRICS: dict[str, Scorer] = {
    "nrmse": lambda f: error.nrmse(f.prediction, f.target, f.protocol.eps, f.weights),
    "vrmse": lambda f: error.vrmse(
        f.prediction, f.target, f.protocol.eps, f.protocol.correction, f.weights
    ),
    "rmse": lambda f: error.rmse(f.prediction, f.target, f.weights),
    "mae": lambda f: error.mae(f.prediction, f.target, f.weights),
    "max_error": lambda f: error.max_error(f.prediction, f.target),
    "boundary_rmse": lambda f: error.boundary_rmse(f.prediction, f.target, f.weights),
    "mean_error": lambda f: conserved.mean_error(f.prediction, f.target, f.weights),
    "energy_error": lambda f: conserved.energy_error(f.prediction, f.target, f.weights),
    "spectrum_distance": lambda f: spectrum.spectrum_distance(f.spectrum, f.target_spectrum),
    **{
        f"{name}_{band}": in_band(score, i)
        for name, score in BY_BAND.items()
        for i, band in enumerate(BANDS)
    },
}


SPECTRAL = {"spectrum_distance", *(f"{name}_{band}" for name in BY_BAND for band in BANDS)}


def by_band(name: str) -> tuple[str, ...]:
    """The names of a metric in each band."""
    return tuple(f"{name}_{band}" for band in BANDS)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="default",
            source="matey",
            primary="nrmse",
            metrics=(
                *("nrmse", "vrmse", "rmse", "mae", "max_error", "boundary_rmse"),
                *by_band("band_nrmse"),
                *("spectrum_distance", "mean_error", "energy_error"),
            ),
        ),
        Protocol(
            name="pdebench-v1",
            source="arXiv:2210.07182, appendix B",
            primary="nrmse",
            metrics=(
                *("rmse", "nrmse", "mean_error", "boundary_rmse"),
                *by_band("frmse"),
                "max_error",
            ),
        ),
        Protocol(
            name="well-1.2",
            source="arXiv:2412.00568 and the package the_well 1.2",
            primary="vrmse",
            metrics=(
                *("vrmse", "nrmse", "rmse", "mae", "max_error"),
                *by_band("spectral_mse"),
                *by_band("spectral_nmse"),
            ),
            eps=1e-7,
            correction=1,
            bands="logarithmic",
            windows=((6, 12), (13, 30)),
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name. Raises ConfigError that names the nearest."""
    if name not in PROTOCOLS:
        raise ConfigError(f"Protocol {name!r} is unknown. {nearest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def score_frame(frame: Frame) -> dict[str, Float[Tensor, "B C"]]:
    """Every metric of the protocol, per sample and variable; NaN where undefined: spectral ones on
    stretched and masked grids."""
    protocol, undefined = frame.protocol, torch.full_like(frame.target[:, :, 0, 0, 0], torch.nan)
    return {
        name: undefined.double()
        if name in SPECTRAL and frame.weights is not None
        else METRICS[name](frame).clamp(max=protocol.clip)
        for name in protocol.metrics
    }
