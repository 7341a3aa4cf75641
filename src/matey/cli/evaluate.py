"""`matey evaluate`: scores on test trajectories."""

from typing import Any

from matey.cli import CHECKPOINT, Command


def add_arguments(parser: Any) -> None:
    from jsonargparse.typing import PositiveInt

    from matey.cli.options import add_model_options
    from matey.config import DataConfig

    parser.add_argument("checkpoint", help=CHECKPOINT)
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
        "--members",
        type=PositiveInt | None,
        help="score ensembles of so many, too: the model's own, and of perturbed histories",
    )
    parser.add_argument(
        "--beside",
        help="the deterministic model that ensembles stand beside: a run, a model folder or a "
        "name; by default the model without noise",
    )
    parser.add_argument(
        "--perturb",
        type=float | None,
        help="noise in perturbed histories, in standard deviations of each variable; 0.01 unless "
        "given",
    )
    add_model_options(parser)


def run(options: Any) -> None:
    from pathlib import Path

    from matey.cli.console import console, ensemble_table, health, say, score_table
    from matey.cli.options import load_model
    from matey.evaluate.protocols import find_protocol
    from matey.evaluate.score import ScoreConfig, evaluate

    limits = options.rollout, options.batch, options.windows
    protocol = find_protocol(options.protocol)
    ask = ScoreConfig(*limits, options.seed, options.lead_time, protocol, ensembles_of(options))
    model = load_model(options)
    scores = evaluate(model, options.checkpoint, options.data, ask, Path(options.out))
    seen = any(score.trained_on for score in scores)
    scored = "trajectories, some of which it was trained on" if seen else "test trajectories"
    console.print(score_table(scores, f"{options.checkpoint}: {scored}"))
    if options.members:
        console.print(ensemble_table(scores))
    for line in health(scores):
        say(line)
    if model.config.is_adaptive:
        cells = model.cells()  # whose criterion may have capitals of its own
        console.print(f"{cells[0].upper()}{cells[1:]}.", highlight=False)
    console.print(f"Scores in {options.out}. A page of them: matey report {options.out}")


def ensembles_of(options: Any) -> Any:
    """How ensembles are scored; None where none are asked for. Raises ConfigError."""
    from dataclasses import replace

    from matey.config import require
    from matey.evaluate.ensembles import EnsembleConfig
    from matey.nn.folder import from_pretrained

    for name in ("beside", "perturb"):
        value, fits = getattr(options, name), bool(options.members)
        require(fits or value is None, f"--{name}", value, "--members too: it is of ensembles")
    if not options.members:
        return None
    beside = from_pretrained(options.beside) if options.beside else None
    ensembles = EnsembleConfig(options.members, beside=beside, name=options.beside or "")
    return ensembles if options.perturb is None else replace(ensembles, perturb=options.perturb)


COMMANDS = {
    "": Command(
        "score a model against persistence and extrapolation on test trajectories",
        "matey evaluate runs/a --data mix.yaml --rollout 10 --protocol well-1.2 --out results",
        add_arguments,
        run,
    )
}
