"""Puts the tables of result files onto the pages, between the marks that name them.

    python benchmarks/processes.py
    python benchmarks/gpu.py
    python docs/tables.py

Modelled tables are of what `matey benchmark scaling --json` prints, by the commands on
docs/scaling.md, in benchmarks/results/modelled_2d.json and modelled_3d.json.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matey.output import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
PAGES = ("docs/scaling.md", "docs/performance.md")
MARK = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->\n", re.DOTALL)
LIMITS = {
    "gradients": "gradients' sum",
    "gathers": "FSDP's gathers",
    "exchange": "exchange",
    "ring": "ring",
}
CLOCKS = {
    "wall": "by the clock on the wall",
    "cpu": "in seconds of each process's own processor, since other work ran beside: waiting for "
    "the other process is not in it",
}


def filled(text: str) -> str:
    """A page with each of its tables made anew."""
    return MARK.sub(
        lambda match: f"<!-- table: {match[1]} -->\n\n{TABLES[match[1]]()}\n<!-- end -->\n", text
    )


def read(name: str) -> dict[str, Any] | None:
    """A result file, if it is there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- ", "|---")


def short(value: Any) -> str:
    """A value to three digits; nothing where there is none."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def pair() -> str:
    """Two processes, measured and modelled."""
    content = read("processes")
    if content is None:
        return "Not measured yet.\n"
    machine, settings = content["machine"], content["settings"]
    rows = content["rows"]
    off = [abs(row["modelled / measured"] - 1) for row in rows]
    close = sum(one <= 0.2 for one in off)
    head = (
        f"Measured on {machine['date']}: {machine['device']}, torch {machine['torch']}; "
        f"{settings['repeats']} rounds, {CLOCKS[settings['clock']]}; {settings['load']:.1f} other "
        f"programs ran on average in the minute before. The model is within 20 % of {close} of the "
        f"{len(rows)} measured steps, and at most {max(off):.0%} off.\n\n"
    )
    headings = ["Tokens a frame", "How", "Scaling", "GFLOP", "Sent MB", "One ms", "Two ms"]
    headings += ["Modelled ms", "Modelled / measured", "Speed-up", "Modelled", "Spread"]
    keys = ["case", "kind", "scaling", "GFLOP", "sent MB", "alone ms", "pair ms", "modelled ms"]
    keys += ["modelled / measured", "speed-up", "modelled speed-up"]
    lines = [
        [short(row[key]).removesuffix(" tokens") for key in keys] + [f"{row['spread']:.0%}"]
        for row in rows
    ]
    return head + table(headings, lines)


def modelled(name: str) -> str:
    """Modelled steps on many GPUs: of each size, grid and number, every way to share the work."""
    content = read(name)
    if content is None:
        return "Not modelled yet.\n"
    headings = ["Size", "Grid", "Tokens", "TFLOP", "GPUs", "How", "Sent GB", "Compute ms"]
    headings += ["Sent ms", "Step ms", "Memory GB", "Useful", "Limit"]
    lines = []
    for work in content["works"]:
        grid = " × ".join(str(points) for points in work["grid"] if points > 1)
        for step in work["steps"]:
            parts = step["parallel"]["sequence"]
            lines.append(
                [
                    work["size"],
                    grid,
                    f"{work['tokens']:,}",
                    short(step["operations"] / 1e12),
                    f"{step['processes']:,}",
                    step["parallel"]["strategy"] if parts == 1 else f"sequence {parts}",
                    short(sum(step["sent"].values()) / 1e9),
                    short(1e3 * step["compute"]),
                    short(1e3 * sum(step["seconds"].values())),
                    short(1e3 * step["time"]),
                    short(step["memory"] / 1e9),
                    f"{step['efficiency']:.0%}",
                    LIMITS.get(step["limit"], step["limit"]),
                ]
            )
    return table(headings, lines)


def gpu() -> str:
    """What `benchmarks/gpu.py` found, part by part."""
    content = read("gpu")
    if content is None:
        return (
            "**Not run on a GPU yet.** Here will stand what it finds: until then nothing is "
            "claimed of speed, memory or correctness on one.\n"
        )
    found = []
    for name, part in content["parts"].items():
        machine, rows = part.get("machine", {}), part["rows"]
        found.append(
            f"### {name.capitalize()}\n\n{machine.get('device', 'No device')}, torch "
            f"{machine.get('torch', '-')}, {machine.get('date', '-')}: {part['ended']}, "
            f"{part.get('seconds', 0.0):.0f} s.\n\n"
        )
        if rows:
            keys = list(rows[0])
            lines = [[short(row.get(key)) for key in keys] for row in rows]
            found.append(table([f"{key[0].upper()}{key[1:]}" for key in keys], lines) + "\n")
    return "".join(found)


TABLES: dict[str, Callable[[], str]] = {
    "processes": pair,
    "modelled_2d": lambda: modelled("modelled_2d"),
    "modelled_3d": lambda: modelled("modelled_3d"),
    "gpu": gpu,
}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for page in PAGES:
        path = ROOT / page
        write_text(path, filled(path.read_text(encoding="utf-8")))
