"""Run the study of scalability, and write its page and tables."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

import matey
from matey.device import choose_device
from matey.output import write_text
from matey.records.study import STUDY_FILE, StudyPage
from matey.studies.engine import studying
from matey.studies.page import as_csv
from matey.studies.scalability.design import COARSE, FINE, MODEL, SCALES, VARIABLES, Reach, cases
from matey.studies.scalability.findings import judge
from matey.studies.scalability.measure import Row, count_case, fits, measure_case
from matey.studies.timing import processor

STUDY = "scalability"
COUNTED = ("model", "dimensions", "side", "history", "tokens", "operations", "step_bytes")
TIMED = ("step_seconds", "inference_seconds", "step_measured", "inference_measured")


def run(scale: str, out: Path, device: str, tell: Callable[[str], None]) -> StudyPage:
    """Count every case, measure those that fit, and write page and tables into `out`.

    `counted.csv` is the same whenever the study is made; `timing.csv` is of this machine.
    """
    reach = SCALES[scale]
    with studying(out, {"study": STUDY, "scale": scale}):
        rows = []
        for case in cases(reach):
            row = count_case(case)
            if fits(row, reach):
                tell(f"measuring {case.name}, {case.place}")
                row = measure_case(row, reach, device)
            rows.append(row)
        page = StudyPage(
            **vars(judge(rows, reach)), study=STUDY, scale=scale, facts=facts(reach, device)
        )
        write_tables(out, rows)
        page.save(out / STUDY_FILE)
    return page


def write_tables(out: Path, rows: list[Row]) -> None:
    """Write what was counted, and what was measured."""
    write_text(
        out / "counted.csv", as_csv([[*COUNTED, "inference_bytes"], *(r.counted() for r in rows)])
    )
    times = [
        [*row.counted()[:4], *(getattr(row, name) for name in TIMED)] for row in rows if row.timed
    ]
    write_text(out / "timing.csv", as_csv([[*COUNTED[:4], *TIMED], *times]))


def facts(reach: Reach, device: str) -> tuple[tuple[str, str], ...]:
    """How the study was made, for its page."""
    return (
        (
            "Field",
            f"{VARIABLES} variables that are a circle or a ball, whose surface is two grid points "
            "thick and moves by one a frame: as sharp as the grid allows",
        ),
        (
            "Model",
            f"{MODEL.depth} blocks of width {MODEL.embed_dim}; uniform patches of {FINE}, or "
            f"Adap_Mix of {COARSE} with {FINE} by the change, bulk 0.9",
        ),
        (
            "Measured",
            f"on one thread, cases of at most {reach.most:.2g} operations and "
            f"{reach.room / 1e9:.2g} GB a step; the median of {reach.turns} turns",
        ),
        ("Machine", processor(choose_device(device))),
        ("Made with", f"matey {matey.__version__}, torch {torch.__version__}"),
        ("Written", time.strftime("%Y-%m-%d")),
    )
