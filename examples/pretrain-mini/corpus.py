"""Simulates what `mini` is pretrained on: twelve families of two-dimensional physics.

    python examples/pretrain-mini/corpus.py corpus           # says what it costs, and begins
    python examples/pretrain-mini/corpus.py corpus --plan    # says it, and does nothing

Every set is one `matey simulate`, with parameters, sizes, times between frames and initial states
of its own. One that was stopped goes on where it was, and one that is there is not made again: the
same command makes the same bits. At the end `corpus/mix.yaml` is the data config to train with.

What is kept out, to be asked afterwards: the thermals of miniWeather (here are only weaker bubbles
in a square section, of which temperature is stored instead of potential temperature), lid-driven
cavities, fracture, and excitable media.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import matey
from matey.data.write import write_well
from matey.errors import DataError
from matey.fields import Field, Variable
from matey.output import replacing, write_text
from matey.simulate.thermals import Thermals
from matey.train.threads import usable_cores

FRAMES = 21


@dataclass(frozen=True)
class Set:
    """Trajectories of one system. `seconds`: of one core for each, which other work shared.
    `by_temperature` stores temperature [K] instead of the thermals' potential temperature."""

    name: str
    system: str
    trajectories: int
    seconds: float
    options: str = ""
    resolution: int = 64
    wide: bool = False  # twice as many points along x
    by_temperature: bool = False

    def command(self, out: Path, seed: int, jobs: int) -> list[str]:
        """What makes it."""
        return [
            *(sys.executable, "-m", "matey", "simulate", self.system, "--out", str(out)),
            *("--trajectories", str(self.trajectories), "--resolution", str(self.resolution)),
            *("--steps", str(FRAMES), "--seed", str(seed), "--jobs", str(jobs)),
            *self.options.split(),
        ]

    @property
    def points(self) -> int:
        return self.resolution**2 * (2 if self.wide else 1)


GAS = "--vary M=0.1:1.5 --vary eta=1e-3:3e-2:log --vary zeta=1e-3:3e-2:log"
AIR = (
    "--set length=10000 --set x=2000:8000 --set low=1500:4000 --set high=5500:8500"
    " --set amplitude=2:9"
)
SETS = (
    Set("compressible", "compressible", 120, 2.4, GAS),
    Set("compressible_far", "compressible", 40, 8.0, f"{GAS} --set span=1.0"),
    Set("compressible_fine", "compressible", 4, 17.0, GAS, 128),
    Set("blast", "blast", 72, 1.1),
    Set("blast_fine", "blast", 3, 4.0, "", 128),
    Set("shallow_water", "shallow_water", 200, 0.3, "--vary gravity=0.5:2.0"),
    Set("shallow_water_fine", "shallow_water", 40, 1.0, "--vary gravity=0.5:2.0", 128),
    Set("incompressible", "incompressible", 200, 0.6, "--vary NU=2e-3:3e-2:log"),
    Set("bubbles", "thermals", 72, 1.2, f"{AIR} --set span=500", by_temperature=True),
    Set("bubbles_fast", "thermals", 32, 0.8, f"{AIR} --set span=300", by_temperature=True),
    Set("convection", "convection", 8, 7.0, wide=True),
    Set("reacting", "reacting", 10, 1.9),
    Set("mhd", "mhd", 6, 6.0),
    Set("two_phase", "two_phase", 16, 1.0),
    Set("burgers", "burgers", 80, 0.7, "--vary Nu=2e-3:5e-2:log"),
    Set("gray_scott", "gray_scott", 40, 0.8, "--vary F=0.025:0.04 --vary k=0.055:0.062"),
    Set("diffusion_reaction", "diffusion_reaction", 120, 0.3, "--vary Du=5e-4:2e-3:log"),
)


def main() -> None:
    """Simulate all sets, and write the data config."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--plan", action="store_true", help="say what it costs, and make nothing")
    parser.add_argument("--share", type=float, default=1.0, help="of the trajectories")
    names = [every.name for every in SETS]
    parser.add_argument("--sets", nargs="+", choices=names, help="only these: for a trial")
    parser.add_argument("--points", type=int, help="along an axis, of all sets: for a trial")
    parser.add_argument("--jobs", type=int, default=usable_cores())
    options = parser.parse_args()
    sets = [replace(s, trajectories=max(3, round(s.trajectories * options.share))) for s in SETS]
    sets = [s for s in sets if not options.sets or s.name in options.sets]
    sets = [replace(s, resolution=options.points or s.resolution) for s in sets]
    say_cost(sets, options.jobs)
    if options.plan:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for one in sets:
        make(one, options.out, options.jobs)
    write_text(options.out / "mix.yaml", data_config(sets), DataError)
    print(f"Wrote {options.out / 'mix.yaml'}.")


def say_cost(sets: list[Set], jobs: int) -> None:
    """Print what will be made, and what that takes."""
    for one in sets:
        size = f"{one.resolution} x {one.resolution * (2 if one.wide else 1)}"
        seconds = one.trajectories * one.seconds
        print(f"{one.name:20} {one.trajectories:4} trajectories of {size:9} {seconds:6.0f} s")
    seconds = sum(one.trajectories * one.seconds for one in sets)
    size = sum(one.trajectories * one.points * FRAMES * 4 * 4 for one in sets)
    print(
        f"{sum(one.trajectories for one in sets)} trajectories, about {seconds / 60:.0f} minutes "
        f"of one core, {seconds / 60 / jobs:.0f} with {jobs} at a time, and {size / 1e9:.1f} GB."
    )


def make(one: Set, out: Path, jobs: int) -> None:
    """Simulate a set, unless it is there."""
    seed = [every.name for every in SETS].index(one.name)
    if (out / one.name).exists():
        return
    if not one.by_temperature:
        subprocess.run(  # noqa: S603
            one.command(out / one.name, seed, jobs), check=True
        )
        return
    air = out / f".{one.name}.air"
    if not air.exists():
        subprocess.run(  # noqa: S603
            one.command(air, seed, jobs), check=True
        )
    fields = [with_temperature(field, one.name) for field in matey.open(air)]
    with replacing(out / one.name, DataError) as temporary:
        write_well(fields, temporary, name=one.name)


def with_temperature(field: Field, name: str) -> Field:
    """Air with its temperature [K] instead of its potential temperature."""
    names = [variable.name for variable in field.spec.variables]
    density, theta = (names.index(n) for n in ("density", "potential_temperature"))
    values = field.values.double()
    air = Thermals()
    pressure = air.pressure(values[:, density] * values[:, theta])
    values[:, theta] = pressure / (air.gas_constant * values[:, density])
    variables = tuple(
        Variable("temperature", "K") if variable.name == names[theta] else variable
        for variable in field.spec.variables
    )
    spec = replace(field.spec, name=name, variables=variables)
    return replace(field, values=values.to(field.values.dtype), spec=spec)


def data_config(sets: list[Set]) -> str:
    """The data config of all sets: a system each."""
    lines = ["# Made by examples/pretrain-mini/corpus.py.", "systems:"]
    for one in sets:
        lines += [f"  - name: {one.name}", f"    paths: [{one.name}]"]
    return "\n".join([*lines, "split:", "  valid: 0.05", "  test: 0.1", "  seed: 0", ""])


if __name__ == "__main__":
    main()
