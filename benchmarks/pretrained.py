"""What a pretrained model is worth: fine-tuned on little data, beside what starts anew.

    python benchmarks/pretrained_data.py --out worth-data
    python benchmarks/pretrained.py --out results/worth \\
        --model 3e13=runs/mini-3e13 1e14=runs/mini-1e14 --control 1e14=runs/control-1e14 \\
        --data thermals=worth-data/thermals.yaml fracture=worth-data/fracture.yaml

Every method is trained on the first 1, 2, 4, 8 trajectories of a system for 50, 200, 1,000 steps,
each with a schedule of its own, and rolled out ten steps on the test trajectories, from the same
frames for all. `full`, `lora` and `frozen` go on from each `--model`: with all weights, low-rank
adapters, all but the blocks; `control` goes on from a model that was pretrained on something
distant. `scratch` is the same model from random weights, `FNO` and `U-Net` have as many weights,
`stencil` is fitted. `zero-shot` is a pretrained model as it is, where it knows all variables.

What is the same for all: windows, augmentation, batch, loss and warm-up (`--recipe`), the frames
that choices are made by, and for one seed the trajectories and the order of the batches. Where each
training trajectory has a file of its own, seed s takes those from the s-th on, so that the spread
over seeds has that of the data in it: all of it for one trajectory, less the more of them the seeds
share. Else all seeds take the first.

The learning rate is the one of least one-step error on the validation trajectories, of three that
lie a factor of three apart, and, where the best is at an end, of one or two more that way. It is
chosen once for each line (a method with its model), system and number of trajectories, after
`--trial-steps` steps with seed 0, and kept in `choices.json`. No choice sees a test trajectory.

CPU time is what comes once before the first step and the steps times what one takes, in one thread,
measured before and kept in `costs.json`: `--costs` measures and stops, for a quiet machine. With
`--budgets cpu` FNO and U-Net are trained for the CPU time of so many steps of the transformer, too.

`--out` keeps each training, and a copy of each model: what is there is not made again, and every
subset of methods, systems, trajectories, steps and seeds can be asked for at any time. The first
seed is done for all before the second begins. Tables of all that is there are printed at the end,
and are in `summary.md` (`pretrained_table.py`).
"""

import argparse
import filecmp
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from accuracy import MIRRORS, measure, read
from pretrained_table import Key, kind_of, label_of, method_of, summarise
from pretrained_table import read as read_json

from matey.config import BaselineConfig, DataConfig, ModelConfig, RunConfig
from matey.config.model import BaselineKind
from matey.cost.forecast import look, mean_operations
from matey.data.systems import System, open_systems
from matey.errors import MateyError
from matey.evaluate.score import ScoreConfig
from matey.fields import Inputs
from matey.nn.adapters.stored import WEIGHTS
from matey.nn.folder import find_model, from_pretrained, outline
from matey.output import remove, replacing, to_json, write_text
from matey.records.study import Outcome
from matey.simulate.trajectories import one_thread
from matey.studies.cells import NOTHING, RECORD, Cell, folder_of, is_done, score_cell, stencils_of
from matey.studies.engine import Done, run_cells
from matey.train.beside import keep_beside
from matey.train.finetune import WAVES, finetune
from matey.train.lock import locked
from matey.train.loop import train
from matey.train.run_folder import plain
from matey.words import duration

ROLLOUTS = "--windows.pushforward 2 --windows.learn_rollout true"
RECIPE = f"--batch 4 --loss.of log --windows.roll true {ROLLOUTS}"  # and mirrors, where there are
AXES = {**MIRRORS, "fracture": "[x, y]", "excitable": "[x, y]"}
APART = 3.0  # factor between learning rates
MORE = 2  # rates beyond the three, at most
SEED = 0  # of the trials that choose a rate
PROBE = 10.0  # CPU seconds of steps that are timed
WARMUP = 10  # a part in so many of the steps
MODELS, CONTROLS = ".models", ".controls"  # folders of the copies
NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Method:
    """How a line is trained: the middle of its learning rates, what is typed beside the recipe,
    which models it starts from, and the network where that is another."""

    lr: float
    words: str = ""
    start: str = ""
    kind: BaselineKind = "none"


