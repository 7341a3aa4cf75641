"""The data config that `matey data inspect` drafts for what it found."""

import os
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from matey.config import DataConfig, SourceConfig, SplitConfig
from matey.data.formats.files import shown
from matey.data.inspect import Inspection, SystemReport, inspect
from matey.errors import DataError


def data_config(*paths: str | Path) -> DataConfig:
    """What to train on, drafted by looking through files, folders or patterns.

    The same as `matey data inspect --write` and `--data` on the command line. Of files in a layout
    that no reader knows, what was assumed is logged: correct it in `systems[i].layout`.
    Raises DataError if training would be refused.
    """
    inspection = inspect(paths)
    if inspection.refused:
        raise DataError(inspection.refused[0])
    sources = [
        SourceConfig(
            system.name,
            tuple(map(str, system.paths)),
            "allow" if system.uneven == "allow" else "refuse",
            layout=system.described,
            mask=system.mask,
            split=system.split,
            join=system.join,
            duplicates=system.duplicates,
        )
        for system in inspection.systems
    ]
    return DataConfig(tuple(sources), inspection.split)


def config_text(inspection: Inspection, folder: Path) -> str:
    """A data config in YAML for a file in `folder`: what `matey train --data` takes.

    Paths below the folder are relative, so that both can be moved together. What training would
    refuse is marked: it has to be mended first. Raises DataError if no system could be opened.
    """
    if not inspection.systems:
        raise DataError(f"No data config is written: {inspection.refused[0]}")
    lines = ["# Drafted by `matey data inspect`. Use: matey train --data THIS_FILE ..."]
    lines += [f"# REFUSED: {shown(text)}" for text in inspection.refused]
    lines.append("systems:")
    for system in inspection.systems:
        lines += [f"  # {shown(line)}" for line in describe(system)]
        lines += [f"  - name: {quoted(system.name)}", "    paths:"]
        lines += [f"      - {quoted(relative(path, folder))}" for path in system.paths]
        if system.uneven == "allow":
            lines.append("    uneven: allow  # lead times are elapsed times")
        if system.uneven == "ask":
            lines.append(
                "    # DOUBT: times are uneven. Mend them, or take elapsed times as lead times:"
            )
            lines.append("    # uneven: allow")
        if system.mask:
            lines.append(f"    mask: {quoted(system.mask)}  # points without values, as land")
        if system.split is not None:
            lines += ["    split:", *(f"    {line}" for line in split_lines(system.split))]
        if system.join:
            lines.append(
                f"    join: {joining(system.join)}  # files, groups or datasets are one run"
            )
        if system.duplicates == "drop":
            lines.append("    duplicates: drop  # frames that stand twice are taken once")
        if system.described is not None:
            lines += ["    # Drafted by looking at the file: check it."]
            lines += [f"    # Assumed: {shown(text)}." for text in system.assumptions]
            lines += marked(indented({"layout": settings(system.described)}, 4))
    lines += ["# Files that come divided keep their division.", "split:"]
    lines += split_lines(inspection.split)
    return "\n".join(lines) + "\n"


def split_lines(split: SplitConfig) -> list[str]:
    """How the data are divided, with what it means."""
    if split.by == "time":
        return [
            "  by: time  # a single long run: train on its beginning, test on its end",
            f"  valid: {split.valid}  # fractions of the frames",
            f"  test: {split.test}",
            f"  gap: {split.gap}  # frames left out between them",
        ]
    if not split.valid + split.test:
        return [
            "  valid: 0  # a single run, too short to be divided: train on all of it",
            "  test: 0",
        ]
    lines = [f"  {key}: {getattr(split, key)}" for key in ("valid", "test", "seed")]
    lines[0] += "  # fractions of the trajectories"
    return lines


def describe(system: SystemReport) -> list[str]:
    """A system in a few lines: sizes, variables, parameters."""
    shapes = ", ".join("x".join(map(str, shape)) for shape in system.shapes)
    frames = ", ".join(map(str, sorted(system.frames)))
    parameters = ", ".join(
        f"{name} {low:.6g}" if low == high else f"{name} {low:.6g} to {high:.6g}"
        for name, (low, high) in system.parameters.items()
    )
    sides = ", ".join(f"{axis} {kind}" for axis, kind in system.boundaries.items())
    lines = [
        f"{system.layout}, {system.spec.ndim}D: {system.trajectories} trajectories of {frames} "
        f"frames on {shapes} ({', '.join(system.axes)}), dt {system.spec.dt:.6g}",
        f"variables: {', '.join(variable.name for variable in system.spec.variables)}",
        f"boundaries: {sides}; parameters: {parameters or 'none'}",
    ]
    if system.splits:
        divided = ", ".join(f"{count} {name}" for name, count in system.splits.items())
        lines.append(f"comes divided: {divided}")
    return lines


def joining(join: tuple[str, ...]) -> str:
    """The ways of joining files, as YAML."""
    return join[0] if len(join) == 1 else f"[{', '.join(join)}]"


def marked(lines: list[str]) -> list[str]:
    """The lines of a layout, with a mark at its doubts."""
    place = next((i for i, line in enumerate(lines) if line.lstrip().startswith("doubts:")), None)
    if place is None:
        return lines
    mark = (
        "      # DOUBT: decide this, mend the lines above, then delete `doubts`: nothing is trained"
    )
    return [*lines[:place], mark, "      # on before.", *lines[place:]]


def relative(path: Path, folder: Path) -> str:
    """The path from the folder if it lies below it, else the absolute path."""
    folder = Path(os.path.abspath(folder))
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def quoted(text: str) -> str:
    """Text as a YAML value on one line."""
    return yaml.safe_dump(text, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def settings(value: Any) -> Any:
    """A config dataclass as plain data, without what stands at its default."""
    if is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for field in fields(value):
            setting = getattr(value, field.name)
            usual = field.default if field.default_factory is MISSING else field.default_factory()
            if setting != usual:
                plain[field.name] = settings(setting)
        return plain
    if isinstance(value, tuple):
        return [settings(item) for item in value]
    return value


def indented(data: Any, spaces: int) -> list[str]:
    """Plain data as lines of YAML."""
    text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False, default_flow_style=None)
    return [" " * spaces + line for line in text.splitlines()]
