"""Compare data with what a model was trained on: units, time step, ranges, and names."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from matey.errors import DataError, nearest
from matey.fields import Boundary, Field, SystemSpec
from matey.metrics.extent import extents, sampling
from matey.nn.embed import Named
from matey.records.ranges import KEY, Outside, Ranges, compare, joined

ROUNDING = 1e-3  # of dt: a smaller difference is none
EVEN = 0.01  # of the step between grid points: a smaller difference is none
NOTHING: Mapping[str, Ranges] = MappingProxyType({})
WHOLE = 0.01  # by which the ratio of two steps may differ from a whole number: dt is rounded
ALIKE = 0.8  # difflib's ratio from which one name may be the other misspelt

log = logging.getLogger("matey")


def alike(spec: SystemSpec, learned: Iterable[SystemSpec]) -> list[SystemSpec]:
    """Of the systems `learned`, that of the same name; else those with the same variables."""
    systems, names = list(learned), {variable.name for variable in spec.variables}
    same = [s for s in systems if s.name == spec.name]
    return same or [s for s in systems if {v.name for v in s.variables} == names]


def differences(
    spec: SystemSpec, learned: Iterable[SystemSpec], ranges: Mapping[str, Ranges] = NOTHING
) -> Iterator[str]:
    """Units and time steps that differ from those of the systems `learned`, a sentence each;
    time steps only where `outside` is not told the `ranges` of them.

    Values are normalised: other units are no error, but amplitudes mean something else. A step of
    the model is as long as in training, whatever the data's dt.
    """
    systems = list(learned)
    for variable in spec.variables:
        units = {v.units for s in systems for v in s.variables if v.name == variable.name} - {""}
        if variable.units and units and variable.units not in units:
            yield (
                f"{variable.name} of system {spec.name!r} is in {variable.units!r}, but the model "
                f"was trained on it in {', '.join(map(repr, sorted(units)))}."
            )
    same = alike(spec, systems)
    told = [set(system.parameters) for system in same]
    if lacking := sorted(set.intersection(*told) - set(spec.parameters) if told else ()):
        yield (
            f"System {spec.name!r} was trained with {', '.join(lacking)}, which the data do not "
            "say: predictions are made without. Give a value as `parameters` of a data config "
            "(--data)."
        )
    if any(system.name in ranges for system in same):
        return
    if same and all(abs(s.dt - spec.dt) > ROUNDING * s.dt for s in same):
        steps = ", ".join(f"{dt:g}" for dt in sorted({s.dt for s in same}))
        yield (
            f"System {spec.name!r} has a dt of {spec.dt:g}, but the model was trained on {steps}: "
            "its steps are that long. Give it data at that dt, or fine-tune it."
        )


def stride_of(
    spec: SystemSpec, learned: Mapping[str, SystemSpec], ranges: Mapping[str, Ranges] = NOTHING
) -> int:
    """How many steps of the data make one of the model, which was trained on longer ones of the
    system; 1 where its `ranges` hold the data's dt, and where the ratio is no whole number."""
    trained = learned.get(spec.name)
    low, high = ranges.get(spec.name, {}).get("dt", {}).get("", (math.inf, math.inf))
    if trained is None or low * (1 - ROUNDING) <= spec.dt <= high * (1 + ROUNDING):
        return 1
    ratio = trained.dt / spec.dt
    return max(1, round(ratio)) if abs(ratio - round(ratio)) < WHOLE else 1


