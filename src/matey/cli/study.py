"""`matey study`: the paper's experiments, each one command."""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from matey.cli import Command

if TYPE_CHECKING:
    from pathlib import Path

    from matey.records.study import StudyPage
    from matey.studies.engine import Done
    from matey.studies.price import Price


def add_arguments(parser: Any) -> None:
    from pathlib import Path

    from jsonargparse.typing import PositiveInt

    from matey.cli.options import add_device
    from matey.config import DataConfig

    parser.add_argument(
        "--scale",
        type=Literal["smoke", "cpu", "long", "paper"],
        default="smoke",
        help="smoke: a minute, to see it run; cpu: under 90 minutes on two cores; long: a "
        "few hours for each system, over days if need be; paper: the published settings, for GPUs",
    )
    parser.add_argument("--out", type=Path, required=True, help="the study's folder; goes on there")
    parser.add_class_arguments(DataConfig, "data")
    parser.add_argument(
        "--jobs", type=PositiveInt | None, help="cells at a time; else as many as there are cores"
    )
    parser.add_argument("--plan", action="store_true", help="say what it will cost, and stop")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of the cells")
    parser.add_argument(
        "--seeds", type=PositiveInt | None, help="how many: more make the same study go on"
    )
    parser.add_argument(
        "--systems", nargs="+", default=[], help="only these for now: others may come later"
    )
    parser.add_argument(
        "--repeat",
        type=PositiveInt | None,
        help="make so many of the finished cells again, compare them to the last byte, and stop",
    )
    add_device(parser)


def run(options: Any, study: str) -> None:
    """Plan, run and report."""
    import sys

    import torch

    from matey.cli.console import console
    from matey.device import choose_device
    from matey.report import build
    from matey.studies.run import Request, plan, repeat
    from matey.studies.run import run as run_study
    from matey.train.threads import usable_cores

    on_gpu = choose_device(options.device).type == "cuda"
    request = Request(
        study=study,
        scale=options.scale,
        out=options.out,
        data=options.data,
        seed=options.seed,
        seeds=options.seeds,
        systems=tuple(options.systems),
        jobs=options.jobs or (1 if on_gpu else min(torch.get_num_threads(), usable_cores())),
        device=options.device,
    )

    def tell(text: str) -> None:
        print(f"{study}: {text}", file=sys.stderr, flush=True)

    if options.plan:
        show_price(plan(request, tell))
        return
    if options.repeat:
        show_repeated(request.out, repeat(request, options.repeat, tell, partial(told, tell)))
        return

    shows = (show_price, partial(show_done, tell))
    page = run_study(request, tell, *shows)
    build([request.out], request.out / "report.html")
    show_claims(page)
    console.print(f"Tables in {request.out}, all of it in {request.out}/report.html")


def add_scalability_arguments(parser: Any) -> None:
    from pathlib import Path

    from matey.cli.options import add_device

    parser.add_argument(
        "--scale",
        type=Literal["smoke", "cpu", "long", "paper"],
        default="smoke",
        help="smoke: seconds; cpu: up to a million tokens, measured up to 1e11 operations a step; "
        "long: up to 1e12; paper: measured as far as a large GPU goes",
    )
    parser.add_argument("--out", type=Path, required=True, help="the study's folder")
    add_device(parser)


def run_scalability(options: Any) -> None:
    """Count, measure and report."""
    import sys

    from matey.cli.console import console
    from matey.report import build
    from matey.studies.scalability.run import run as run_study

    def tell(text: str) -> None:
        print(f"scalability: {text}", file=sys.stderr, flush=True)

    page = run_study(options.scale, options.out, options.device, tell)
    build([options.out], options.out / "report.html")
    show_claims(page)
    console.print(f"Tables in {options.out}, all of it in {options.out}/report.html")


def show_price(price: "Price") -> None:
    """Print what a study will cost, system by system, and what is there already."""
    from matey.cli.console import console, make_table, say, span
    from matey.studies.price import GPU
    from matey.words import plural

    where = "on one thread" if price.device == "cpu" else f"on {price.device}"
    all_of = price.whole
    table = make_table(
        None, ["System"], ["Points", "Cells", "There", "Operations to go", "Time to go"]
    )
    for one in (*price.parts, *([all_of] if len(price.parts) > 1 else [])):
        operations = f"{one.trainings + one.scoring:.2g}"
        counts = (str(one.points), str(one.cells), str(one.there))
        table.add_row(one.system, *counts, operations, span(one.seconds / price.jobs))
    say(
        f"{all_of.cells} cells of {price.least:.2g} to {price.most:.2g} operations of training, of "
        f"which {all_of.there} are there: {all_of.trainings:.3g} to go, and "
        f"{all_of.scoring:.2g} to score."
    )
    say(f"Systems: {price.systems}.")
    console.print(table)
    say(
        f"A matrix product runs at {price.peak / 1e9:.0f} GFLOP/s here {where}: about "
        f"{span(price.seconds)} with {plural(price.jobs, 'job')}."
    )
    if price.simulating:
        count = len(price.simulating)
        say(
            f"{plural(count, 'system')} {'is' if count == 1 else 'are'} simulated first, on one "
            f"core: about {span(sum(price.simulating.values()))}, by the first frames of one "
            "trajectory."
        )
    if price.on_gpu is not None:
        say(f"A GPU that reaches {GPU / 1e12:.0f} TFLOP/s takes about {price.on_gpu:,.3g} h.")


def show_done(tell: Any, done: "Done") -> None:
    """Print a line for a finished cell."""
    from matey.cli.console import span

    failed = f" failed: {done.failed}" if done.failed else ""
    tell(f"cell {done.number}/{done.of} {done.cell}{failed}  {span(done.seconds_left)} left")


def told(tell: Any, cell: str, differ: list[str]) -> None:
    """Print a line for a cell that was made again."""
    tell(f"{cell} {'differs: ' + ', '.join(differ) if differ else 'is the same'}")


def show_repeated(out: "Path", found: dict[str, list[str]]) -> None:
    """Print whether cells came out the same again. Raises DataError where one did not."""
    from matey.cli.console import say
    from matey.errors import DataError
    from matey.words import listed

    others = [name for name, differ in found.items() if differ]
    if others:
        raise DataError(
            f"{len(others)} of {len(found)} cells of {out} came out differently, and stand in "
            f"{out}/cells/again: {listed(others)}. Another machine, or other versions, give other "
            "last digits; on one machine nothing should."
        )
    say(f"All of {len(found)} came out the same, to the last byte: {listed([*found])}.")


def show_claims(page: "StudyPage") -> None:
    """Print the verdicts."""
    from matey.cli.console import console

    for claim in page.claims:
        console.print(f"\n{claim.answer.upper()}: {claim.claim}", style="bold", markup=False)
        for sentence in claim.sentences:
            console.print(f"  {sentence}", highlight=False, markup=False)


COMMANDS = {
    name: Command(
        text,
        f"matey study {name} --scale cpu --data mix.yaml --out studies/{name}",
        add_arguments,
        partial(run, study=name),
    )
    for name, text in {
        "tokens": "adaptive tokens against uniform ones: error and cost",
        "attention": "ViT, SViT, AViT and partly decoupled models: error, cost and weights",
        "transfer": "pretraining against scratch, with little data, beside a U-Net and an FNO",
    }.items()
} | {
    "scalability": Command(
        "one sample from a thousand tokens to a million: time and memory, counted and measured",
        "matey study scalability --scale cpu --out studies/scalability",
        add_scalability_arguments,
        run_scalability,
    )
}
