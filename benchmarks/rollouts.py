"""What makes a model good for long rollouts: one training setting at a time, and together.

    python benchmarks/rollouts.py --out results/rollouts --seeds 0 1 2
    python benchmarks/rollouts.py --out results/rollouts --seeds 0 1 2 --table

The systems are simulated first, into `--out`: those of SYSTEMS, as `matey simulate` makes them from
the words there. On each the same model is trained alone for so many seconds of CPU time, by each
recipe of RECIPES: what is typed after `matey train` stands there and in the files. A few steps are
timed first, and as many are planned as fit: steps of a recipe that cost more are fewer. Those with
`mirrors` in their name alone are trained on mirror images, and rolled out through the mirrors.

Then it is rolled out from test trajectories for so many steps (`--ahead`), and what is measured is:
the time to error 0.5, the first step at which the VRMSE, a mean over variables, is above 0.5 (or
the last step), as a mean over rollouts; the VRMSE one step ahead; the drift of the domain mean, the
largest within a rollout over the deviation of the true field, a mean over variables; the distance
of the energy spectrum from the truth's over the second half of a rollout (0 for equal, 1 for a
field without variation); and how many rollouts diverged: not finite, or a VRMSE above 10.

`--out` holds a JSON file for each system, recipe and seed; one that is there is not made again, so
that the comparison can be stopped, taken up again, and shared among processes by `--systems`.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from accuracy import Contender, Place, number, table, train_for
from common import machine
from torch import Tensor

from matey.cli import main as matey
from matey.config import RunConfig
from matey.data.systems import open_systems
from matey.data.windows import Rollouts
from matey.metrics import conserved, error, spectrum
from matey.metrics.time import first_time
from matey.nn.rollout import continue_inputs
from matey.nn.surrogate import Surrogate
from matey.output import to_json, write_text

TEST = 0.25  # of the trajectories
USEFUL, LOST = 0.5, 10.0  # VRMSE of a rollout that is of no more use, and of one that diverged

# What `matey simulate` is told, what moves the lattice, and what is conserved.
PERIODIC = "--model.jitter true"
SIDES = f"{PERIODIC} --model.jitter_sides true"


@dataclass(frozen=True)
class Case:
    """One system: how it is made, how its lattice moves, what it conserves, and its mirrors."""

    made: str
    moving: str
    kept: str = ""
    mirrors: str = "[x,y]"


SYSTEMS = {
    "kuramoto_sivashinsky": Case(
        "--ndim 1 --resolution 64 --steps 241 --set span=240 --trajectories 32",
        PERIODIC,
        "--model.keep.kuramoto_sivashinsky.means [front]",
        mirrors="[x]",
    ),
    "two_phase": Case(
        "--resolution 32 --steps 211 --set span=4.2 --trajectories 32",
        PERIODIC,
        "--model.keep.two_phase.means [phase,velocity_x,velocity_y] "
        "--model.keep.two_phase.divergence [velocity]",
        mirrors="[x]",
    ),
    "shallow_water": Case("--resolution 32 --steps 211 --set span=4.2 --trajectories 32", SIDES),
    "burgers": Case(
        "--ndim 1 --resolution 64 --steps 211 --set span=4.2 --trajectories 32",
        PERIODIC,
        "--model.keep.burgers.means [velocity_x]",
        mirrors="[x]",
    ),
    "diffusion_reaction": Case(
        "--resolution 32 --steps 211 --set span=10.5 --trajectories 32", SIDES
    ),
    "compressible": Case(
        "--resolution 32 --steps 211 --set span=4.2 --trajectories 32",
        PERIODIC,
        "--model.keep.compressible.means [density,density*velocity_x,density*velocity_y]",
    ),
    "incompressible": Case(
        "--resolution 32 --steps 211 --set span=4.2 --trajectories 32",
        SIDES,
    ),
}

MODEL = (
    "--batch 8 --optim.lr 4e-3 --optim.warmup 50 --model.embed_dim 32 --model.heads 2 "
    "--model.depth 2 --model.mode uniform --model.patches [8] --model.local 16 --model.levels 2"
)
PLAIN = f"{MODEL} --windows.history 2 --loss.of log --windows.roll true"
ONE = "--windows.history 1"
NOISE = "--windows.noise 1e-2"
ENDING = (
    "--windows.pushforward_end 7 --windows.learn_rollout true --windows.end_share 0.3 "
    "--optim.end_lr 0.3"
)
STENCIL = "--model.stencil true"
BOUND = "--model.bound 4"
AVERAGE = "--optim.ema 0.99"
RECIPES = {
    "the stencil": "--windows.history 2 --model.baseline.kind stencil",  # and no model
    "plain": PLAIN,
    "noise": f"{PLAIN} {NOISE}",
    "ending": f"{PLAIN} {ENDING}",
    "moving": f"{PLAIN} MOVING",
    "kept": f"{PLAIN} KEPT",
    "stencil": f"{PLAIN} {STENCIL}",
    "bound": f"{PLAIN} {BOUND}",
    "average": f"{PLAIN} {AVERAGE}",
    "together": f"{PLAIN} {NOISE} {ENDING} {STENCIL} {BOUND} {AVERAGE} KEPT",
    "and moving": f"{PLAIN} {NOISE} {ENDING} {STENCIL} {BOUND} {AVERAGE} MOVING KEPT",
    "mirrors": f"{PLAIN} MIRRORS",
    "one frame": f"{PLAIN} {ONE}",
    "one frame, mirrors": f"{PLAIN} {ONE} MIRRORS",
    "one frame, mirrors, stencil": f"{PLAIN} {ONE} MIRRORS {STENCIL} {BOUND} {AVERAGE} KEPT",
    "no stencil": f"{PLAIN} {NOISE} {ENDING} {BOUND} {AVERAGE} KEPT",
}


def main() -> None:
    """Make the cells that are not there yet, or print the tables of those that are."""
    args = asked()
    torch.set_num_threads(1)
    out = Path(args.out)
    if args.table:
        print("\n\n".join(tables(out, args)))
        return
    for system in args.systems:
        simulate(out, system)
    for seed in args.seeds:
        for recipe in args.recipes:
            for system in args.systems:
                place = Place(str(data_of(out, system)), system, args.seconds, out)
                if not place.file(recipe, seed).exists() and in_use(recipe, system):
                    print(told(make_cell(place, recipe, seed, args)), flush=True)


def asked() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="the folder of data and results")
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of a training")
    parser.add_argument("--ahead", type=int, default=200, help="steps of a rollout")
    parser.add_argument("--windows", type=int, default=16, help="rollouts of a system")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--table", action="store_true", help="print what is there")
    return parser.parse_args()


def data_of(out: Path, system: str) -> Path:
    """The data config of a system that has been made."""
    return out / "data" / f"{system}.yaml"


def simulate(out: Path, system: str) -> None:
    """Make the trajectories of a system, and their data config, unless they are there."""
    config, folder = data_of(out, system), out / "data" / system
    if config.exists():
        return
    for words in (
        ["simulate", system, "--out", str(folder), "--jobs", "1", *SYSTEMS[system].made.split()],
        ["data", "inspect", str(folder), "--write", str(config)],
    ):
        if matey(words):
            raise SystemExit(f"`matey {' '.join(words)}` failed.")
    drafted = config.read_text()
    config.write_text(drafted.replace("test: 0.1", f"test: {TEST}"))


def in_use(recipe: str, system: str) -> bool:
    """Whether a recipe is one for a system: there is nothing to keep in some."""
    return recipe != "kept" or bool(SYSTEMS[system].kept)


def words_of(recipe: str, system: str) -> str:
    """What is typed for a recipe on a system."""
    case = SYSTEMS[system]
    words = RECIPES[recipe].replace("MOVING", case.moving).replace("KEPT", case.kept).strip()
    flip = case.mirrors if "MIRRORS" in words else "[]"
    return f"{words.replace('MIRRORS', '')} --windows.flip {flip}"


def make_cell(place: Place, recipe: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score a model, and write what came of it."""
    words = words_of(recipe, place.system)
    config = place.config(Contender(words), "", seed)
    cell = {"system": place.system, "recipe": recipe, "seed": seed, "words": words}
    with tempfile.TemporaryDirectory() as folder:
        training, trained = train_for(place, config, place.seconds, Path(folder) / "run")
    cell |= training
    if trained is not None:
        cell |= score(trained, config, args.ahead, args.windows)
    write_text(place.file(recipe, seed), to_json({**cell, "machine": machine("cpu")}, indent=1))
    return cell


