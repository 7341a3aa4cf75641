"""Settings of the data: systems, files, their layout and split."""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from matey.config.checks import require, require_fraction, require_positive

# Names become file names: no separator, no way up, no hidden file.
NAME = re.compile(r"\w[\w .-]{0,99}")
Axis = Literal["sample", "time", "z", "y", "x", "component", "single"]
Faces = Literal["left", "right", "inner", "outer"]
Join = Literal["time", "variables"]


@dataclass(frozen=True)
class ArrayConfig:
    """One array of a file of your own.

    Args:
        array: its name in the file, after those of its groups: `flow/u`. `*/u` stands for the
            array u in each of many groups, one group per trajectory.
        variables: the canonical names of what it holds, as `velocity_x`; several where an axis is
            `component`.
        units: one for all its variables, or one for each.
        axes: what its axes are, slowest first; by default those of the layout.
        static: whether it is constant in time: an input, never predicted. An array without an axis
            `time` always is.
        pseudo: whether a mirror changes its sign beyond reversing its components: false for a true
            scalar, vector or tensor, true for a magnetic field or a vorticity, none if unknown.
            One for all its variables, or a list with one for each.
        staggered: axes along which it lies on the faces of cells, and where these are, as in xgcm:
            `outer` (one face more than there are cells), `inner` (one fewer), `left` or `right` of
            the centres (as many). It is averaged to the centres.
    """

    array: str
    variables: tuple[str, ...]
    units: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    static: bool = False
    pseudo: bool | tuple[bool | None, ...] | None = None
    staggered: dict[str, Faces] = field(default_factory=dict)

    def __post_init__(self) -> None:
        key = f"layout.arrays.{self.array}."
        require(bool(self.variables), key + "variables", self.variables, "a name or more")
        fits = len(self.units) in (0, 1, len(self.variables))
        require(fits, key + "units", self.units, f"one, or {len(self.variables)} of them")
        fits = not isinstance(self.pseudo, tuple) or len(self.pseudo) == len(self.variables)
        require(fits, key + "pseudo", self.pseudo, f"one, or {len(self.variables)} of them")
        for axis in self.staggered:
            require(axis in ("z", "y", "x"), key + "staggered", axis, "z, y or x")


@dataclass(frozen=True)
class LayoutConfig:
    """How files of your own are laid out; `matey data inspect FILES --write` drafts it.

    Args:
        axes: what the axes of the arrays are, slowest first: `sample` is a trajectory, `component`
            holds several variables, `single` has one entry.
        arrays: which arrays to read, and what they are.
        time: the array of times; without one, frames are `dt` apart.
        dt: time between frames, if no array holds the times.
        coordinates: the array of positions along an axis, as `x: lon`; without one, positions
            count grid points.
        boundaries: of each axis, `periodic`, `wall` or `open`, or two words for the low and the
            high side, as `y: wall open`, even if the file stores the axis from high to low; by
            default open.
        parameters: of the equations: each a number, or the name of an attribute or array that
            holds one value or one per sample.
        split: patterns of names of trajectories for `valid` and `test`, as `test: ["*_07.nc#*"]`;
            the others are for training. By default folders or groups named train, valid
            and test decide, else `data.split`.
        doubts: what the draft could not tell and a person has to: nothing is trained on before
            these lines are taken out.
    """

    axes: tuple[Axis, ...]
    arrays: tuple[ArrayConfig, ...]
    time: str = ""
    dt: float = 1.0
    coordinates: dict[str, str] = field(default_factory=dict)
    boundaries: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, float | str] = field(default_factory=dict)
    split: dict[str, tuple[str, ...]] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.arrays), "layout.arrays", self.arrays, "an array or more")
        require_positive(self, "layout.", "dt")
        for axes in (self.axes, *(array.axes for array in self.arrays)):
            once = [axis for axis in axes if axis not in ("component", "single")]
            require(len(set(once)) == len(once), "layout.axes", axes, "each axis once")
        for key in self.coordinates:
            require(key in ("z", "y", "x"), "layout.coordinates", key, "z, y or x")
        for key, sides in self.boundaries.items():
            words = sides.split()
            named = key in ("z", "y", "x") and set(words) <= {"periodic", "wall", "open"}
            fits = named and len(words) in (1, 2) and words.count("periodic") in (0, len(words))
            expected = "z, y or x: periodic, wall or open, or two of the last for two sides"
            require(fits, "layout.boundaries", {key: sides}, expected)
        for key in self.split:
            require(key in ("train", "valid", "test"), "layout.split", key, "train, valid or test")