METHODS = {
    "full": Method(1e-3, "", MODELS),
    "lora": Method(3e-3, "--mode lora --rank 4", MODELS),
    "frozen": Method(3e-3, "--mode frozen-attention", MODELS),
    "control": Method(1e-3, "", CONTROLS),
    "scratch": Method(3e-3),
    "stencil": Method(1.0, kind="stencil"),
    "FNO": Method(1e-2, kind="fno"),
    "U-Net": Method(3e-3, kind="unet"),
}
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Place:
    """One system of the measurement, and what all its trainings share."""

    system: str
    file: str
    model: ModelConfig
    history: int
    recipe: str
    ask: ScoreConfig
    out: Path

    @cached_property
    def data(self) -> DataConfig:
        """The data config, of one system."""
        data = read(self.file, ()).data
        if len(data.systems) != 1:
            raise SystemExit(f"{self.file} has {len(data.systems)} systems; give each its own.")
        return replace(data, trajectories=None)

    @cached_property
    def opened(self) -> System:
        """The system with all its trajectories."""
        (system,) = open_systems(self.data).values()
        return system

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """The file of each trajectory by its split."""
        fields, split = self.opened.fields, self.opened.split
        return {
            part: [str(fields.place(i)[0].path) for i in which] for part, which in split.items()
        }

    @property
    def rotates(self) -> bool:
        """Whether each trajectory has a file of its own, so that seeds can take others."""
        every = [path for paths in self.files.values() for path in paths]
        return len(set(every)) == len(every) and self.data.systems[0].layout is None

    def data_for(self, number: int, seed: int) -> DataConfig:
        """The data of one training: so many trajectories from the seed's on, and the same ones to
        choose by."""
        there = self.files["train"]
        if number > len(there):
            raise SystemExit(
                f"{self.file} has {len(there)} trajectories to train on, not {number}."
            )
        if number == len(there) or not self.rotates:
            return replace(self.data, trajectories=number)
        taken = sorted(there[(seed + place) % len(there)] for place in range(number))
        (source,) = self.data.systems
        paths = (*taken, *self.files["valid"], *self.files["test"])
        return replace(self.data, systems=(replace(source, paths=paths),), trajectories=number)

    def config(self, line: str, number: int, steps: int, rate: float, seed: int) -> RunConfig:
        """The run of one training."""
        method = METHODS[method_of(line)]
        fitted = method.kind == "stencil"
        words = [] if fitted else f"{self.recipe} {method.words}".split()
        name = self.data.systems[0].name
        if "--windows.roll" in words and name in AXES:
            words += ["--windows.flip", AXES[name]]
        config = read(self.file, tuple(words))
        other = replace(self.model, baseline=BaselineConfig(method.kind))
        return replace(
            config,
            model=self.model if method.kind == "none" else other,
            windows=replace(config.windows, history=self.history),
            optim=replace(config.optim, lr=rate or method.lr, warmup=max(1, steps // WARMUP)),
            data=self.data_for(number, seed),
            steps=steps,
            seed=seed,
            threads=1,
            device="cpu",
            validate_every=0,
            validate_windows=64,
            checkpoint_every=max(10, steps // 4),
            keep_checkpoints=1,
            log_every=max(1, steps // 20),
        )

    @cached_property
    def histories(self) -> Sequence[Inputs]:
        """Some windows, to count operations by."""
        config = self.config("scratch", 1, 1, 0.0, SEED)
        return [*look(self.opened.windows("train", config.windows))]

    def steps(self, key: Key) -> int:
        """The steps of a training: those of its key, or as many as take their CPU time."""
        if key.budget == "steps":
            return key.steps
        (before, step), (once, each) = self.cost("scratch"), self.cost(key.line)
        return max(1, round((before + key.steps * step - once) / each))

    def cell(self, key: Key) -> Cell:
        """The cell of a training."""
        steps = self.steps(key)
        config = self.config(key.line, key.number, steps, key.rate, key.seed)
        start = METHODS[method_of(key.line)].start
        spec = self.opened.fields.spec
        return Cell(
            name=key.name,
            point=f"{key.line}, {key.number}",
            system=key.system,
            budget=key.budget,
            config=config,
            operations=steps * mean_operations(config, spec, self.histories),
            test=self.data,
            ask=self.ask,
            parent=f"{start}/{label_of(key.line)}" if start else "",
        )

    def cost(self, line: str) -> tuple[float, float]:
        """CPU seconds of a line's trainings once (reading, what is fitted before the first step)
        and per step: measured by a few steps, unless they were."""
        path, kind = self.out / "costs.json", kind_of(line)
        costs = read_json(path)
        here = costs.setdefault(self.system, {})
        if kind not in here:
            like = f"{kind} {label_of(line)}" if METHODS[kind].start else kind
            cell = self.cell(Key(self.system, 1, like, "steps", 100, 0.0, SEED))
            beside = stencils_of(cell, self.out)
            keep_beside(cell.config, beside)  # for the scores: no part of a training
            begin = partial(finetune, folder_of(self.out, cell.parent) / "run")
            work = partial(begin if cell.parent else train, stencils=beside)
            with tempfile.TemporaryDirectory() as folder:
                here[kind] = measure(work, cell.config, PROBE, Path(folder) / "probe")
            once, each = here[kind]
            print(f"{self.system} {kind}: {once:.1f} s, {1000 * each:.0f} ms a step", flush=True)
            write_text(path, to_json(costs, indent=1))
        once, each = here[kind]
        return once, each


def main() -> None:
    """Measure what is not there yet of what is asked for, and print all that is there."""
    args = asked()
    logging.getLogger("matey").setLevel(logging.ERROR)  # notices are the same for all
    torch.set_num_threads(1)
    try:
        if not args.table:
            with locked(Path(args.out), "--out"):
                work(args)
        print(summarise(Path(args.out)))
    except MateyError as error:
        raise SystemExit(str(error)) from error


def asked() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pairs = {"nargs": "+", "default": [], "type": named}
    parser.add_argument("--out", required=True, help="the folder of the results")
    parser.add_argument("--model", metavar="LABEL=CHECKPOINT", help="pretrained models", **pairs)
    parser.add_argument(
        "--control", metavar="LABEL=CHECKPOINT", help="pretrained on something distant", **pairs
    )
    parser.add_argument("--data", metavar="NAME=CONFIG", help="a config for each system", **pairs)
    parser.add_argument("--trajectories", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument(
        "--steps", nargs="+", type=int, default=[50, 200, 1000], help="of each training"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--methods", nargs="+", default=[ZERO_SHOT, *METHODS], choices=[ZERO_SHOT, *METHODS]
    )
    parser.add_argument(
        "--budgets", nargs="+", default=["steps"], choices=["steps", "cpu"], help="what is equal"
    )
    parser.add_argument(
        "--waves",
        type=int,
        default=WAVES,
        help="of the local path, pretrained or not, where models have none: as many as matey "
        "finetune adds",
    )
    parser.add_argument("--trial-steps", type=int, default=200, help="after which a rate is chosen")
    parser.add_argument("--ahead", type=int, default=10, help="steps of the rollouts")
    parser.add_argument("--windows", type=int, default=32, help="rollouts of a system, at most")
    parser.add_argument("--recipe", default=RECIPE, help="what is typed after matey train")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, one thread each")
    parser.add_argument("--costs", action="store_true", help="only time the steps")
    parser.add_argument("--plan", action="store_true", help="tell what is missing, and its time")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    return parser.parse_args()


def named(text: str) -> tuple[str, str]:
    """The two sides of NAME=PATH."""
    name, _, path = text.partition("=")
    if not path or not NAME.fullmatch(name):
        raise argparse.ArgumentTypeError(
            f"{text!r}, expected NAME=PATH, with letters, digits, '.', '_' and '-' in the name"
        )
    return name, path


def work(args: argparse.Namespace) -> None:
    """Make what is missing, seed by seed."""
    out = Path(args.out)
    check(args)
    model, history = keep_models(out, {MODELS: dict(args.model), CONTROLS: dict(args.control)})
    if model.local and not model.waves:
        model = replace(model, waves=args.waves)
    ask = ScoreConfig(steps=args.ahead, batch=8, windows=args.windows)
    places = [Place(name, file, model, history, args.recipe, ask, out) for name, file in args.data]
    lines = lines_of(args)
    for place in places:
        for line in lines:
            if line != "stencil":
                place.cost(line)
    if args.costs:
        return
    for place in places:
        print(told_split(place), flush=True)
    print(told_plan(args, places, lines), flush=True)
    if args.plan:
        return
    if ZERO_SHOT in args.methods:
        for place in places:
            for label, _ in args.model:
                score_as_it_is(place, label)
    for seed in args.seeds:
        for place in places:
            for number in args.trajectories:
                rates = choose(place, number, lines, args)
                keys = keys_of(place, number, rates, seed, args)
                make(place, keys, args.jobs)
                summarise(out)


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before any work."""
    if not args.data or not args.model + args.control:
        raise SystemExit(
            "Give --data NAME=CONFIG, and --model LABEL=CHECKPOINT, whose shape the "
            "model from scratch has, and FNO and U-Net the number of weights."
        )
    if "lora" in args.methods and "lora" not in get_args(get_type_hints(RunConfig)["mode"]):
        raise SystemExit("This version has no --mode lora. Leave lora out of --methods.")
    if "FNO" in args.methods and not find_spec("neuralop"):
        raise SystemExit(
            "The FNO needs neuraloperator: pip install 'matey-pde[fno]', or leave FNO "
            "out of --methods."
        )


def lines_of(args: argparse.Namespace) -> list[str]:
    """The lines asked for: a method, or a method with each model that it may start from."""
    lines = []
    for name, method in METHODS.items():
        if name in args.methods:
            starts = {MODELS: args.model, CONTROLS: args.control}.get(method.start)
            lines += [name] if starts is None else [f"{name} {label}" for label, _ in starts]
    return lines


def keep_models(out: Path, models: dict[str, dict[str, str]]) -> tuple[ModelConfig, int]:
    """Copy each model into the folder of results, and give the shape that all of them have.

    A copy stays what it is when the run goes on that wrote it. Ends where a label stands for
    another model, or shapes differ.
    """
    shapes = {}
    for start, named_models in models.items():
        for label, path in named_models.items():
            name = f"{start}/{label}"
            source, folder = find_model(Path(path)), folder_of(out, name)
            copy = folder / "run" / "model"
            if not (folder / RECORD).exists():
                with replacing(copy) as temporary:
                    shutil.copytree(source, temporary)
                stub = Outcome(name, "pretraining", "", "", 0, 0, 0.0, **NOTHING)
                stub.save(folder / RECORD)
            if not filecmp.cmp(source / WEIGHTS, copy / WEIGHTS, shallow=False):
                raise SystemExit(
                    f"{path} is not the model that {copy} holds as {label!r}. Give it "
                    "another label, or another --out."
                )
            model = outline(copy)
            shapes[name] = (model.config, model.history)
    first, *others = shapes.items()
    for name, shape in others:
        if shape != first[1]:
            raise SystemExit(f"{name} is not of the shape of {first[0]}: they are not compared.")
    model, history = first[1]
    if model.is_baseline:
        raise SystemExit(f"{first[0]} is a {model.baseline.kind}, not a transformer.")
    return model, history


def score_as_it_is(place: Place, label: str) -> None:
    """Score a pretrained model on a system that it was not fine-tuned on, unless it lacks a
    variable: then say so."""
    key = Key(place.system, 0, f"{ZERO_SHOT} {label}", "steps", 0, 0.0, 0)
    like = replace(key, line="scratch", number=1, steps=1)
    cell = replace(place.cell(like), name=key.name, parent=label)
    if is_done(cell, place.out):
        return
    model = from_pretrained(folder_of(place.out, f"{MODELS}/{label}") / "run")
    known = {variable.name for spec in model.specs.values() for variable in spec.variables}
    lacks = [v.name for v in place.opened.fields.spec.variables if v.name not in known]
    folder = folder_of(place.out, key.name)
    if lacks:
        print(f"{place.system}: no zero-shot, {label} does not know {', '.join(lacks)}", flush=True)
        return
    with one_thread():
        result = score_cell(cell, model, folder)
    outcome = Outcome(
        cell=key.name,
        point=key.line,
        system=place.system,
        budget=key.budget,
        seed=0,
        steps=0,
        operations=0.0,
        settings=plain(cell.settings),
        **result,
    )
    outcome.save(folder / RECORD)
    remove(folder / "results" / "examples")


def choose(
    place: Place, number: int, lines: Sequence[str], args: argparse.Namespace
) -> dict[str, float]:
    """The rate of each line: kept, or the best of some trials by the validation trajectories."""
    path = place.out / "choices.json"
    choices, names = read_json(path), {o: f"{place.system}/{number}/{o}" for o in lines}
    left = [one for one in lines if one != "stencil" and names[one] not in choices]
    rates = {one: first_rates(METHODS[method_of(one)].lr) for one in left}
    while left:
        keys = {
            one: [
                Key(place.system, number, one, "steps", args.trial_steps, rate, SEED)
                for rate in rates[one]
            ]
            for one in left
        }
        made = make(place, [key for some in keys.values() for key in some], args.jobs)
        for one in [*left]:
            tried = {key.rate: made[key].valid for key in keys[one]}
            more = beyond(tried)
            if more is not None:
                rates[one] = sorted([*rates[one], more])
                continue
            best = min(tried, key=lambda rate: tried[rate])
            told = {f"{rate:g}": error for rate, error in tried.items()}
            choices[names[one]] = {"chosen": best, "tried": told, "steps": args.trial_steps}
            write_text(path, to_json(choices, indent=1))
            print(f"{names[one]}: rate {best:g} of {told}", flush=True)
            left.remove(one)
    return {one: choices[names[one]]["chosen"] if one != "stencil" else 0.0 for one in lines}


def first_rates(middle: float) -> list[float]:
    """The three rates that are tried first."""
    return [rounded(middle / APART), middle, rounded(middle * APART)]


def rounded(rate: float) -> float:
    """A rate in two digits, as names of files have it."""
    return float(f"{rate:.2g}")


def beyond(tried: dict[float, float]) -> float | None:
    """The next rate to try: that beyond the best, where the best is at an end; None where it is
    not, or enough were tried. Where all diverged that is the lower end."""
    rates = sorted(tried)
    best = min(rates, key=lambda rate: tried[rate])
    if len(rates) >= 3 + MORE or best not in (rates[0], rates[-1]):
        return None
    return rounded(best / APART if best == rates[0] else best * APART)


def keys_of(
    place: Place, number: int, rates: dict[str, float], seed: int, args: argparse.Namespace
) -> list[Key]:
    """The trainings of one seed on so many trajectories of a system."""
    keys = []
    for line, rate in rates.items():
        if line == "stencil":
            keys.append(Key(place.system, number, line, "steps", 1, 0.0, seed))
            continue
        for budget in args.budgets:
            if budget == "steps" or METHODS[method_of(line)].kind != "none":
                keys += [
                    Key(place.system, number, line, budget, steps, rate, seed)
                    for steps in args.steps
                ]
    return keys


def make(place: Place, keys: Sequence[Key], jobs: int) -> dict[Key, Outcome]:
    """The outcomes of trainings; those that are not there are made."""

    def watch(done: Done) -> None:
        folder = folder_of(place.out, done.cell)
        remove(folder / "run" / "model")  # thousands of them would fill a disk
        outcome = Outcome.load(folder / RECORD)
        errors = done.failed or " / ".join(f"{outcome.error(lead):.4f}" for lead in (0, -1))
        left = duration(done.seconds_left)
        print(f"  {done.number}/{done.of} {done.cell}: {errors}; {left} left here", flush=True)

    outcomes = run_cells([place.cell(key) for key in keys], place.out, jobs, watch)
    return dict(zip(keys, outcomes, strict=True))


def told_split(place: Place) -> str:
    """Which trajectories of a system are for what."""
    split = {part: len(files) for part, files in place.files.items()}
    which = "from the seed's on" if place.rotates else "the first, for every seed"
    return (
        f"{place.system}: {split['train']} trajectories to train on ({which}), {split['valid']} to "
        f"choose by, {split['test']} to test on"
    )


def told_plan(args: argparse.Namespace, places: Sequence[Place], lines: Sequence[str]) -> str:
    """How many trainings are missing, and the CPU time of their steps."""
    choices, missing, seconds, every = read_json(Path(args.out) / "choices.json"), 0, 0.0, 0
    for place in places:
        for number in args.trajectories:
            chosen = {}
            for line in lines:
                choice = choices.get(f"{place.system}/{number}/{line}")
                chosen[line] = choice["chosen"] if choice else 0.0
                if not choice and line != "stencil":
                    missing, every = missing + 3, every + 3
                    once, each = place.cost(line)
                    seconds += 3 * (once + args.trial_steps * each)
            for seed in args.seeds:
                for key in keys_of(place, number, chosen, seed, args):
                    every += 1
                    if not (folder_of(place.out, key.name) / RECORD).exists():
                        missing += 1
                        if key.line != "stencil":
                            once, each = place.cost(key.line)
                            seconds += once + place.steps(key) * each
    return (
        f"{missing} of {every} trainings are missing, the trials of rates among them; they "
        f"take about {duration(seconds)} of one core, besides their scores"
    )


if __name__ == "__main__":
    main()