@torch.no_grad()
def score(model: Surrogate, config: RunConfig, ahead: int, windows: int) -> dict[str, Any]:
    """What rollouts on the test trajectories are worth."""
    (system,) = open_systems(config.data).values()
    rollouts = Rollouts(system.fields, system.split["test"], model.history, ahead, limit=windows)
    (batch,) = rollouts.batches(windows)
    varying = list(batch.inputs.spec.predicted)
    truth = torch.stack([field.values[:, varying] for field in batch.truth])
    truth = truth[:, model.history - 1 :]
    errors, drifts, spectra = [], [], []
    frames = continue_inputs(model, batch.inputs, [1.0] * rollouts.steps)
    scale = truth[:, 1:].flatten(3).std(dim=-1).mean(dim=1)
    for step in range(1, rollouts.steps + 1):
        frame = next(frames, None)
        made = torch.full_like(truth[:, 0], torch.nan) if frame is None else frame[:, varying]
        errors.append(error.vrmse(made, truth[:, step]).mean(dim=1))
        drift = [conserved.domain_mean(one) for one in (made, truth[:, step])]
        start = conserved.domain_mean(truth[:, 0])
        drifts.append(torch.stack([(one - start).abs() / scale for one in drift]).mean(dim=2))
        spectra.append(distance(made, truth[:, step]).mean(dim=1))
    curve = torch.stack(errors, dim=1)
    leads = range(1, rollouts.steps + 1)
    useful = first_time(curve > USEFUL, leads)
    lost = (curve > LOST).any(dim=1)
    late = torch.stack(spectra, dim=1)[:, rollouts.steps // 2 :].mean(dim=1)
    drifted, true_drift = torch.stack(drifts).amax(dim=0)
    return {
        "windows": len(curve),
        "ahead": rollouts.steps,
        "time": float(useful.time.mean()),
        "times": useful.time.tolist(),
        "outlast": int((~useful.happened).sum()),
        "first": float(curve[:, 0].mean()),
        "vrmse": curve.nanmean(dim=0).tolist(),
        "drift": middle(drifted),
        "true_drift": middle(true_drift),
        "spectrum": middle(late),
        "diverged": int(lost.sum()),
    }


def middle(values: Tensor) -> float:
    """The median over rollouts, which one that diverged does not decide."""
    return float(values.nan_to_num(math.inf, posinf=math.inf).median())


def distance(made: Tensor, target: Tensor) -> Tensor:
    """How far the energy spectrum of a frame is from the truth's, by variable."""
    points = target.shape[-1]
    spectra = (
        spectrum.energy_spectrum(spectrum.power(values), points) for values in (made, target)
    )
    return spectrum.spectrum_distance(*spectra)


def told(cell: dict[str, Any]) -> str:
    """A cell in a line."""
    what = f"{cell['system']} {cell['recipe']} seed {cell['seed']}: "
    if cell["failed"]:
        return what + cell["failed"]
    return what + (
        f"time {cell['time']:.1f} of {cell['ahead']}, first {cell['first']:.4f}, drift "
        f"{cell['drift']:.3g}, spectrum {cell['spectrum']:.3g}, {cell['diverged']} diverged, "
        f"{cell['steps']} steps, {cell['cpu_seconds']:.0f} s"
    )


def tables(out: Path, args: argparse.Namespace) -> Iterator[str]:
    """Markdown: a table for each measure, systems by recipes, means over seeds."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for system in args.systems:
        for recipe in args.recipes:
            place = Place("", system, args.seconds, out)
            paths = [place.file(recipe, seed) for seed in args.seeds]
            found = [json.loads(path.read_text()) for path in paths if path.exists()]
            cells[system, recipe] = [cell for cell in found if not cell["failed"]]
    for key, head in (
        ("time", "Time to error 0.5, steps"),
        ("first", "VRMSE one step ahead"),
        ("drift", "Drift of the mean"),
        ("spectrum", "Distance of the spectrum"),
        ("diverged", "Diverged rollouts"),
        ("steps", "Training steps"),
    ):
        each = partial(spread, key=key)
        yield table(
            [head, *args.recipes],
            [
                [system, *(each(cells[system, recipe]) for recipe in args.recipes)]
                for system in args.systems
            ],
        )


def spread(cells: Sequence[dict[str, Any]], key: str) -> str:
    """The mean over seeds, with half their range."""
    values = [number(cell[key]) for cell in cells]
    if not values:
        return ""
    text = f"{statistics.mean(values):.3g}"
    return text + f" ± {(max(values) - min(values)) / 2:.1g}" * (len(values) > 1)


if __name__ == "__main__":
    main()