@dataclass(frozen=True)
class SplitConfig:
    """How trajectories are divided into train, valid and test. Files that come divided stay so.

    Args:
        valid: fraction of the trajectories, or of their frames, for validation; at least one of
            three or more trajectories.
        test: fraction for the final scores, at least one of two or more trajectories.
        seed: of the random division.
        by: `trajectory` gives whole trajectories to each; `time` cuts every trajectory into a
            stretch to train on, one to validate on and one for the test, in this order, which
            share no frame: for one long run.
        gap: frames left out between the stretches of `by: time`, so that what is tested is not
            the moment after what was learned.
    """

    valid: float = 0.1
    test: float = 0.1
    seed: int = 0
    by: Literal["trajectory", "time"] = "trajectory"
    gap: int = 0

    def __post_init__(self) -> None:
        require_fraction(self, "data.split.", "valid", "test")
        total = self.valid + self.test
        require(total <= 1, "data.split", total, "valid + test of 1 at most")
        require(self.gap >= 0, "data.split.gap", self.gap, "0 frames or more")
        in_time = self.by == "time" or not self.gap
        require(in_time, "data.split.gap", self.gap, "0 unless data.split.by is time")
        require(self.seed >= 0, "data.split.seed", self.seed, "0 or more")


@dataclass(frozen=True)
class SourceConfig:
    """Files of one system.

    Args:
        name: the system's name in this run.
        paths: files, folders or patterns, relative to the YAML file that names them.
        uneven: what to do where time steps differ by more than 10 %: `refuse`, or `allow`
            and take the elapsed time over dt as lead time.
        thermodynamics: for miniWeather, `full` density and potential temperature, or their
            `perturbation` from the hydrostatic background.
        layout: how files of your own are laid out; none if matey recognises their layout.
        pseudo: by canonical name, whether a variable is a pseudo quantity, if files do not say it,
            as `potential_enstrophy: false`; see `pseudo` of an array.
        split: how its trajectories are divided, if not as `data.split` says.
        mask: which grid points hold a field, as the sea beside land: `missing` those where no value
            is missing (NaN, or `_FillValue`), the same at all times; or the name of a static
            variable that is 1 there and 0 elsewhere, as `mask_rho`, with `!` before it if it is 1
            where there is none. By default `missing` where the layout is drafted and the first
            frame lacks values, else all points; `none` for all points.
        fill: what fields hold at the other points when they are read. It counts nowhere.
        join: which files are one run: `time`, where each holds frames or stretches of it, in files,
            groups or datasets that are numbered; `variables`, where each holds some of its
            variables; both as a list. Drafted; without it, files of a `layout` are runs each.
        duplicates: what to do with a frame that stands twice in files that are joined: `refuse`, or
            `drop` that of the earlier file.
    """

    name: str
    paths: tuple[str, ...]
    uneven: Literal["refuse", "allow"] = "refuse"
    thermodynamics: Literal["full", "perturbation"] = "full"
    layout: LayoutConfig | None = None
    pseudo: dict[str, bool] = field(default_factory=dict)
    split: SplitConfig | None = None
    mask: str = ""
    fill: float = 0.0
    join: Join | tuple[Join, ...] = ()
    duplicates: Literal["refuse", "drop"] = "refuse"

    def __post_init__(self) -> None:
        require(math.isfinite(self.fill), "fill", self.fill, "a finite number")
        require(
            NAME.fullmatch(self.name) is not None,
            "data.systems.name",
            self.name,
            "letters, digits, '_', '.', '-' and spaces, a letter or digit first, 100 at most",
        )
        require(bool(self.paths), f"data.systems.{self.name}.paths", self.paths, "a path or more")


@dataclass(frozen=True)
class DataConfig:
    """The data to train on and score with.

    Args:
        systems: the systems and their files.
        split: how trajectories are divided into train, valid and test.
        trajectories: train on only this many training trajectories of each system, the first;
            refused if there are fewer.
    """

    systems: tuple[SourceConfig, ...] = ()
    split: SplitConfig = field(default_factory=SplitConfig)
    trajectories: int | None = None

    def __post_init__(self) -> None:
        names = [source.name for source in self.systems]
        require(len(set(names)) == len(names), "data.systems", names, "a name of its own for each")
        if self.trajectories is not None:
            require_positive(self, "data.", "trajectories")
