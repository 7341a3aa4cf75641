"""`matey tune`: the learning rate, and more if asked, by short trainings."""

from typing import TYPE_CHECKING, Any

from matey.cli import Command
from matey.cli.train import add_baseline, with_baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from matey.config import RunConfig
    from matey.nn.surrogate import Surrogate
    from matey.train.tune import Trial

FACTORS = (1 / 3, 1.0, 3.0)  # of the config's own learning rate


def add_arguments(parser: Any) -> None:
    from matey.config import RunConfig

    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    add_trial_options(parser, "10min")
    parser.add_argument("--out", default="tuned.yaml", help="the config to write")
    parser.add_argument(
        "--lr",
        nargs="+",
        type=float,
        help="learning rates to try; by default a third of optim.lr, itself, and three times it",
    )
    parser.add_argument(
        "--threshold", nargs="+", type=float, help="values of model.refine.threshold to try"
    )
    parser.add_argument("--bulk", nargs="+", type=float, help="values of model.refine.bulk to try")
    parser.add_argument(
        "--width",
        nargs="+",
        type=int,
        help="values of model.embed_dim to try; of a baseline, of model.baseline.width",
    )
    add_baseline(parser)
    parser.add_class_arguments(RunConfig)


def run(options: Any) -> None:
    from pathlib import Path

    from matey.cli.console import console
    from matey.cli.options import run_config
    from matey.errors import ConfigError
    from matey.output import write_text
    from matey.train.loop import train
    from matey.train.run_folder import to_yaml
    from matey.train.tune import with_settings

    config, out = with_baseline(run_config(options), options.baseline), Path(options.out)
    best = try_all(
        config,
        choices_of(config, options),
        options.budget,
        lambda one, run, watch: train(one, run, watch, stencils=run.parent / "stencil"),
    )
    text = to_yaml(with_settings(config, best.settings))
    chosen = ", ".join(f"{key} {value:g}" for key, value in best.settings.items())
    write_text(out, f"# Chosen by validation: {chosen}.\n{text}", ConfigError)
    console.print(f"Wrote {out}. Train with it: matey train --config {out} --run runs/tuned")


def choices_of(config: "RunConfig", options: Any) -> "dict[str, Sequence[Any]]":
    """The values to try, by dotted key. Raises ConfigError for those that change nothing."""
    from matey.errors import ConfigError

    model = config.model
    for option in ("threshold", "bulk"):
        if options[option] and not model.is_adaptive:
            raise ConfigError(
                f"--{option}: nothing is refined in this model, which has one patch size or none. "
                "Give model.patches two sizes, or leave it out."
            )
    others = ["--bulk"] if options.bulk else []
    rules = {"bulk", "fraction", "token_budget"}
    others += [f"model.refine.{r}" for r in sorted(rules) if getattr(model.refine, r) is not None]
    if options.threshold and others:
        raise ConfigError(f"--threshold has no effect beside {others[0]}. Leave one of them out.")
    choices = {
        "optim.lr": rates(options.lr, config.optim.lr),
        "model.refine.threshold": options.threshold,
        "model.refine.bulk": options.bulk,
        "model.baseline.width" if model.is_baseline else "model.embed_dim": options.width,
    }
    return {key: values for key, values in choices.items() if values}


def add_trial_options(parser: Any, budget: str) -> None:
    """What every command that tries settings takes."""
    parser.add_argument("--budget", default=budget, help="time for all trials, as 10min or 2h")


def rates(given: "Sequence[float] | None", usual: float) -> "tuple[float, ...]":
    """The learning rates to try."""
    return tuple(given) if given else tuple(float(f"{usual * factor:.3g}") for factor in FACTORS)


def try_all(
    config: "RunConfig",
    choices: "Mapping[str, Sequence[Any]]",
    budget: str,
    train: "Callable[[RunConfig, Path, Any], Surrogate]",
) -> "Trial":
    """Try settings within a budget, print what came of each, and give the best."""
    import tempfile
    from pathlib import Path

    from matey.cli.console import console, say, watch_training
    from matey.cli.launch import seconds
    from matey.train.tune import best_of, tune

    with tempfile.TemporaryDirectory(prefix="matey-tune-") as folder, watch_training("tune") as see:
        trials = list(tune(config, choices, seconds(budget, "--budget"), train, Path(folder), see))
    best = best_of(trials)
    console.print(trial_table(trials, best))
    for line in verdict(trials, best):
        say(line)
    for key, values in choices.items():
        if len(values) > 1 and best.settings[key] in (min(values), max(values)):
            side = "lowest" if best.settings[key] == min(values) else "highest"
            console.print(f"The best {key} is the {side} tried: look further that way.")
    return best


def verdict(trials: "Sequence[Trial]", best: "Trial") -> "Iterator[str]":
    """What speaks against the trial of the lowest error, a line each: windows where persistence is
    better."""
    from matey.train.tune import lowest

    first = lowest(trials)
    lost = "; ".join(worse.line(name) for name, worse in first.worse.items())
    if not lost:
        return
    settings = ", ".join(f"{key} {value:g}" for key, value in first.settings.items())
    if first is best:
        yield f"With {settings} {lost}. In a longer training take a lower rate."
    else:
        times = best.score / first.score
        yield f"{settings} is not taken: {lost}. The next has {times:.2f} times its mean error."


def trial_table(trials: "Sequence[Trial]", best: "Trial") -> Any:
    """What was tried, the best marked."""
    import math

    from rich.box import SIMPLE
    from rich.table import Table

    from matey.cli.console import plain

    table = Table(title="Validation NRMSE after short trainings", box=SIMPLE, pad_edge=False)
    systems = sorted({name for trial in trials for name in trial.nrmse})
    for heading in (*best.settings, "steps", "of persistence", *map(plain, systems), ""):
        table.add_column(heading, justify="right", overflow="fold")
    for trial in trials:
        table.add_row(
            *(f"{value:g}" for value in trial.settings.values()),
            f"{trial.steps:,}",
            f"{trial.score:.4f}" if math.isfinite(trial.score) else "diverged",
            *(f"{trial.nrmse[name]:.4f}" if name in trial.nrmse else "-" for name in systems),
            "best" if trial is best else "",
        )
    return table


COMMANDS = {
    "": Command(
        "choose the learning rate, and more if asked, by short trainings on the validation split",
        "matey tune --config examples/pretrain-nano.yaml --data mix.yaml --budget 10min",
        add_arguments,
        run,
    )
}
