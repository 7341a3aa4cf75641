"""The plan of a fine-tuning, from names and shapes of weights and a few windows of the data.

No weight is made or read, no run folder written, no step taken. All that is computed is one matrix
product, for the rate of the device.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from matey.config import RateConfig, RunConfig
from matey.cost.forecast import Forecast, check_grids, forecast, largest_batch
from matey.cost.machine import TYPICAL, free_memory, measure_peak
from matey.data.mixture import system_weights
from matey.data.systems import System, open_systems
from matey.device import choose_device
from matey.fields import SystemSpec
from matey.nn.adapters.low_rank import choose_weights, hold_unused
from matey.nn.compatibility import differences, doubts
from matey.nn.folder import outline
from matey.nn.surrogate import Surrogate
from matey.nn.transformer import Matey
from matey.train.finetune import adapt, parent_name
from matey.train.optim import check_rates, group_of

Origin = Literal["checkpoint", "new", "left out"]

# The kind of a weight by its name, with the name of its patch size, variable or parameter.
PARTS = {
    r".*_adapter\.(?:up|down)$": "adapters",
    r"blocks\.": "blocks",
    r"(?:tokenizer\.(?:en|de)coders|local\.ends)\.([^.]+)": "patches",
    r"(?:tokenizer|local\.paths\.\d)\.(?:in|out)puts\.vectors\.(.+)_$": "variables",
    r"local\.paths\.": "local path",
    r"(?:stencils\.weights|usual\.logs)\.(.+)_$": "stencils and usual sizes",
    r"conditioning\.names\.vectors\.(.+)_$": "parameters",
    r"conditioning\.noise\.": "noise of members",
    r"conditioning\.": "lead time and parameters",
    r"position\.": "position",
    r"norm\.": "last norm",
}


@dataclass(frozen=True)
class Part:
    """Weights of one kind and origin: their count, whether they train, and their `group` in
    `optim.rates` with its `rate`."""

    kind: str
    names: tuple[str, ...]
    numbers: int
    origin: Origin
    trains: bool
    group: str
    rate: float


@dataclass(frozen=True)
class TuningPlan:
    """What `finetune` will do.

    `validates` says whether there is anything to validate on. `notes` are sentences on what is new
    to the model. `windows` are those to train on, by system. `batch` is the largest that fits, None
    where batches are made by their tokens or system by system. `operations` are those of the whole
    training, `seconds` their time at the `share` of the device's `peak` that steps typically reach:
    an estimate, without validation.
    """

    source: str
    config: RunConfig
    validates: bool
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
        """Count the weights of an origin (none: all of the new model), those that train or not."""
        return sum(
            part.numbers
            for part in self.parts
            if (part.origin != "left out" if origin is None else part.origin == origin)
            and (trains is None or part.trains == trains)
        )


def plan_tuning(pretrained: Path, config: RunConfig) -> TuningPlan:
    """Plan the fine-tuning of a model. Raises the errors that `finetune` would raise before its
    first step, but for memory."""
    old = outline(pretrained)
    with torch.device("meta"):
        model = adapt(old, config)
        choose_weights(model, config.mode, config.rank, old.state_dict())
    systems = open_systems(config.data)
    check_grids(config.model, systems)
    windows = {name: s.windows("train", config.windows) for name, s in systems.items()}
    specs = [group.spec for group in windows.values()]
    with torch.device("meta"):
        model.add_systems(specs)
        hold_unused(model, [model.unused(spec) for spec in specs])
    check_rates(model, config.optim.rates)
    device = choose_device(config.device)
    free = free_memory(device.type)
    forecasts = forecast(model, config, windows, thresholds=())
    assert isinstance(model, Matey)
    counts = {name: len(group) for name, group in windows.items() if len(group)}
    mixture = config.mixture
    chosen = mixture.tokens_per_batch is not None or set(windows) <= set(mixture.batch)
    return TuningPlan(
        source=parent_name(pretrained),
        config=config,
        validates=can_validate(config, systems),
        parts=parts(old, model, config.optim.rates),
        notes=notes(old, config, specs),
        windows=counts,
        forecasts=forecasts,
        free=free,
        batch=None if chosen else largest_batch(model, config, windows, free),
        operations=operations(config, forecasts, counts),
        peak=measure_peak(device, config.precision),
    )


def can_validate(config: RunConfig, systems: Mapping[str, System]) -> bool:
    """Whether any system has windows to validate on."""
    return any(len(system.windows("valid", config.windows)) for system in systems.values())


def parts(old: Surrogate, new: Surrogate, rates: RateConfig) -> list[Part]:
    """The weights of both models, by kind, origin, whether they train, and group."""
    before, after = dict(old.named_parameters()), dict(new.named_parameters())
    counts: dict[tuple[str, Origin, bool, str], Counter[str]] = {}
    for weight, values in {**before, **after}.items():
        origin: Origin = "left out" if weight not in after else "new"
        if weight in before and weight in after:
            origin = "checkpoint"
        match, kind = next((m, kind) for p, kind in PARTS.items() if (m := re.match(p, weight)))
        name = "".join(match.groups())
        trains = origin != "left out" and values.requires_grad
        group = group_of(weight) if trains else ""
        by_name = counts.setdefault((kind, origin, trains, group), Counter())
        by_name[name.replace("x", " × ") if kind == "patches" else name] += values.numel()
    order = list(PARTS.values())
    return [
        Part(
            kind,
            tuple(filter(None, by_name)),
            by_name.total(),
            origin,
            trains,
            group,
            getattr(rates, group, 0.0),
        )
        for (kind, origin, trains, group), by_name in sorted(
            counts.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        )
    ]


def notes(old: Surrogate, config: RunConfig, specs: Sequence[SystemSpec]) -> list[str]:
    """What is new to the model in the data and the settings, a sentence each."""
    learned = list(old.specs.values())
    said = []
    for spec in specs:
        unsure = list(doubts(spec, learned))
        if spec.name not in old.specs and not unsure:
            said.append(f"System {spec.name!r} is new. Known: {', '.join(old.specs)}.")
        if spec.ndim not in {system.ndim for system in learned}:
            said.append(f"System {spec.name!r} has {spec.ndim} dimensions, which is new.")
        said += [*unsure, *differences(spec, learned)]
    if config.windows.history != old.history:
        said.append(f"History is {config.windows.history} frames, and was {old.history}.")
    for name in ("mode", "patches", "band"):
        was, now = getattr(old.config, name), getattr(config.model, name)
        if was != now:
            said.append(f"model.{name} is {now}, and was {was}: old systems are cut otherwise.")
    first, last = config.windows.min_lead, config.windows.max_lead
    least, most = old.trained_leads or (first, last)
    if first < least or most < last:
        said.append(f"Lead times are {first} to {last} dt, and were {least:g} to {most:g}.")
    return said


def operations(
    config: RunConfig, forecasts: Sequence[Forecast], windows: Mapping[str, int]
) -> float:
    """Floating-point operations of the training, systems weighed as the mixture does."""
    weights = system_weights({f.system: windows[f.system] for f in forecasts}, config.mixture)
    pairs = zip(weights, forecasts, strict=True)
    of_step = sum(weight * one.operations for weight, one in pairs)
    return float(config.steps * config.accumulate * of_step)
