"""Which model has the least error after the same CPU time, one system at a time.

    matey data inspect pdebench/{diffre2d,swe,incompNS,compNS} thermals cavity gray_scott \\
        --write seven.yaml
    python benchmarks/accuracy.py --data seven.yaml --out results/accuracy --seeds 0 1 2
    python benchmarks/accuracy.py --data seven.yaml --out results/accuracy --seeds 0 1 2 --table

Every model is trained on every system alone, in one thread, for so many seconds of CPU time: a few
steps are timed, and as many are planned as fit, with what comes before the first (reading, the fit
of a stencil). The times are kept in a file of `costs/` for each system. Programs beside it make
steps longer, also in CPU time: `--costs` measures them all and stops, for a quiet machine, and
trainings may then share it. Where a model leaves a choice open (the learning rate, the size of
patches), each candidate is first trained with the first seed for a `--share` of the time, and the
least NRMSE on the validation trajectories decides, for all seeds. Then `evaluate` rolls the model
out on the test trajectories, from the same frames for all models.

`--out` holds a JSON file for each system, model and seed; one that is there is not made again, so
that a comparison can be stopped, taken up again, and shared among processes by `--systems`. What is
typed after `matey train` for each model stands in MODELS, and in the file.
"""

import argparse
import hashlib
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from common import machine

from matey.cli.options import make_parser, parse, run_config
from matey.cli.train import add_arguments
from matey.config import OptimConfig, RunConfig
from matey.data.systems import open_systems
from matey.errors import DivergenceError
from matey.evaluate.score import ScoreConfig, evaluate
from matey.nn.operations import count
from matey.nn.surrogate import Surrogate
from matey.output import to_json, write_text
from matey.train.loop import train
from matey.train.run_folder import Sink

ROOT = Path(__file__).resolve().parents[1]
STEPS = 10  # ahead
FEW = 4  # trajectories that are named
LEAST, MOST = 6, 24  # steps that are timed
ENOUGH = 0.06  # of the time, for timing them

# Axes along which the equations are the same in a mirror: gravity and a moving lid are not.
MIRRORS = {
    "diffusion_reaction": "[x, y]",
    "shallow_water": "[x, y]",
    "incompressible": "[x, y]",
    "compressible": "[x, y]",
    "gray_scott": "[x, y]",
    "thermals": "[x]",
    "blast": "[x, y]",
    "reacting": "[x, y]",
}


@dataclass(frozen=True)
class Contender:
    """A model of the comparison: what is typed for it, the candidates of a choice, and further
    ones, each tried where the one before it was the best so far."""

    words: str
    choices: tuple[str, ...] = ("",)
    further: tuple[str, ...] = ()


