"""What a pretrained model is worth, by all that `pretrained.py` has measured so far.

    python benchmarks/pretrained_table.py --out results/worth

Prints tables in Markdown, and writes them to `summary.md`, with all numbers in `summary.json`.
Ratios are of the errors of the same seed, which two methods share with the training trajectories
and the order of the batches: their geometric mean over seeds with its 95 % interval, by Student's
t. The best other model is the best on the test trajectories, seed by seed and lead by lead, which
favours it.

The steps that a method needs to the error that training from scratch ends with are read from its
trainings of several numbers of steps, each with its own schedule: between two of them by the
logarithms of steps and error, on a straight line. Where the shortest is good enough already they
are at most as many (≤), where the longest is not, more (>).
"""

import argparse
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accuracy import table

from matey.output import to_json, write_text
from matey.records.run import LOG
from matey.records.study import Outcome
from matey.studies.cells import folder_of
from matey.studies.design import slug
from matey.studies.page import brief
from matey.studies.page import ranged as with_interval
from matey.studies.statistics import Estimate, estimate, geometric, paired_ratio
from matey.words import plural

OTHERS = ("stencil", "FNO", "U-Net")
ORDER = ("zero-shot", "scratch", "full", "lora", "frozen", "control", *OTHERS)
LEADS = (0, -1)  # places of the first and the last step ahead
NAME = re.compile(r"(steps|cpu)(\d+)-(.+)-(\d+)")


@dataclass(frozen=True, order=True)
class Key:
    """One training: of a line (a method, with the label of the model that it starts from), on so
    many trajectories of a system, for so many steps of its own or, where the budget is `cpu`, as
    many as take the CPU time of so many steps of the transformer."""

    system: str
    number: int
    line: str
    budget: str
    steps: int
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """The cell's name, and the folder of its files."""
        last = f"{self.budget}{self.steps}-{self.rate:g}-{self.seed}"
        return f"{self.system}/{self.number}/{slug(self.line)}/{last}"


def key_of(name: str) -> Key:
    """The training of a cell's name."""
    system, number, line, last = name.split("/")
    found = NAME.fullmatch(last)
    assert found is not None
    budget, steps, rate, seed = found.groups()
    return Key(
        system, int(number), line.replace("_", " ", 1), budget, int(steps), float(rate), int(seed)
    )


def method_of(line: str) -> str:
    """The method of a line."""
    return line.partition(" ")[0]


def label_of(line: str) -> str:
    """The label of the model that a line starts from; empty for one that starts anew."""
    return line.partition(" ")[2]


