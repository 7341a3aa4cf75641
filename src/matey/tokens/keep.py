"""What a system conserves, kept by a projection of each predicted frame.

For a total a variable is shifted by the same number everywhere; for the divergence a vector loses
the part of it that is a gradient (Helmholtz's decomposition), which is the smallest change that
does. Neither undoes what the other did, so that one after the other keeps all.

Axes: B samples, P predicted variables, D components, (Z, Y, X) grid points.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from matey.config import KeepConfig
from matey.errors import ConfigError, ShapeError
from matey.fields import PERIODIC_SIDES, Grid, Inputs, Sides, SystemSpec
from matey.fields.inputs import periodic
from matey.tokens.normalise import Statistics

AXES = "xyz"  # component i of a vector is along array axis -1 - i
SLIGHT = 0.01  # of a weight's root mean square: a smaller mean is as good as none


def keep_totals(
    frame: Float[Tensor, "B P Z Y X"], statistics: Statistics, inputs: Inputs, keep: KeepConfig
) -> Float[Tensor, "B P Z Y X"]:
    """A predicted frame with the totals of the last frame of its history, and without divergence,
    as `keep` has it. The frame is without units, and `statistics` give it those of its variables.

    Raises ConfigError for a variable that the system does not predict; ShapeError where a grid
    does not allow for the divergence.
    """
    spec = inputs.spec
    places = {spec.variables[i].name: at for at, i in enumerate(spec.predicted)}
    made = statistics.restore(frame.float())
    kept = list(made.unbind(dim=1))
    for vector in keep.divergence:
        chosen = [places[name] for name in components(vector, spec)]
        ratios = spacing_ratios(vector, inputs)
        part = gradient_part(torch.stack([kept[at] for at in chosen], dim=1), ratios)
        for at, change in zip(chosen, part.unbind(dim=1), strict=True):
            kept[at] = kept[at] - change
    last = dict(zip(places, inputs.values[:, -1, list(spec.predicted)].unbind(dim=1), strict=True))
    # Means of one variable first: those of two weigh the second by the first.
    for total in sorted(keep.means, key=lambda total: total.count("*")):
        *weighed_by, name = factors(total, spec)
        before, now, weight = last[name], kept[places[name]], None
        if weighed_by:
            weight = kept[places[weighed_by[0]]]
            before, now = last[weighed_by[0]] * before, weight * now
        change = domain_mean(before, inputs) - domain_mean(now, inputs)
        if weight is not None:
            change = change / shifting_mean(weight, inputs)
        kept[places[name]] = kept[places[name]] + change[:, None, None, None].to(made)
    return frame + (torch.stack(kept, dim=1) - made) / statistics.scale


def domain_mean(values: Float[Tensor, "B Z Y X"], inputs: Inputs) -> Float[Tensor, " B"]:
    """The mean over where there is a field, weighted by cell volume, in float64."""
    values = values.double()
    if inputs.space is None:
        return values.mean(dim=(1, 2, 3))
    volumes = inputs.space.volumes[:, 0]
    return torch.where(volumes > 0, values * volumes, 0).sum(dim=(1, 2, 3))


def shifting_mean(weight: Float[Tensor, "B Z Y X"], inputs: Inputs) -> Float[Tensor, " B"]:
    """The mean of a weight; infinite, so that nothing is shifted, where it is next to nothing
    beside the weight itself: no shift but a huge one would give back the total."""
    mean = domain_mean(weight, inputs)
    square = domain_mean(weight.double().square(), inputs)
    return torch.where(mean.square() > SLIGHT**2 * square, mean, torch.inf)


def gradient_part(
    vector: Float[Tensor, "B D Z Y X"], ratios: Float[Tensor, "B 3"]
) -> Float[Tensor, "B D Z Y X"]:
    """The gradient whose divergence a vector on a periodic grid has; derivatives are of its
    Fourier series. Waves of two points a period, which have none, are left alone.

    Source: Canuto, Hussaini, Quarteroni and Zang, Spectral Methods: Fundamentals in Single Domains
    (2006), sections 2.1.3 and 3.3.
    """
    count = vector.shape[1]
    axes = tuple(range(-count, 0))
    modes = torch.fft.rfftn(vector, dim=axes)
    waves = []
    for axis in range(-1, -1 - count, -1):  # of x, y, z
        points = vector.shape[axis]
        numbers = torch.fft.fftfreq(points, 1 / points, device=vector.device)
        if points % 2 == 0:
            numbers[points // 2] = 0
        shape = [1] * 4
        shape[axis] = modes.shape[axis]
        length = (ratios[:, axis] * points).to(vector)
        waves.append(numbers[: modes.shape[axis]].reshape(shape) / length[:, None, None, None])
    square = sum(wave.square() for wave in waves)
    assert isinstance(square, Tensor)
    along = sum(wave * mode for wave, mode in zip(waves, modes.unbind(dim=1), strict=True))
    along = along * torch.where(square > 0, 1 / square.clamp(min=1e-30), 0)
    gradient = torch.stack([wave * along for wave in waves], dim=1)
    return torch.fft.irfftn(gradient, s=vector.shape[-count:], dim=axes)


def spacing_ratios(vector: str, inputs: Inputs) -> Float[Tensor, "B 3"]:
    """Spacings along Z, Y and X over that along X. Raises ShapeError unless the grid is even,
    periodic and whole."""
    active = slice(3 - inputs.spec.ndim, 3)
    around = bool(periodic(inputs.boundaries)[:, active].all())
    stretched = inputs.points is not None and any(inputs.points.stretched)
    refuse_divergence(vector, inputs.spec, around, stretched)
    if inputs.spacing is None:
        raise ShapeError(f"Inputs of {inputs.spec.name!r} lack the spacing that {vector} needs.")
    return inputs.spacing / inputs.spacing[:, 2:]


def refuse_divergence(vector: str, spec: SystemSpec, around: bool, stretched: bool) -> None:
    """Raise ShapeError where a vector cannot be made free of divergence: on a grid with sides that
    are not periodic, a stretched or a masked one."""
    reasons = {
        "sides that are not periodic": not around,
        "a stretched grid": stretched,
        "a mask": spec.mask is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ShapeError(
                f"System {spec.name!r} has {reason}: {vector} can be kept free of divergence on "
                f"even periodic grids alone. Leave it out of model.keep.{spec.name}.divergence."
            )


def check_kept(
    kept: Mapping[str, KeepConfig], spec: SystemSpec, grid: Grid, boundaries: Sequence[Sides]
) -> None:
    """Raise ConfigError for what is to be kept and the system does not predict, ShapeError for a
    divergence that its grid does not allow for."""
    keep = kept.get(spec.name, KeepConfig())
    around = all(sides == PERIODIC_SIDES for sides in boundaries[3 - spec.ndim :])
    for total in keep.means:
        factors(total, spec)
    for vector in keep.divergence:
        components(vector, spec)
        refuse_divergence(vector, spec, around, bool(grid.stretched))


def factors(total: str, spec: SystemSpec) -> list[str]:
    """The variables of a total. Raises ConfigError for what the system does not predict, and where
    the component of a vector, whose mean may be zero, is to weigh a variable."""
    names, key = total.split("*"), f"model.keep.{spec.name}.means"
    require_predicted(names, spec, key, total)
    *weighed_by, name = names
    for variable in spec.variables:
        if variable.name in weighed_by and variable.axes:
            raise ConfigError(
                f"{key} is {total!r}, which shifts {name} by the total over the mean of "
                f"{variable.name}. That may be zero, of a component: put it last, as "
                f"density*{variable.name}."
            )
    return names


def components(vector: str, spec: SystemSpec) -> list[str]:
    """The components of a vector, along x, y and z as far as the system has them."""
    names = [f"{vector}_{axis}" for axis in AXES[: spec.ndim]]
    require_predicted(names, spec, f"model.keep.{spec.name}.divergence", vector)
    return names


def require_predicted(names: list[str], spec: SystemSpec, key: str, value: str) -> None:
    """Raise ConfigError for a variable that the system does not predict."""
    known = [spec.variables[i].name for i in spec.predicted]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{key} is {value!r}, but the system predicts no {name}: it predicts "
                f"{', '.join(known)}."
            )