ALL = "--batch 4 --windows.history 2 --optim.warmup 50"
RECIPE = f"{ALL} --loss.of log --windows.roll true"  # and mirrors, where there are any
NANO = "--model.embed_dim 96 --model.heads 3 --model.depth 4"
END = "--windows.learn_rollout true --windows.pushforward_end 4 --windows.end_share 0.1"
LOCAL = "--model.local 32 --model.waves 8 --model.bound 4 --model.stencil true"
OURS = f"{RECIPE} {END} --optim.ema 0.99 {NANO} --model.depth 2 {LOCAL}"
ADAPTIVE = (
    "--model.levels 3 --model.mode adap_mix --model.patches [16,8] "
    "--model.refine.criterion change --model.refine.bulk 0.9"
)
# A coarse patch holds whole pieces of the coarsest level.
LEVELS = {32: 3, 16: 3, 8: 2, 4: 1}
LOW, MIDDLE, HIGH = (
    (tuple(rates[:3]), tuple(rates[3:]))
    for rates in (
        [f"--optim.lr {rate}" for rate in ("1e-3", "2e-3", "4e-3", "8e-3", "1.6e-2")],
        [f"--optim.lr {rate}" for rate in ("1e-3", "3e-3", "1e-2", "3e-2")],
        [f"--optim.lr {rate}" for rate in ("3e-3", "1e-2", "2e-2", "4e-2", "8e-2")],
    )
)
MODELS = {
    "stencil": Contender("--windows.history 2 --model.baseline.kind stencil"),
    "FNO": Contender(f"{RECIPE} {NANO} --model.baseline.kind fno", *HIGH),
    "U-Net": Contender(f"{RECIPE} {NANO} --model.baseline.kind unet", *MIDDLE),
    "paper": Contender(f"--config {ROOT}/examples/paper/nano.yaml {ALL}"),
    "uniform": Contender(
        f"{OURS} --model.mode uniform --optim.lr 2e-3",
        tuple(f"--model.patches [{patch}] --model.levels {n}" for patch, n in LEVELS.items()),
    ),
    "large": Contender(  # for large grids, with the local path in pieces
        f"{OURS} --model.mode uniform --optim.lr 4e-3",
        ("--model.patches [32] --model.levels 3", "--model.patches [16] --model.levels 2"),
    ),
    "large adaptive": Contender(
        f"{OURS} {ADAPTIVE} --optim.lr 4e-3",
        ("--model.patches [32,16]", "--model.patches [32,8]"),
    ),
    "large 3D": Contender(
        f"{OURS} --model.mode uniform --optim.lr 4e-3",
        ("--model.patches [16] --model.levels 2", "--model.patches [8] --model.levels 1"),
    ),
    "large 3D adaptive": Contender(
        f"{OURS} {ADAPTIVE} --optim.lr 4e-3", ("--model.patches [16,8] --model.levels 2",)
    ),
    "adaptive": Contender(f"{OURS} {ADAPTIVE} --optim.lr 2e-3"),
    "ours": Contender(f"{OURS} {ADAPTIVE}", *LOW),
}
OTHERS = ("stencil", "FNO", "U-Net")  # of which the best is compared with


class EnoughError(Exception):
    """The probe has been timed."""


@dataclass(frozen=True)
class Place:
    """One system of a comparison, its budget and its folder."""

    data: str
    system: str
    seconds: float
    out: Path
    also: str = ""  # words after those of every model but the stencil

    @property
    def folder(self) -> Path:
        return self.out / f"{self.seconds:g}s" / self.system

    def file(self, model: str, what: object) -> Path:
        """Where a model's result is, by seed, or its `choice`."""
        return self.folder / f"{model}-{what}.json"

    def config(self, contender: Contender, choice: str, seed: int) -> RunConfig:
        """What is typed, as a config of this system alone."""
        also = "" if contender is MODELS["stencil"] else self.also
        words = f"{contender.words} {choice} {also}".split()
        mirrored = "--windows.roll" in words and "--windows.flip" not in words
        if mirrored and self.system in MIRRORS:
            words += ["--windows.flip", MIRRORS[self.system]]
        config = read(self.data, tuple(words))
        systems = tuple(one for one in config.data.systems if one.name == self.system)
        return replace(
            config,
            data=replace(config.data, systems=systems),
            seed=seed,
            threads=1,
            device="cpu",
            validate_every=0,
        )


@cache
def read(data: str, words: tuple[str, ...]) -> RunConfig:
    """A config by the package's own command line."""
    parser = make_parser("train", "train", "accuracy")
    add_arguments(parser)
    return run_config(parse(parser, ["--run", "unused", *words, "--data", data]))


def main() -> None:
    """Make the cells that are not there yet, or print the tables of those that are."""
    args = asked()
    torch.set_num_threads(1)
    systems = [one.name for one in read(args.data, ()).data.systems]
    chosen = args.systems or systems
    if unknown := {*chosen} - {*systems}:
        raise SystemExit(f"{args.data} has no system {', '.join(sorted(unknown))}: {systems}")
    out = Path(args.out)
    places = [Place(args.data, name, args.seconds, out, args.also) for name in chosen]
    if args.costs:
        for place in places:
            for model in args.models:
                for choice in MODELS[model].choices if model != "stencil" else ():
                    steps = plan(place, place.config(MODELS[model], choice, 0), place.seconds)
                    what = f"{place.system} {model} {choice}".strip()
                    print(f"{what}: {steps} steps in {place.seconds:g} s", flush=True)
        return
    if args.table:
        print("\n\n".join(tables(places, args.models, args.seeds)))
        return
    for place in places:
        print(split(place), flush=True)
    for seed in args.seeds:
        for model in args.models:
            for place in places:
                if not place.file(model, seed).exists():
                    print(told(make_cell(place, model, seed, args)), flush=True)