def read(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none."""
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def weights_in(log: Path) -> int:
    """How many weights train, by the first line of a run's log; 0 where there is none."""
    lines = log.read_text().splitlines() if log.exists() else []
    return int(json.loads(lines[0]).get("parameters", 0)) if lines else 0


Errors = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Worth:
    """All that was measured: outcomes, choices of rates, what a step costs, and how many weights
    train, by system and line."""

    outcomes: Mapping[Key, Outcome]
    choices: Mapping[str, Any]
    costs: Mapping[str, Any]
    trained: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, out: Path) -> "Worth":
        """What is in a folder."""
        outcomes = [Outcome.load(path) for path in out.glob("cells/*/*/*/*/cell.json")]
        keyed = {key_of(one.cell): one for one in outcomes}
        logs = {
            f"{key.system}/{key.line}": folder_of(out, key.name) / "run" / LOG
            for key in sorted(keyed)
        }
        trained = {name: weights_in(log) for name, log in logs.items()}
        choices, costs = read(out / "choices.json"), read(out / "costs.json")
        return cls({key: keyed[key] for key in sorted(keyed)}, choices, costs, trained)

    @cached_property
    def chosen(self) -> dict[Key, Outcome]:
        """The outcomes with the rate that validation chose."""
        return {
            key: one
            for key, one in self.outcomes.items()
            if key.rate in (0.0, self.rate(key.system, key.number, key.line))
        }

    def rate(self, system: str, number: int, line: str) -> float:
        """The learning rate of a line; NaN where none is chosen yet."""
        choice = self.choices.get(f"{system}/{number}/{line}")
        return float(choice["chosen"]) if choice else math.nan

    @property
    def ahead(self) -> list[str]:
        """The first and the last lead, in words."""
        leads = next((one.leads for one in self.chosen.values() if one.leads), (1, 1))
        return [plural(leads[lead], "step") for lead in LEADS]

    def has(self, **wanted: Any) -> list[Key]:
        """The trainings with these fields."""
        return [k for k in self.chosen if all(getattr(k, n) == v for n, v in wanted.items())]

    @cached_property
    def grouped(self) -> dict[tuple[str, int, str, str, int], dict[int, Outcome]]:
        """The chosen outcomes of the seeds of each point."""
        groups: dict[tuple[str, int, str, str, int], dict[int, Outcome]] = {}
        for key, one in self.chosen.items():
            point = key.system, key.number, key.line, key.budget, key.steps
            groups.setdefault(point, {})[key.seed] = one
        return groups

    def outcomes_of(
        self, system: str, number: int, line: str, steps: int, budget: str = "steps"
    ) -> dict[int, Outcome]:
        """Outcomes by seed; a stencil and a model as it is have no steps of their own."""
        if line == "stencil":
            steps, budget = 1, "steps"
        if method_of(line) == "zero-shot":
            number, steps, budget = 0, 0, "steps"
        return self.grouped.get((system, number, line, budget, steps), {})

    def errors(
        self, system: str, number: int, line: str, steps: int, lead: int, budget: str = "steps"
    ) -> dict[int, float]:
        """Errors at a lead by seed; infinite where the training diverged."""
        found = self.outcomes_of(system, number, line, steps, budget)
        return {seed: one.error(lead) for seed, one in found.items()}

    def best_other(
        self, system: str, number: int, steps: int, lead: int, budget: str = "steps"
    ) -> tuple[str, Errors]:
        """The least error of the other models, seed by seed, and which ones there are."""
        lines = [one for one in OTHERS if self.outcomes_of(system, number, one, steps, budget)]
        if budget == "cpu" and lines == ["stencil"]:
            lines = []
        each = [self.errors(system, number, one, steps, lead, budget) for one in lines]
        seeds = set.intersection(*map(set, each)) if each else set()
        return ", ".join(lines), {seed: min(one[seed] for one in each) for seed in seeds}

    def cost(self, system: str, line: str) -> tuple[float, float]:
        """CPU seconds of a line's trainings once and per step; NaN where they are not measured."""
        once, each = self.costs.get(system, {}).get(kind_of(line), (math.nan, math.nan))
        return float(once), float(each)

    def seconds(self, system: str, line: str, steps: float) -> float:
        """CPU seconds of a training of so many steps."""
        once, each = self.cost(system, line)
        return once + steps * each


def kind_of(line: str) -> str:
    """What decides the cost of a line's step: one that trains all weights costs what it costs
    from scratch."""
    return {"full": "scratch", "control": "scratch"}.get(method_of(line), method_of(line))


