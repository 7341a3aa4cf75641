"""What fine-tuning will do, before it does anything.

Only names and shapes of weights are looked at, and a few windows of the data: no weight is
made or read, no run folder written, no step taken. All that is computed is one matrix product,
for the rate of the device.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from matey.config import RunConfig
from matey.data.mixture import open_systems, system_weights
from matey.fields import SystemSpec
from matey.nn.contract import differences, doubts
from matey.nn.pretrained import choose_device, outline
from matey.nn.surrogate import Surrogate
from matey.train.finetune import adapt, parent_name
from matey.train.forecast import Forecast, check_grids, forecast_run, largest_batch
from matey.train.room import free_memory
from matey.train.speed import TYPICAL, measure_peak

Origin = Literal["checkpoint", "new", "left out"]

# Which part of the model a weight belongs to, by its name, and what it is called there.
PARTS = {
    r"blocks\.": "blocks",
    r"tokenizer\.(?:en|de)coders\.([^.]+)": "patches",
    r"tokenizer\.(?:in|out)puts\.vectors\.(.+)_$": "variables",
    r"conditioning\.names\.vectors\.(.+)_$": "parameters",
    r"conditioning\.": "lead time and parameters",
    r"position\.": "position",
    r"norm\.": "last norm",
}


@dataclass(frozen=True)
class Part:
    """Weights of one kind and origin: how many numbers they are, and whether they train."""

    kind: str
    names: tuple[str, ...]
    numbers: int
    origin: Origin
    trains: bool


@dataclass(frozen=True)
class TuningPlan:
    """What `finetune` will do.

    `notes` are sentences on what differs from what the model was trained on. `windows` are those
    to train on, by system. `batch` is the largest that fits, None where batches are made by their
    tokens. `operations` are those of the whole training, `seconds` what they take at the share
    of the device's `peak` that steps typically reach: an estimate, without validation.
    """

    source: str
    config: RunConfig
    parts: list[Part]
    notes: list[str]
    windows: dict[str, int]
    forecasts: list[Forecast]
    free: int | None
    batch: int | None
    operations: float
    peak: float

    @property
    def share(self) -> float:
        """The fraction of the peak that steps typically reach."""
        return TYPICAL[self.config.precision]

    @property
    def seconds(self) -> float:
        """How long the steps will take, by estimate."""
        return self.operations / (self.peak * self.share)

    def numbers(self, origin: Origin | None = None, trains: bool | None = None) -> int:
        """How many numbers the weights of an origin are, and of those that train or do not.

        Without an origin, all that the model will have.
        """
        return sum(
            part.numbers
            for part in self.parts
            if (part.origin != "left out" if origin is None else part.origin == origin)
            and (trains is None or part.trains == trains)
        )


def plan_tuning(pretrained: Path, config: RunConfig) -> TuningPlan:
    """Look at a model and at the data, and say what training it further will mean.

    Raises the errors that `finetune` would raise before its first step, but for memory.
    """
    old = outline(pretrained)
    with torch.device("meta"):
        model = adapt(old, config)
    systems = open_systems(config.data)
    check_grids(config.model, systems)
    known = list(old.specs.values())
    windows = {name: s.windows("train", config.windows) for name, s in systems.items()}
    specs = [group.spec for group in windows.values()]
    with torch.device("meta"):
        model.add_systems(specs)
    model.blocks.requires_grad_(config.trains_blocks)
    device = choose_device(config.device)
    free = free_memory(device.type)
    found = forecast_run(config, systems, known, thresholds=())
    counts = {name: len(group) for name, group in windows.items() if len(group)}
    by_tokens = config.mixture.tokens_per_batch is not None
    return TuningPlan(
        source=parent_name(pretrained),
        config=config,
        parts=parts(old, model),
        notes=notes(old, config, specs),
        windows=counts,
        forecasts=found,
        free=free,
        batch=None if by_tokens else largest_batch(config, systems, free, known),
        operations=operations(config, found, counts),
        peak=measure_peak(device, getattr(torch, config.precision)),
    )


def parts(old: Surrogate, new: Surrogate) -> list[Part]:
    """The weights of both models, by kind, origin and whether they train."""
    before = dict(old.named_parameters())
    after = dict(new.named_parameters())
    numbers: Counter[tuple[str, Origin, bool]] = Counter()
    names: dict[tuple[str, Origin, bool], dict[str, None]] = {}
    for name, weight in {**before, **after}.items():
        origin: Origin = "left out" if name not in after else "new"
        if name in before and name in after:
            origin = "checkpoint"
        kind, own = named(name)
        key = (kind, origin, origin != "left out" and weight.requires_grad)
        numbers[key] += weight.numel()
        names.setdefault(key, {}).update(dict.fromkeys(own))
    order = list(PARTS.values())
    return [
        Part(kind, tuple(names[kind, origin, trains]), count, origin, trains)
        for (kind, origin, trains), count in sorted(
            numbers.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        )
    ]


def named(weight: str) -> tuple[str, list[str]]:
    """The kind of a weight, and the name that it has among those of its kind."""
    for pattern, kind in PARTS.items():
        found = re.match(pattern, weight)
        if found:
            return kind, [
                name.replace("x", " × ") if kind == "patches" else name for name in found.groups()
            ]
    raise KeyError(weight)


def notes(old: Surrogate, config: RunConfig, specs: Sequence[SystemSpec]) -> list[str]:
    """What differs from what the model was trained on, a sentence each."""
    known = list(old.specs.values())
    said = []
    for spec in specs:
        unsure = list(doubts(spec, known))
        if spec.name not in old.specs and not unsure:
            said.append(f"System {spec.name!r} is new. Known: {', '.join(old.specs)}.")
        if spec.ndim not in {system.ndim for system in known}:
            said.append(f"System {spec.name!r} has {spec.ndim} dimensions, which is new.")
        said += [*unsure, *differences(spec, known)]
    if config.windows.history != old.history:
        said.append(f"History is {config.windows.history} frames, and was {old.history}.")
    for name in ("mode", "patches", "band"):
        was, now = getattr(old.config, name), getattr(config.model, name)
        if was != now:
            said.append(f"model.{name} is {now}, and was {was}: old systems are cut otherwise.")
    leads = (config.windows.min_lead, config.windows.max_lead)
    if old.trained_leads is not None and not (
        old.trained_leads[0] <= leads[0] and leads[1] <= old.trained_leads[1]
    ):
        least, most = old.trained_leads
        said.append(f"Lead times are {leads[0]} to {leads[1]} dt, and were {least:g} to {most:g}.")
    return said


def operations(config: RunConfig, found: Sequence[Forecast], windows: Mapping[str, int]) -> float:
    """Floating-point operations of the training, systems weighed as the mixture does.

    Of up to `pushforward` forward passes before a step half are taken on average, and as many
    whole steps where the rollout is learned from.
    """
    weights = system_weights([windows[one.system] for one in found], config.mixture)
    before, learns = config.windows.pushforward / 2, config.windows.learn_rollout
    of_step = sum(
        weight * (one.cost.operations + before * (one.cost.operations if learns else forward(one)))
        for weight, one in zip(weights, found, strict=True)
    )
    return float(config.steps * config.accumulate * of_step)


def forward(one: Forecast) -> int:
    """Operations of a forward pass."""
    return sum(one.cost.forward.values())