def asked() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a data config that names the systems")
    parser.add_argument("--out", required=True, help="the folder of the results")
    parser.add_argument("--seconds", type=float, default=120, help="CPU time of a training")
    parser.add_argument("--systems", nargs="+", help="of the data config; by default all")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--share", type=float, default=1 / 3, help="of the time, for each candidate of a choice"
    )
    parser.add_argument("--windows", type=int, default=30, help="rollouts of a system, at most")
    parser.add_argument(
        "--also", default="", help="typed after the words of every model but the stencil"
    )
    parser.add_argument("--costs", action="store_true", help="only time the steps of each model")
    parser.add_argument("--table", action="store_true", help="print what is there")
    return parser.parse_args()


def split(place: Place) -> str:
    """Which trajectories of a system are for what."""
    config = place.config(MODELS["stencil"], "", 0)
    (system,) = open_systems(config.data).values()
    names = [trajectory.name for trajectory in system.fields.trajectories]
    parts = []
    for part, which in system.split.items():
        listed = f" ({', '.join(names[i] for i in which)})" if len(which) <= FEW else ""
        parts.append(f"{part} {len(which)}{listed}")
    return f"{place.system}: {'; '.join(parts)}"


def make_cell(place: Place, model: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score a model, and write what came of it."""
    contender = MODELS[model]
    choice = choose(place, model, args.seeds[0], args.share)
    config = place.config(contender, choice["chosen"], seed)
    words = f"{contender.words} {choice['chosen']} {place.also}"
    cell = {
        "system": place.system,
        "model": model,
        "seed": seed,
        "seconds": place.seconds,
        "words": " ".join(words.replace(f"{ROOT}/", "").split()),
        **choice,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        training, trained = train_for(place, config, place.seconds, run / "run")
        cell |= training
        if trained is not None:
            cell |= score(trained, model, config, args.windows, run / "results")
    write_text(place.file(model, seed), to_json({**cell, "machine": machine("cpu")}, indent=1))
    return cell


def choose(place: Place, model: str, seed: int, share: float) -> dict[str, Any]:
    """The candidate of the least error in validation after a share of the time."""
    contender, path = MODELS[model], place.file(model, "choice")
    if len(contender.choices) == 1:
        return {"chosen": contender.choices[0], "tried": {}}
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"tried": {}}
    tried = {candidate: number(error) for candidate, error in content["tried"].items()}
    for candidate in (*contender.choices, *contender.further):
        if candidate in tried:
            continue
        if candidate in contender.further and least(tried) != list(tried)[-1]:
            break
        config = place.config(contender, candidate, seed)
        with tempfile.TemporaryDirectory() as folder:
            training, _ = train_for(place, config, share * place.seconds, Path(folder) / "run")
        tried[candidate] = number(training["valid"])
        print(f"  {place.system} {model} {candidate}: {tried[candidate]:.4g}", flush=True)
        write_text(path, to_json({"chosen": least(tried), "tried": tried}, indent=1))
    return {"chosen": least(tried), "tried": tried}


def least(tried: dict[str, float]) -> str:
    """The candidate of the least error."""
    return min(tried, key=lambda candidate: tried[candidate])


def train_for(
    place: Place, config: RunConfig, seconds: float, run: Path
) -> tuple[dict[str, Any], Surrogate | None]:
    """Train for so many seconds of CPU time: facts of the training, and the model unless it
    diverged. A stencil takes what it takes."""
    closed_form = config.model.baseline.kind == "stencil"
    steps = 1 if closed_form else plan(place, config, seconds)
    config = replace(config, steps=steps, checkpoint_every=steps, log_every=max(1, steps // 8))
    clock, valid = Clock(), [math.inf]

    def watch(record: dict[str, Any]) -> None:
        clock(record)
        if record["kind"] == "valid":
            valid.append(*record["nrmse"].values())

    facts: dict[str, Any] = {"steps": steps, "failed": ""}
    model = None
    try:
        model = train(config, run, watch)
        facts["parameters"] = count(model)
    except DivergenceError as error:
        facts["failed"] = str(error)
    return facts | {"cpu_seconds": clock.spent, "valid": valid[-1]}, model


class Clock:
    """CPU time from the start of a training to its last record of steps."""

    def __init__(self) -> None:
        self.began, self.times = time.process_time(), [0.0]

    def __call__(self, record: dict[str, Any]) -> None:
        if record["kind"] == "train":
            self.times.append(time.process_time() - self.began)

    @property
    def spent(self) -> float:
        return self.times[-1]


def plan(place: Place, config: RunConfig, seconds: float) -> int:
    """How many steps fit into so many seconds of CPU time: each frame that is learned from takes
    as long, and in the end of a run there may be more of them."""
    windows = config.windows
    learn = windows.learn_rollout and windows.pushforward > 0
    usual = replace(windows, pushforward_end=None, learn_rollout=learn)
    once, each = cost(place, replace(config, windows=usual))
    if windows.learn_rollout:
        each *= (1 + windows.mean_pushes) / (1 + windows.pushforward / 2)
    return max(1, int((seconds - once) / each))


def cost(place: Place, config: RunConfig) -> tuple[float, float]:
    """CPU time once and per step, by the first few, kept for all seeds, rates and budgets."""
    path = place.out / "costs" / f"{place.system}.json"
    costs: dict[str, tuple[float, float]] = json.loads(path.read_text()) if path.exists() else {}
    plain = replace(config, seed=0, optim=OptimConfig())
    alike = hashlib.sha256(to_json(asdict(plain)).encode()).hexdigest()[:16]
    if alike not in costs:
        with tempfile.TemporaryDirectory() as folder:
            costs[alike] = measure(train, config, ENOUGH * place.seconds, Path(folder) / "probe")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, to_json(costs, indent=1))
    once, each = costs[alike]
    return once, each


def measure(
    train: Callable[[RunConfig, Path, Sink], Any], config: RunConfig, seconds: float, run: Path
) -> tuple[float, float]:
    """CPU time of all that comes before the second step of a training, and of each step after
    it."""
    clock = Clock()

    def watch(record: dict[str, Any]) -> None:
        clock(record)
        done = len(clock.times) - 1
        if done == MOST or (done >= LEAST and clock.times[-1] - clock.times[1] > seconds):
            raise EnoughError

    with suppress(EnoughError):
        train(replace(config, steps=MOST + 1, log_every=1, checkpoint_every=MOST + 1), run, watch)
    # The first step allocates, and comes after all that is done once.
    return clock.times[1], (clock.times[-1] - clock.times[1]) / (len(clock.times) - 2)


def score(
    model: Surrogate, name: str, config: RunConfig, windows: int, out: Path
) -> dict[str, Any]:
    """Errors on the test trajectories by step ahead."""
    scores = evaluate(model, name, config.data, ScoreConfig(STEPS, windows=windows), out)[0]
    return {
        "ahead": scores.steps,
        "nrmse": scores.main.error,
        "persistence": scores.main.persistence,
        "metrics": {key: metric.mean.error for key, metric in scores.metrics.items()},
        "diverged": scores.divergence.rollouts,
        "tokens": scores.tokens.get("mean", 0.0),
        "trajectories": scores.trajectories,
        "windows": scores.windows,
    }


def number(value: float | None) -> float:
    """A number of a file, where null is infinity."""
    return math.inf if value is None or math.isnan(value) else value


def told(cell: dict[str, Any]) -> str:
    """A cell in a line."""
    what = f"{cell['system']} {cell['model']} seed {cell['seed']} {cell['chosen']}".strip() + ": "
    if cell["failed"]:
        return what + cell["failed"]
    one, ten = ends(cell["nrmse"])
    return what + f"{one:.4f} / {ten:.3f}, {cell['steps']} steps, {cell['cpu_seconds']:.0f} s"


def ends(errors: Sequence[float | None]) -> tuple[float, float]:
    """The error one step ahead, and the one farthest ahead."""
    return number(errors[0]), number(errors[-1])


Pair = tuple[float, float]


def tables(places: Sequence[Place], models: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    """Markdown: errors; ratios to the best other and to uniform patches; how each was trained."""
    cells = {
        (place.system, model, seed): json.loads(path.read_text())
        for place in places
        for model in models
        for seed in seeds
        if (path := place.file(model, seed)).exists()
    }
    errors = {
        key: ends(cell["nrmse"]) if not cell["failed"] else (math.inf, math.inf)
        for key, cell in cells.items()
    }
    systems = [place.system for place in places]
    there = [model for model in models if any(key[1] == model for key in cells)]

    def seeds_of(system: str, *names: str) -> list[int]:
        return [seed for seed in seeds if all((system, name, seed) in errors for name in names)]

    def error(system: str, model: str) -> str:
        return spread([errors[system, model, seed] for seed in seeds_of(system, model)])

    def still(system: str) -> str:
        one = next((c for c in cells.values() if c["system"] == system and not c["failed"]), None)
        return spread([ends(one["persistence"])] if one else [])

    yield table(
        ["NRMSE one / ten steps ahead", "persistence", *there],
        [[name, still(name), *(error(name, model) for model in there)] for name in systems],
    )
    columns: dict[str, Callable[[str], list[Pair]]] = {}
    for model in there:
        if model not in OTHERS and {*OTHERS} <= {*there}:
            columns[f"{model} / best other"] = lambda system, model=model: [
                over(errors[system, model, s], best([errors[system, o, s] for o in OTHERS]))
                for s in seeds_of(system, model, *OTHERS)
            ]
    if {"adaptive", "uniform"} <= {*there}:
        columns["adaptive / uniform"] = lambda system: [
            over(errors[system, "adaptive", s], errors[system, "uniform", s])
            for s in seeds_of(system, "adaptive", "uniform")
        ]
    if columns:
        rows = {name: {key: ratios(name) for key, ratios in columns.items()} for name in systems}
        means = [
            geometric([mean(row[key]) for row in rows.values() if row[key]]) for key in columns
        ]
        yield table(
            ["Ratio, paired by seed", *columns],
            [
                *([name, *map(spread, row.values())] for name, row in rows.items()),
                ["geometric mean", *(spread([pair] if pair else []) for pair in means)],
            ],
        )
    yield table(
        ["Steps, CPU seconds, chosen", *there],
        [[name, *(trained(cells, name, model, seeds) for model in there)] for name in systems],
    )


def trained(cells: dict[Any, Any], system: str, model: str, seeds: Sequence[int]) -> str:
    """Steps and CPU seconds of a model's trainings, and what validation chose."""
    mine = [cells[system, model, seed] for seed in seeds if (system, model, seed) in cells]
    if not mine:
        return ""
    steps = statistics.mean(cell["steps"] for cell in mine)
    spent = statistics.mean(cell["cpu_seconds"] for cell in mine)
    chosen = mine[0]["chosen"].replace("--model.", "").replace("--optim.", "")
    return f"{steps:.0f}, {spent:.0f} s" + (f", {chosen}" if chosen else "")


def best(pairs: Sequence[Pair]) -> Pair:
    """The least error at each lead, whichever model has it."""
    return min(one for one, _ in pairs), min(ten for _, ten in pairs)


def over(pair: Pair, other: Pair) -> Pair:
    """The ratio at each lead."""
    return pair[0] / other[0], pair[1] / other[1]


def mean(pairs: Sequence[Pair]) -> Pair:
    """The mean at each lead."""
    return statistics.mean(one for one, _ in pairs), statistics.mean(ten for _, ten in pairs)


def geometric(pairs: Sequence[Pair]) -> Pair | None:
    """The geometric mean at each lead."""
    if not pairs:
        return None
    one, ten = (statistics.geometric_mean(column) for column in zip(*pairs, strict=True))
    return one, ten


def spread(pairs: Sequence[Pair]) -> str:
    """The mean at each lead, with half the range of several seeds."""
    if not pairs:
        return ""
    texts = []
    for column in zip(*pairs, strict=True):
        text = f"{statistics.mean(column):.3g}"
        texts.append(text + f" ± {(max(column) - min(column)) / 2:.1g}" * (len(column) > 1))
    return " / ".join(texts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
