"""`matey evaluate`: scores on test trajectories."""

from typing import Any, Literal

from matey.cli import Command


def add_arguments(parser: Any) -> None:
    from jsonargparse.typing import PositiveInt

    from matey.config import DataConfig

    parser.add_argument("checkpoint", help="a run or a model folder")
    parser.add_class_arguments(DataConfig, "data")
    parser.add_argument("--rollout", type=PositiveInt, default=10, help="dt ahead to score")
    parser.add_argument(
        "--lead-time", type=PositiveInt, default=1, help="dt from one predicted frame to the next"
    )
    parser.add_argument(
        "--protocol",
        default="default",
        help="default, pdebench-v1 or well-1.2: see docs/metrics.md",
    )
    parser.add_argument("--out", default="results", help="folder for scores.json and examples")
    parser.add_argument("--batch", type=PositiveInt, default=16, help="rollouts at a time")
    parser.add_argument(
        "--windows", type=PositiveInt | None, help="rollouts per system, spread evenly; else all"
    )
    parser.add_argument(
        "--token-budget",
        type=PositiveInt | None,
        help="refine as many cells as leave no more than so many tokens per frame",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the shifts of a model made with jitter"
    )
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute"
    )


def run(options: Any) -> None:
    from pathlib import Path

    from matey.cli.console import console, health, score_table
    from matey.device import choose_device
    from matey.evaluate.protocols import find_protocol
    from matey.evaluate.score import ScoreConfig, evaluate
    from matey.nn.folder import from_pretrained, set_token_budget
    from matey.train.threads import stay_within_cores

    stay_within_cores()
    ask = ScoreConfig(
        steps=options.rollout,
        batch=options.batch,
        windows=options.windows,
        seed=options.seed,
        lead=options.lead_time,
        protocol=find_protocol(options.protocol),
    )
    model = from_pretrained(options.checkpoint).to(choose_device(options.device))
    if options.token_budget is not None:
        set_token_budget(model, options.token_budget)
    scores = evaluate(model, options.checkpoint, options.data, ask, Path(options.out))
    console.print(score_table(scores, f"{options.checkpoint}: test trajectories"))
    for line in health(scores):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if model.config.is_adaptive:
        cells = model.cells()  # whose criterion may have capitals of its own
        console.print(f"{cells[0].upper()}{cells[1:]}.", highlight=False)
    console.print(f"Scores in {options.out}. A page of them: matey report {options.out}")


COMMANDS = {
    "": Command(
        "score a model against persistence and extrapolation on test trajectories",
        "matey evaluate runs/a --data mix.yaml --rollout 10 --protocol well-1.2 --out results",
        add_arguments,
        run,
    )
}
