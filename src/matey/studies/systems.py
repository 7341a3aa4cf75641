"""The systems of a study: files that the user gives, and simulations of all that is missing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matey.config import DataConfig, SourceConfig, SplitConfig, WindowConfig
from matey.data.mixture import open_systems
from matey.data.write import write_well
from matey.fields import Field, Inputs, SystemSpec, stack_fields
from matey.output import replacing
from matey.simulate import simulate
from matey.tokens.lattice import Triple
from matey.train.forecast import WINDOWS, look

Watch = Callable[[str], None]

SPLIT = SplitConfig(valid=0.1, test=0.2)  # of what is simulated


@dataclass(frozen=True)
class Recipe:
    """How a system is simulated where no files of it are given.

    `frames` are over the published time span. A system whose name is not that of its simulator
    is never taken from files.
    """

    name: str
    resolution: int
    trajectories: int
    frames: int = 21
    simulator: str = ""
    ndim: int | None = None
    seed: int = 0

    @property
    def made_by(self) -> str:
        """The name of the simulator."""
        return self.simulator or self.name


@dataclass(frozen=True)
class Source:
    """One system of a study: its data config, and whether the user gave the files."""

    name: str
    data: DataConfig
    real: bool


def find_sources(recipes: Sequence[Recipe], given: DataConfig, folder: Path) -> dict[str, Source]:
    """The data of each recipe: given under its name, or to be simulated below `folder`."""
    found = {}
    for recipe in recipes:
        own = given_source(recipe, given)
        made = DataConfig((SourceConfig(recipe.name, (str(folder / recipe.name),)),), SPLIT)
        found[recipe.name] = Source(recipe.name, own or made, real=own is not None)
    return found


def make_missing(
    recipes: Sequence[Recipe], sources: Mapping[str, Source], folder: Path, watch: Watch
) -> None:
    """Simulate what is neither given nor there; `watch` hears the name of each system before."""
    for recipe in recipes:
        place = folder / recipe.name
        if not sources[recipe.name].real and not place.exists():
            watch(recipe.name)
            with replacing(place) as temporary:
                write_well(simulated(recipe), temporary, name=recipe.name)


def given_source(recipe: Recipe, given: DataConfig) -> DataConfig | None:
    """The user's files of a system, if there are any."""
    if recipe.made_by != recipe.name:
        return None
    for source in given.systems:
        if source.name == recipe.name:
            return replace(given, systems=(source,))
    return None


def simulated(recipe: Recipe) -> list[Field]:
    """The trajectories of a recipe."""
    return simulate(
        recipe.made_by,
        trajectories=recipe.trajectories,
        resolution=recipe.resolution,
        steps=recipe.frames,
        seed=recipe.seed,
        ndim=recipe.ndim,
    )


@dataclass(frozen=True)
class Probe:
    """What a study's design needs to know of a system: some of its histories."""

    inputs: list[Inputs]

    @property
    def spec(self) -> SystemSpec:
        return self.inputs[0].spec

    @property
    def grid(self) -> Triple:
        z, y, x = self.inputs[0].values.shape[-3:]
        return z, y, x


def probe_files(source: Source, windows: WindowConfig) -> Probe:
    """Some histories of the training trajectories."""
    system = open_systems(source.data)[source.name]
    return Probe(look(system.windows("train", windows)))


def probe_recipe(recipe: Recipe, history: int) -> Probe:
    """Some histories of one simulated trajectory: to plan with, where no file is there yet."""
    field = simulated(replace(recipe, trajectories=1))[0]
    starts = len(field) - history
    parts = [
        slice(first, first + history) for first in (i * starts // WINDOWS for i in range(WINDOWS))
    ]
    return Probe(
        [
            stack_fields(
                [replace(field, values=field.values[part], times=field.times[part])],
                [1.0],
                [recipe.name],
            )
            for part in parts
        ]
    )


def medium_patch(grid: Triple, tokens: int) -> int:
    """The power of two that cuts a grid into about so many patches, fewer rather than more.

    Twice as large a one divides the grid too, and half of it is a whole number.
    """
    axes = [points for points in grid if points > 1]
    fits = [
        patch
        for patch in (2**power for power in range(1, 12))
        if all(points % (2 * patch) == 0 for points in axes)
    ]
    return min(fits, key=lambda patch: (distance(axes, patch, tokens), -patch))


def distance(axes: Sequence[int], patch: int, tokens: int) -> float:
    """How far the number of patches is from so many, in octaves."""
    count = math.prod(points // patch for points in axes)
    return abs(round(math.log2(count / tokens), 6))


def described(sources: Mapping[str, Source]) -> str:
    """Which systems are from files of the user's, and which were simulated."""
    real = [name for name, source in sources.items() if source.real]
    made = [name for name, source in sources.items() if not source.real]
    parts = [f"from the files given: {', '.join(real)}"] if real else []
    parts += [f"simulated: {', '.join(made)}"] if made else []
    return "; ".join(parts)