def differences_of_grid(
    field: Field, learned: Iterable[SystemSpec], facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Sides and spacing of a field that differ from those of training, a sentence each.

    `facts` are what a model knows of its data: `boundaries` and `spacing`, by system and axis.
    Spacing is left to `outside` where ranges of it are known.
    """
    grid, spec = field.grid, field.spec
    same = [system.name for system in alike(spec, learned)]
    ranged = [name for name in same if name in facts.get(KEY, {})]
    for place, axis in enumerate(grid.axes, start=3 - grid.ndim):
        sides = [Boundary(side).name.lower() for side in field.boundaries[place]]
        before = [facts.get("boundaries", {}).get(name, {}).get(axis) for name in same]
        if before and all(before) and sides not in before:
            trained = ", ".join("-".join(dict.fromkeys(each)) for each in before if each)
            yield (
                f"The sides of system {spec.name!r} along {axis} are "
                f"{'-'.join(dict.fromkeys(sides))}, but the model was trained on {trained} ones. "
                "Say what they are in `boundaries` of a data config (--data)."
            )
        steps = [facts.get("spacing", {}).get(name, {}).get(axis) for name in same]
        here = grid.spacing[place]
        if not ranged and steps and all(step and abs(step - here) > EVEN * step for step in steps):
            yield (
                f"Grid points of system {spec.name!r} along {axis} are {here:g} apart, but the "
                f"model was trained on {', '.join(f'{step:g}' for step in steps if step)}."
            )


def outside(
    history: Field, learned: Iterable[SystemSpec], ranges: Mapping[str, Ranges]
) -> list[Outside]:
    """What of a history lies outside the `ranges` of training, by system; nothing where those of
    its system are not known."""
    spec = history.spec
    known = [ranges[system.name] for system in alike(spec, learned) if system.name in ranges]
    if not known:
        return []
    setting = sampling(history.times, spec.dt, history.grid, history.parameters)
    units = {variable.name: variable.units for variable in spec.variables}
    return compare({**extents(history), **setting}, joined(known), units)


def warn_of_doubts(specs: Iterable[SystemSpec], learned: Iterable[SystemSpec]) -> None:
    """Warn of names in `specs` that may be misspelt names of the systems `learned`."""
    learned = list(learned)
    for spec in specs:
        for doubt in doubts(spec, learned):
            log.warning(doubt)


def doubts(spec: SystemSpec, learned: Iterable[SystemSpec]) -> Iterator[str]:
    """Names in a system that may be misspelt names of the systems `learned`, a sentence each."""
    systems = {system.name: system for system in learned}
    if spec.name not in systems:
        for alike in get_close_matches(spec.name, systems, n=1, cutoff=ALIKE):
            yield (
                f"System {spec.name!r} is new to the model. Did you mean {alike!r}? What it knows "
                "goes by the names of variables; the name of a system is for your records."
            )
    for kind, names, theirs in (
        ("Variable", [v.name for v in spec.variables], names_of(systems.values())),
        ("Parameter", list(spec.parameters), {p for s in systems.values() for p in s.parameters}),
    ):
        for name in names:
            # Components differ by their last letter: velocity_z is no misspelt velocity_x.
            others = [o for o in theirs - set(names) if o[-2:-1] != "_" or name[-2:-1] != "_"]
            close = get_close_matches(name, others, n=1, cutoff=ALIKE)
            if name not in theirs and close:
                yield (
                    f"{kind} {name!r} of system {spec.name!r} is new to the model, and gets "
                    f"weights of its own. Did you mean {close[0]!r}?"
                )


def names_of(systems: Iterable[SystemSpec]) -> set[str]:
    """The variables of some systems."""
    return {variable.name for system in systems for variable in system.variables}


def check_names(spec: SystemSpec, inputs: Named, outputs: Named) -> None:
    """Raise DataError unless there are weights to read and to predict a system's variables."""
    for variable in spec.variables:
        if variable.name not in inputs:
            raise DataError(
                f"System {spec.name!r} has variable {variable.name!r}, which the model was "
                f"never trained on. {nearest(variable.name, inputs.names())} "
                "Fine-tune it with `matey finetune` first."
            )
    for i in spec.predicted:
        if spec.variables[i].name not in outputs:
            raise DataError(
                f"The model was never trained to predict {spec.variables[i].name!r} of system "
                f"{spec.name!r}, only to read it. Fine-tune it with `matey finetune` first."
            )