def main() -> None:
    """Print and write what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="the folder of the results")
    print(summarise(Path(parser.parse_args().out)))


def summarise(out: Path) -> str:
    """Write the tables and their numbers, and give the tables."""
    worth = Worth.of(out)
    text = "\n\n".join(sections(worth))
    write_text(out / "summary.md", text + "\n")
    write_text(out / "summary.json", to_json(numbers(worth), indent=1))
    return text


def places(worth: Worth) -> list[tuple[str, int]]:
    """The systems and numbers of trajectories that something was trained on."""
    return sorted({(key.system, key.number) for key in worth.chosen if key.number})


def lines_at(worth: Worth, system: str, number: int) -> list[str]:
    """The lines there, in the order of `ORDER`, those of a method by their label."""
    lines = {key.line for key in worth.has(system=system) if key.number in (0, number)}
    return sorted(lines, key=lambda line: (ORDER.index(method_of(line)), amount(label_of(line))))


def amount(label: str) -> tuple[float, str]:
    """What labels are sorted by: their number, as in 3e14, or their name."""
    try:
        return float(label), label
    except ValueError:
        return math.inf, label


def budgets(worth: Worth, system: str, number: int) -> list[int]:
    """The numbers of steps that something was trained for there."""
    keys = worth.has(system=system, number=number)
    return sorted({key.steps for key in keys if key.line != "stencil"})


Pair = tuple[Estimate, Estimate]  # at the first and the last lead


def ratios(worth: Worth, system: str, number: int) -> dict[str, dict[int, Pair]]:
    """Ratios of errors by what is compared, then by steps; those that can be formed."""
    lines = lines_at(worth, system, number)
    pairs: list[tuple[str, str]] = []
    for line in lines:
        method, label = method_of(line), label_of(line)
        if method in ("full", "zero-shot", "control"):
            pairs.append((line, "scratch"))
        if method in ("lora", "frozen"):
            pairs += [(line, f"full {label}"), (line, "scratch")]
        if method == "full" and f"control {label}" in lines:
            pairs.append((line, f"control {label}"))
    found: dict[str, dict[int, Pair]] = {}
    for steps in budgets(worth, system, number):
        for ours, theirs in pairs:
            rows = []
            for lead in LEADS:
                mine, other = (worth.errors(system, number, x, steps, lead) for x in (ours, theirs))
                if method_of(ours) == "zero-shot":  # which has no seed
                    mine = dict.fromkeys(other, *mine.values())
                rows.append(paired_ratio(mine, other))
            put_ratio(found, f"{ours} / {theirs}", steps, rows)
        for line in lines:
            if method_of(line) not in ("full", "scratch"):
                continue
            for budget, same in (("steps", ""), ("cpu", ", same CPU time")):
                rows = []
                for lead in LEADS:
                    names, best = worth.best_other(system, number, steps, lead, budget)
                    mine = worth.errors(system, number, line, steps, lead)
                    rows.append(paired_ratio(mine, best))
                put_ratio(found, f"{line} / best of {names}{same}", steps, rows)
    return found


def put_ratio(
    found: dict[str, dict[int, Pair]], name: str, steps: int, pair: Sequence[Estimate]
) -> None:
    """Add a ratio, if any seed has both of its errors."""
    if pair[0].count:
        found.setdefault(name, {})[steps] = (pair[0], pair[1])


@dataclass(frozen=True)
class Reach:
    """The steps that a line needs to the error that training from scratch ends with after `goal`
    steps, at a place among the leads, by seed; `sign` is ≤ or > where they are a bound."""

    line: str
    goal: int
    lead: int
    steps: Errors
    sign: str

    @property
    def needed(self) -> Estimate:
        """The mean number of steps."""
        return geometric(self.steps.values())

    @property
    def fewer(self) -> Estimate:
        """How many times fewer steps than from scratch."""
        return geometric(self.goal / steps for steps in self.steps.values())


def reaches(worth: Worth, system: str, number: int) -> list[Reach]:
    """What each line needs to each of the errors that training from scratch ends with."""
    ladder = budgets(worth, system, number)
    lines = [o for o in lines_at(worth, system, number) if o not in ("scratch", "stencil")]
    found = []
    for goal in ladder:
        for line in (one for one in lines if method_of(one) != "zero-shot"):
            for lead in LEADS:
                aims = worth.errors(system, number, "scratch", goal, lead)
                curves = {n: worth.errors(system, number, line, n, lead) for n in ladder}
                needed = {
                    seed: steps_to(
                        aim, {n: curve[seed] for n, curve in curves.items() if seed in curve}
                    )
                    for seed, aim in aims.items()
                    if math.isfinite(aim)
                }
                steps = {seed: one[0] for seed, one in needed.items() if one}
                signs = {one[1] for one in needed.values() if one} - {""}
                if steps:
                    sign = signs.pop() if len(signs) == 1 else "≤ or >" if signs else ""
                    found.append(Reach(line, goal, lead, steps, sign))
    return found


def steps_to(aim: float, curve: Mapping[int, float]) -> tuple[float, str] | None:
    """The steps to an error by the errors after several numbers of steps, and whether they are a
    bound; None where there are no errors."""
    before: tuple[int, float] | None = None
    for steps, error in sorted(curve.items()):
        if error <= aim:
            if before is None:
                return float(steps), "≤"
            share = 1.0
            if aim > 0 and 0 < error < before[1] < math.inf:
                share = math.log(before[1] / aim) / math.log(before[1] / error)
            return before[0] * (steps / before[0]) ** share, ""
        before = (steps, error)
    return (float(before[0]), ">") if before else None


def sections(worth: Worth) -> Iterator[str]:
    """The tables of each system and number of trajectories."""
    for system, number in places(worth):
        steps = budgets(worth, system, number)
        yield f"## {system}, {plural(number, 'trajectory')}"
        heads = [plural(n, "step") for n in steps]
        yield table(
            [f"NRMSE {' / '.join(worth.ahead)} ahead", *heads],
            error_rows(worth, system, number, steps),
        )
        rows = [
            [name, *(both(by_steps[n]) if n in by_steps else "" for n in steps)]
            for name, by_steps in ratios(worth, system, number).items()
        ]
        if rows:
            yield table(["Ratio, paired by seed", *heads], rows)
        rows = reach_rows(worth, system, number, steps)
        if rows:
            yield table(["Steps to the error of scratch after", *heads], rows)
        yield table(
            [
                "How it was trained",
                "seeds",
                "rate",
                "tried",
                "weights that train",
                "CPU s once, ms a step",
            ],
            training_rows(worth, system, number),
        )
    diverged = [f"- {key.name}: {one.failed}" for key, one in worth.chosen.items() if one.failed]
    if diverged:
        yield "## Failed\n\n" + "\n".join(diverged)


def ranged(value: Estimate) -> str:
    """A mean with its interval, if there are several seeds."""
    return brief(value.mean) if value.count == 1 else with_interval(value)


def both(pair: Pair) -> str:
    """A ratio at two leads."""
    return " / ".join(map(ranged, pair))


def error_rows(worth: Worth, system: str, number: int, steps: Sequence[int]) -> Iterator[list[str]]:
    """A row of errors for each line, and of the other models those for the same CPU time."""
    some = [worth.chosen[key] for key in worth.has(system=system) if worth.chosen[key].leads]
    if some:
        still = " / ".join(brief(some[0].persistence["nrmse"][lead]) for lead in LEADS)
        yield ["persistence", *[still] * len(steps)]
    for line in lines_at(worth, system, number):
        for budget, same in (("steps", ""), ("cpu", ", same CPU time")):
            if budget == "cpu" and not worth.has(
                system=system, number=number, line=line, budget="cpu"
            ):
                continue
            row = []
            for n in steps:
                each = [worth.errors(system, number, line, n, lead, budget) for lead in LEADS]
                row.append(both_errors(each) if each[0] else "")
            yield [line + same, *row]


def both_errors(each: Sequence[Errors]) -> str:
    """The mean error over seeds at two leads, with the interval."""
    return " / ".join(ranged(estimate(errors.values())) for errors in each)


def reach_rows(worth: Worth, system: str, number: int, steps: Sequence[int]) -> Iterator[list[str]]:
    """A row of steps for each line, and of times fewer steps and CPU seconds."""
    found = {(one.line, one.goal, one.lead): one for one in reaches(worth, system, number)}
    for line in dict.fromkeys(one[0] for one in found):
        for lead, ahead in zip(LEADS, worth.ahead, strict=True):
            row = []
            for goal in steps:
                one = found.get((line, goal, lead))
                row.append(told(worth, system, one) if one else "")
            yield [f"{line}, {ahead} ahead", *row]


def told(worth: Worth, system: str, one: Reach) -> str:
    """Steps, times fewer, and CPU seconds beside those from scratch."""
    sign = f"{one.sign} " if one.sign else ""
    fewer = {"≤": "≥ ", ">": "< "}.get(one.sign, sign)
    text = f"{sign}{brief(one.needed.mean)} steps, {fewer}{ranged(one.fewer)} times fewer"
    spent = worth.seconds(system, one.line, one.needed.mean)
    before = worth.seconds(system, "scratch", one.goal)
    known = math.isfinite(spent) and math.isfinite(before)
    return f"{text}; {sign}{brief(spent)} s, not {brief(before)} s" if known else text


def training_rows(worth: Worth, system: str, number: int) -> Iterator[list[str]]:
    """How each line was trained: seeds, the rate that was chosen, and the errors by which."""
    for line in lines_at(worth, system, number):
        keys = [k for k in worth.has(system=system, line=line) if k.number in (0, number)]
        choice = worth.choices.get(f"{system}/{number}/{line}", {})
        tried = ", ".join(
            f"{rate} {'–' if error is None else brief(error)}"
            for rate, error in choice.get("tried", {}).items()
        )
        once, each = worth.cost(system, line)
        trained = worth.trained.get(f"{system}/{line}", 0)
        yield [
            line,
            str(len({key.seed for key in keys})),
            f"{choice['chosen']:g}" if choice else "",
            tried,
            f"{trained:,} of {worth.chosen[keys[0]].parameters:,}",
            f"{once:.1f}, {1000 * each:.0f}" if math.isfinite(each) else "",
        ]


def numbers(worth: Worth) -> dict[str, Any]:
    """Every training that counts, the choices, the costs, and the numbers of the tables."""
    trainings = [
        {
            **asdict(key),
            "steps_taken": one.steps,
            "ahead": one.leads,
            "nrmse": one.errors["nrmse"],
            "persistence": one.persistence["nrmse"],
            "valid": one.valid,
            "diverged": one.diverged,
            "failed": one.failed,
        }
        for key, one in worth.chosen.items()
    ]
    compared = [
        {"system": system, "number": number, "ratio": name, "steps": steps}
        | {"first": asdict(pair[0]), "last": asdict(pair[1])}
        for system, number in places(worth)
        for name, by_steps in ratios(worth, system, number).items()
        for steps, pair in by_steps.items()
    ]
    reached = [
        {"system": system, "number": number, **asdict(one), "fewer": asdict(one.fewer)}
        for system, number in places(worth)
        for one in reaches(worth, system, number)
    ]
    return {
        "trainings": trainings,
        "ratios": compared,
        "steps_to_scratch": reached,
        "choices": dict(worth.choices),
        "costs": dict(worth.costs),
    }


if __name__ == "__main__":
    main()
