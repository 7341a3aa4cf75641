"""The systems of a study: the user's files, and simulations where there are none."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matey.config import DataConfig, SourceConfig, SplitConfig, WindowConfig
from matey.cost.forecast import look
from matey.data.systems import open_systems
from matey.data.write import write_well
from matey.errors import ConfigError, closest
from matey.fields import Field, Inputs, SystemSpec, stack_fields
from matey.output import replacing
from matey.simulate import SYSTEMS, simulate
from matey.tokens.lattice import Triple

log = logging.getLogger("matey")

Watch = Callable[[str], None]

SPLIT = SplitConfig(valid=0.1, test=0.2)  # of what is simulated


@dataclass(frozen=True)
class Recipe:
    """How to simulate a system of which there are no files.

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


def find_sources(recipes: Sequence[Recipe], config: DataConfig, folder: Path) -> dict[str, Source]:
    """The data of each recipe: given under its name, or to be simulated below `folder`."""
    files = {source.name: replace(config, systems=(source,)) for source in config.systems}
    sources = {}
    for recipe in recipes:
        name = recipe.name
        data = files.get(name) if recipe.made_by == name else None
        made = DataConfig((SourceConfig(name, (str(folder / name),)),), SPLIT)
        sources[name] = Source(name, data or made, real=data is not None)
    return sources


def tell_unused(recipes: Sequence[Recipe], config: DataConfig, tell: Watch) -> None:
    """Say which of the systems given the study has no use for: some are those of other studies.

    Logs a warning where the name is close to one that the study would read, and that is not given.
    """
    read = {recipe.name for recipe in recipes if recipe.made_by == recipe.name}
    names = {source.name for source in config.systems}
    for name in sorted(names - read):
        if name not in SYSTEMS and (near := closest(name, read - names)):
            log.warning(
                "System %r of --data is not used: this study has none of that name. Did you mean "
                "%r? That is simulated.",
                *(name, near),
            )
        else:
            tell(f"system {name!r} of --data is not used: this study reads none of that name")


def is_missing(source: Source) -> bool:
    """Whether a system still has to be simulated."""
    return not source.real and not Path(source.data.systems[0].paths[0]).exists()


def make_missing(recipes: Sequence[Recipe], sources: Mapping[str, Source], tell: Watch) -> None:
    """Simulate the systems that are missing, and say so."""
    for recipe in recipes:
        source = sources[recipe.name]
        if is_missing(source):
            tell(f"simulating {recipe.name}")
            with replacing(Path(source.data.systems[0].paths[0])) as temporary:
                write_well(simulated(recipe), temporary, name=recipe.name)


def simulated(recipe: Recipe, frames: int | None = None) -> list[Field]:
    """The trajectories of a recipe, or their first frames alone."""
    return simulate(
        recipe.made_by,
        trajectories=recipe.trajectories,
        resolution=recipe.resolution,
        steps=recipe.frames,
        seed=recipe.seed,
        ndim=recipe.ndim,
        frames=frames,
    )


@dataclass(frozen=True)
class Probe:
    """Some histories of a system, to plan a study with."""

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
    return Probe([*look(system.windows("train", windows))])


def probe_recipe(recipe: Recipe, history: int) -> Probe:
    """The first history of one simulated trajectory: to plan with, where no file is there yet."""
    field = simulated(replace(recipe, trajectories=1), history)[0]
    return Probe([stack_fields([field], [1.0], [recipe.name])])


def medium_patch(grid: Triple, tokens: int) -> int:
    """The power of two that cuts a grid into about `tokens` patches, fewer rather than more.

    Twice as large a one divides the grid too, and half of it is a whole number. Raises ConfigError
    for a grid that no such patch divides.
    """
    axes = axes_of(grid)
    sizes = (2**power for power in range(1, 12))
    fits = [size for size in sizes if all(points % (2 * size) == 0 for points in axes)]
    if not fits:
        raise ConfigError(
            f"a grid of {sides(grid)} points cannot be cut into medium patches and twice as large "
            "ones. Crop or resample it so that 4 divides every axis"
        )
    return min(fits, key=lambda patch: (distance(axes, patch, tokens), -patch))


def check_patch(source: Source, grid: Triple, tokens: int) -> None:
    """Raise ConfigError for a system whose grid has no medium patch.

    Logs a warning where the best one makes more than twice as many tokens, or less than half.
    """
    try:
        patch = medium_patch(grid, tokens)
    except ConfigError as error:
        raise ConfigError(f"System {source.name!r}: {error}{or_simulated(source)}.") from error
    if distance(axes_of(grid), patch, tokens) > 1:
        made = math.prod(points // patch for points in axes_of(grid))
        log.warning(
            "System %r: medium patches of %d cut its grid of %s points into %s tokens, where the "
            "study asks for about %s: powers of two whose double divides every axis come no "
            "closer. A crop that a higher power of two divides does.",
            *(source.name, patch, sides(grid), f"{made:,}", f"{tokens:,}"),
        )


def check_tiled(source: Source, grid: Triple, patch: int) -> None:
    """Raise ConfigError for a system whose grid is not cut by the one patch of all systems."""
    if any(points % patch for points in axes_of(grid)):
        raise ConfigError(
            f"System {source.name!r}: a grid of {sides(grid)} points cannot be cut into patches of "
            f"{patch}, which this study has for all systems. Crop or resample it so that {patch} "
            f"divides every axis{or_simulated(source)}."
        )


def or_simulated(source: Source) -> str:
    """The other way out where the user's files do not fit the study."""
    return ", or leave the system out of --data, and it is simulated" if source.real else ""


def axes_of(grid: Triple) -> list[int]:
    """The axes of a grid, (z, y, x), that have more than one point."""
    return [points for points in grid if points > 1]


def sides(grid: Triple) -> str:
    """A grid as `64 × 128`."""
    return " × ".join(str(points) for points in axes_of(grid))


def distance(axes: Sequence[int], patch: int, tokens: int) -> float:
    """How far the number of patches is from `tokens`, in octaves."""
    count = math.prod(points // patch for points in axes)
    return abs(round(math.log2(count / tokens), 6))


def described(sources: Mapping[str, Source]) -> str:
    """Which systems are from the user's files, and which were simulated."""
    parts = []
    for text, real in (("from the files given", True), ("simulated", False)):
        names = [name for name, source in sources.items() if source.real == real]
        parts += [f"{text}: {', '.join(names)}"] if names else []
    return "; ".join(parts)
