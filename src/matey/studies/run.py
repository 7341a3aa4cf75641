"""Plan a study, run it, and write its findings."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import matey
from matey.config import DataConfig, require
from matey.cost.forecast import mean_operations
from matey.data.systems import open_systems
from matey.device import choose_device
from matey.records.study import STUDY_FILE, Outcome, StudyPage, Timings
from matey.studies import scales
from matey.studies.attention import design as attention
from matey.studies.attention.findings import judge as judge_attention
from matey.studies.budgets import complete
from matey.studies.cells import Cell, folder_of, step_operations
from matey.studies.design import Design, Material, Scale, Study
from matey.studies.doubts import doubts
from matey.studies.engine import Watch, check_settings, repeat_cells, run_cells, studying
from matey.studies.page import write_tables
from matey.studies.price import Price, price
from matey.studies.systems import (
    check_patch,
    check_tiled,
    described,
    find_sources,
    is_missing,
    make_missing,
    probe_files,
    probe_recipe,
    tell_unused,
)
from matey.studies.timing import load_timings, measure_points, save_timings
from matey.studies.tokens import design as tokens
from matey.studies.tokens.findings import judge as judge_tokens
from matey.studies.transfer import design as transfer
from matey.studies.transfer.findings import judge as judge_transfer
from matey.words import listed, mean

STUDIES: dict[str, Study[Any]] = {
    "tokens": Study(scales.TOKENS, tokens.design, judge_tokens),
    "attention": Study(scales.ATTENTION, attention.design, judge_attention),
    "transfer": Study(scales.TRANSFER, transfer.design, judge_transfer),
}
APART = 0.1  # of the operations planned, from which on a point is named
SMOKE_NOTE = " At this scale it shows that everything runs: the verdicts mean nothing."


@dataclass(frozen=True)
class Request:
    """The study that a user asks for: with so many seeds, and only some of its systems, if these
    are given. Others may follow in the same folder."""

    study: str
    scale: str
    out: Path
    data: DataConfig
    seed: int = 0
    jobs: int = 1
    device: str = "auto"
    seeds: int | None = None
    systems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.jobs > 0, "jobs", self.jobs, "1 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")

    @property
    def size(self) -> Any:
        """Its scale. Raises ConfigError for a system that it does not have."""
        size = STUDIES[self.study].scales[self.scale]
        size = size.only(self.systems) if self.systems else size
        return replace(size, seeds=self.seeds or size.seeds)

    @property
    def settings(self) -> dict[str, object]:
        """The settings that tell this study from others."""
        return {"study": self.study, "scale": self.scale, "seed": self.seed, "data": self.data}


def plan(request: Request, tell: Callable[[str], None]) -> Price:
    """The cost of a study and what of it is there, from a few simulated frames where files are
    missing. Nothing is written.

    `tell` hears what is prepared. Raises ConfigError for a folder that holds another study.
    """
    study = STUDIES[request.study]
    check_settings(request.out, request.settings)
    tell_unused(request.size.recipes, request.data, tell)
    made = prepare(request, tell)
    design = complete(study.design(made.material), made.material.scale)
    return price(design, made.material, request.out, request.jobs, made.simulating)


@dataclass(frozen=True)
class Prepared:
    """What a design is drawn from, and the seconds that each missing system takes to simulate, as
    far as the first frames of one trajectory tell."""

    material: Material[Any]
    simulating: dict[str, float]


def prepare(request: Request, tell: Callable[[str], None]) -> Prepared:
    """Histories of the files that are there, or of a few frames that are simulated for it.

    Raises ConfigError for a system whose grid cannot be cut as the study needs it.
    """
    scale = request.size
    sources = find_sources(scale.recipes, request.data, request.out / "data")
    probes, simulating = {}, {}
    for recipe in scale.recipes:
        source = sources[recipe.name]
        if is_missing(source):
            tell(f"simulating {scale.history} frames of {recipe.name} to plan with")
            began = time.process_time()  # which other work on the machine does not change
            probes[recipe.name] = probe_recipe(recipe, scale.history)
            intervals = (recipe.frames - 1) / max(1, scale.history - 1) * recipe.trajectories
            simulating[recipe.name] = (time.process_time() - began) * intervals
        else:
            probes[recipe.name] = probe_files(source, scale.window_config)
        grid = probes[recipe.name].grid
        if scale.model.mode == "uniform":  # the scale has the patches, too
            check_tiled(source, grid, scale.model.patches[0])
        else:
            check_patch(source, grid, scale.tokens)
    material = Material(scale, sources, probes, request.seed, request.device)
    return Prepared(material, simulating)


def run(
    request: Request, tell: Callable[[str], None], priced: Callable[[Price], None], watch: Watch
) -> StudyPage:
    """Run a study, or what is left of it, and write its page, tables and timings.

    `tell` hears what is prepared, `priced` the cost before anything is made, `watch` of each cell.
    """
    study = STUDIES[request.study]
    with studying(request.out, request.settings):
        tell_unused(request.size.recipes, request.data, tell)
        made = prepare(request, tell)
        material = made.material
        design = complete(study.design(material), material.scale)
        priced(price(design, material, request.out, request.jobs, made.simulating))
        if any(is_missing(source) for source in material.sources.values()):
            make_missing(material.scale.recipes, material.sources, tell)
            material = prepare(request, tell).material
            design = complete(study.design(material), material.scale)
        outcomes = run_cells(design.cells, request.out, request.jobs, watch)
        timings = time_points(design, material, request.out, tell)
        findings = study.judge(material, outcomes, timings)
        findings = replace(findings, doubts=doubts(outcomes, material.scale))
        if request.scale == "smoke":
            findings = replace(findings, question=findings.question + SMOKE_NOTE)
        page = StudyPage(
            **vars(findings),
            study=request.study,
            scale=request.scale,
            facts=(*facts(material, design), *budget_kept(design.cells, outcomes, request.out)),
        )
        write_tables(request.out, outcomes, timings)
        page.save(request.out / STUDY_FILE)
    return page


def repeat(
    request: Request,
    number: int,
    tell: Callable[[str], None],
    watch: Callable[[str, list[str]], None],
) -> dict[str, list[str]]:
    """Make so many cells of a study again, and compare: `repeat_cells`."""
    with studying(request.out, request.settings):
        material = prepare(request, tell).material
        design = complete(STUDIES[request.study].design(material), material.scale)
        return repeat_cells(design.cells, request.out, number, watch)


def time_points(
    design: Design, material: Material[Any], out: Path, tell: Callable[[str], None]
) -> Timings:
    """The timing of every operating point: what is there already of the same points, which shows
    in their operations, and the rest."""
    timings = load_timings(out)
    for system, points in design.benches.items():
        source = next(iter(points.values())).data.systems[0].name
        probe = material.probes[source]
        operations = {
            name: mean_operations(config, probe.spec, probe.inputs)
            for name, config in points.items()
        }
        measured = {name: timing.operations for name, timing in timings.get(system, {}).items()}
        if measured == operations:
            continue
        tell(f"timing {system}")
        opened = open_systems(material.sources[source].data)[source]
        timings[system] = measure_points(points, operations, opened, material.scale.turns)
        save_timings(out, timings, choose_device(material.device))
    return timings


def budget_kept(
    cells: Sequence[Cell], outcomes: Sequence[Outcome], out: Path
) -> list[tuple[str, str]]:
    """What trainings took over what was planned from a few windows, and the points that are far
    from it, for the page; nothing where all diverged."""
    shares: dict[str, list[float]] = {}
    for cell, outcome in zip(cells, outcomes, strict=True):
        if outcome.failed:
            continue
        took = step_operations(folder_of(out, cell.name) / "run")
        name = f"{cell.system}: {cell.point} ({cell.budget})"
        shares.setdefault(name, []).append(took * cell.config.steps / cell.operations)
    if not shares:
        return []
    means = sorted((mean(values), name) for name, values in shares.items())
    apart = [f"{name} {share:.2f}" for share, name in means if abs(share - 1) > APART]
    text = (
        f"{means[0][0]:.2f} to {means[-1][0]:.2f} of those planned from a few windows; "
        f"{len(means) - len(apart)} of {len(means)} points are within {APART:.0%}"
        + (f", the others: {'; '.join(apart)}" if apart else "")
    )
    return [("Operations taken", text)]


def facts(material: Material[Any], design: Design) -> tuple[tuple[str, str], ...]:
    """How the study was made, for its page."""
    scale = material.scale
    batches = [str(size) for size in sorted({cell.config.batch for cell in design.cells})]
    return (
        ("Systems", described(material.sources)),
        ("Trajectories", trajectories(design.cells)),
        (
            "Budget",
            f"{scale.operations:.3g} floating-point operations of training for each cell, or as "
            "many steps as the reference takes for that",
        ),
        ("Cells", f"{len(design.cells)}, of {design.operations:.3g} operations of training in all"),
        ("Seeds", f"{scale.seeds}, from {material.seed} on; the split of the data is the same"),
        (
            "Model",
            f"{scale.model.depth} blocks of width {scale.model.embed_dim} unless its point says "
            f"otherwise, history {scale.history}, batch {listed(batches)}",
        ),
        ("Training", f"AdamW, {rate_used(scale)}; {schedule_of(scale)}"),
        (
            "Scores",
            f"NRMSE of rollouts of up to {scale.rollout} dt, where test trajectories are long "
            f"enough, from {scale.windows} of their frames",
        ),
        (
            "Intervals",
            "95 %: of a system by Student's t over the seeds, comparisons paired by seed, and by a "
            "bootstrap over the test trajectories, where there are two or more",
        ),
        ("Made with", f"matey {matey.__version__}, torch {torch.__version__}"),
        ("Written", time.strftime("%Y-%m-%d")),
        *design.facts,
    )


def rate_used(scale: Scale) -> str:
    """How learning rates were chosen."""
    if not scale.rates:
        return f"learning rate {scale.lr:g} for every model"
    tried = listed([f"{rate:g}" for rate in scale.rates])
    return (
        f"each operating point with the learning rate of {tried} that has the lowest validation "
        f"error in trainings of {scale.trial:g} of the operations, with the first seed"
    )


def schedule_of(scale: Scale) -> str:
    """How learning rates fall."""
    if not scale.shares:
        return "after a warm-up it falls by a cosine to the last step"
    return (
        "trainings of several lengths are branches of one whose rate stays, each with a decay over "
        "the last fifth of its own steps"
    )


def trajectories(cells: Sequence[Cell]) -> str:
    """The numbers of trajectories of each system for training, choices and tests."""
    parts = []
    for system in dict.fromkeys(cell.system for cell in cells):
        trained = [cell for cell in cells if cell.system == system]
        opened = open_systems(replace(trained[0].config.data, trajectories=None)).values()
        there, valid = (sum(len(one.split[name]) for one in opened) for name in ("train", "valid"))
        train = sorted({cell.config.data.trajectories or there for cell in trained})
        scored = open_systems(trained[0].test, training=False).values()
        test = sum(len(one.split["test"]) for one in scored)
        taken = listed([str(number) for number in train]).replace(" and ", " or ")
        parts.append(f"{system} {taken} to train on, {valid} to choose by, {test} to test on")
    return "; ".join(parts)
