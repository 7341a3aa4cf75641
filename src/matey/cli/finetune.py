"""`matey finetune`: a trained model goes on with new data."""

from typing import TYPE_CHECKING, Any

from matey.cli import CHECKPOINT, Command
from matey.cli.train import add_shared
from matey.cli.tune import add_trial_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.table import Table

    from matey.config import RunConfig
    from matey.train.finetune_plan import TuningPlan

IF_POSSIBLE = "auto if possible"  # what --lr is where neither it nor optim.lr is given
LOSSES = {
    "square": "the squared NRMSE",
    "root": "the NRMSE",
    "log": "the logarithm of the NRMSE",
    "crps": "the fair CRPS of members",
}
NAMES = 6  # of one kind of weights in the table of a plan, at most


def add_arguments(parser: Any) -> None:
    from matey.config import RunConfig

    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument(
        "--run", help="the run folder to write; by default runs/<name of the checkpoint>-finetuned"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="print what transfers, what is new and frozen, memory and time, and do nothing",
    )
    parser.add_argument(
        "--lr",
        help="the learning rate, short for optim.lr; auto: the best of three by short trainings on "
        "the validation split, within --budget. By default auto, where these are possible and no "
        "rate is given",
    )
    add_trial_options(parser, "3min")
    add_shared(parser)
    parser.add_class_arguments(RunConfig)


def defaults(options: Any, given: Any) -> dict[str, Any]:
    """Defaults from the checkpoint, its model and its history, and those of fine-tuning."""
    from dataclasses import replace
    from pathlib import Path

    from matey.nn.folder import outline
    from matey.train.finetune import usual_settings
    from matey.train.resume import flat
    from matey.train.run_folder import plain

    model = outline(Path(options.checkpoint))
    shape = replace(model.config, keep={})  # of old systems, which stays by itself
    return {
        "lr": None if "lr" in given or "optim.lr" in given else IF_POSSIBLE,
        "windows.history": model.history,
        **flat(plain(shape), "model."),
        **usual_settings(model, options.mode, options.loss.of),
    }


def run(options: Any) -> None:
    from pathlib import Path

    from matey.cli.console import console, say, watch_training
    from matey.cli.options import run_config
    from matey.train.finetune import finetune, parent_name
    from matey.train.finetune_plan import plan_tuning
    from matey.train.tune import with_settings

    checkpoint = Path(options.checkpoint)
    config = run_config(options)
    if options.lr not in (None, "auto", IF_POSSIBLE):
        config = with_settings(config, {"optim.lr": rate(options.lr)})
    if options.plan:
        plan = plan_tuning(checkpoint, config)
        show(plan)
        for line in how(plan, options):
            say(line)
        return
    run = Path(options.run or f"runs/{parent_name(checkpoint)}-finetuned")
    fitted = config.model.baseline.kind == "stencil"  # it has no rate, and is refused below
    if options.lr in ("auto", IF_POSSIBLE) and not fitted:
        config = with_settings(config, {"optim.lr": choose_rate(config, options, run)})
    with watch_training("finetune") as watch:
        finetune(checkpoint, config, run, watch, resume=options.resume == "auto")
    console.print(f"Model in {run}/model. Score it: matey evaluate {run} --data ...")


def choose_rate(config: "RunConfig", options: Any, run: "Path") -> float:
    """The learning rate of a run: the one that it has begun with, or else by short trainings.

    Where these are not possible and were not asked for, the config's, with a line that says why.
    Raises ConfigError where they were asked for.
    """
    from matey.cli.console import say
    from matey.cli.tune import rates, try_all
    from matey.data.systems import open_systems
    from matey.train.finetune import finetune
    from matey.train.finetune_plan import can_validate
    from matey.train.resume import recorded
    from matey.train.tune import BudgetError

    if options.resume == "auto" and (run / "provenance.json").is_file():
        begun = float(recorded(run)[0]["optim"]["lr"])
        say(f"Learning rate: {begun:g}, as the run began.")
        return begun
    asked, usual = options.lr == "auto", config.optim.lr
    reason = hindrance(config, can_validate(config, open_systems(config.data)), asked)
    if not reason:
        say(rate_line(config, options))
        try:
            best = try_all(
                config,
                {"optim.lr": rates(None, usual)},
                options.budget,
                lambda one, folder, watch: finetune(
                    options.checkpoint, one, folder, watch, stencils=folder.parent / "stencil"
                ),
            )
            return float(best.settings["optim.lr"])
        except BudgetError as error:
            if asked:
                raise
            reason = str(error)
    say(f"Learning rate: {usual:g}, not chosen by trials: {reason}")
    return usual


def hindrance(config: "RunConfig", validates: bool, asked: bool) -> str:
    """Why no rates are compared, a sentence; none of it where they are `asked` for, but that one
    process does it. Raises ConfigError."""
    import os

    from matey.errors import ConfigError
    from matey.train.tune import LEAST
    from matey.words import plural

    if os.environ.get("WORLD_SIZE", "1") != "1":
        reason = "one process does that; choose it before, and give --lr NUMBER."
        if asked:
            raise ConfigError(f"--lr auto: {reason}")
        return reason
    if asked:
        return ""
    if config.steps < LEAST:
        return f"the run has {plural(config.steps, 'step')}, and trials need {LEAST}."
    return "" if validates else "there are no trajectories to validate on."


def rate_line(config: "RunConfig", options: Any) -> str:
    """How the learning rate will be chosen, in a line."""
    from matey.cli.tune import rates

    tried = ", ".join(f"{one:g}" for one in rates(None, config.optim.lr))
    return (
        f"Learning rate: the best of {tried} by short trainings, scored on the validation split, "
        f"within {options.budget} (--budget). --lr NUMBER takes one."
    )


def how(plan: "TuningPlan", options: Any) -> "Iterator[str]":
    """The rest of a plan, a line each: rate, average, when it ends, and what is saved."""
    config = plan.config
    if options.lr in ("auto", IF_POSSIBLE):
        reason = hindrance(config, plan.validates, options.lr == "auto")
        usual = f"Learning rate: {config.optim.lr:g}, not chosen by trials: {reason}"
        yield usual if reason else rate_line(config, options)
    yield f"Loss: {LOSSES[config.loss.of]} of a batch (loss.of {config.loss.of})."
    if config.optim.ema:
        yield f"Average of the weights: decay {config.optim.ema:g}; it is validated and saved."
    every = f"every {config.validate_every} steps" if config.validate_every else "at the end"
    if not plan.validates:
        yield "Validation: none, there are no trajectories for it; model/ is that of the last step."
    elif config.patience:
        yield (
            f"Validation: {every}. Training ends early after {config.patience} in a row without a "
            "lower error; model/ is that of the lowest."
        )
    else:
        yield f"Validation: {every}; model/ is that of the last step, best/ of the lowest error."
    if config.mode == "lora":
        saved = (
            "whole, the adapters merged"
            if config.merge
            else f"as what differs from {plan.source}, beside its name"
        )
        yield f"Adapters: rank {config.rank}; the model is saved {saved}."


def rate(text: str) -> float:
    """The number in `--lr`. Raises ConfigError."""
    from matey.errors import ConfigError

    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--lr is {text!r}, expected a number, or auto.") from error


def show(plan: "TuningPlan") -> None:
    """Print a plan in 80 columns."""
    from matey.cli.benchmark import fit, memory_table, said_batch, token_table
    from matey.cli.console import console, plain, span
    from matey.words import plural

    config = plan.config
    data = ", ".join(f"{plain(name)} ({n:,} windows)" for name, n in plan.windows.items())

    def say(text: str) -> None:
        console.print(text, highlight=False)

    say(f"Fine-tuning {plain(plan.source)} on {data}, mode {config.mode}: a plan, nothing is done.")
    for note in plan.notes:
        say(f"- {plain(note)}")
    console.print(part_table(plan))
    say(f"Learning rates: optim.lr = {config.optim.lr:g} times the rate of each group.")
    say(
        f"{plan.numbers('checkpoint'):,} numbers transfer, {plan.numbers('new'):,} are new, "
        f"{plan.numbers(trains=False):,} frozen; {plan.numbers(trains=True):,} of "
        f"{plan.numbers():,} train."
    )
    console.print(token_table(plan.forecasts))
    console.print(memory_table(plan.forecasts, config))
    if plan.free is not None:
        say(f"Memory: {fit(plan.forecasts, plan.free)}.")
    say(
        f"Time: about {span(plan.seconds)}, an estimate: {plural(config.steps, 'step')} of "
        f"together {plan.operations / 1e12:.3g} TFLOP, at {plan.share:.0%} of the "
        f"{plan.peak / 1e9:,.0f} GFLOP/s of a matrix product here, which steps typically reach. "
        "Validation adds to it, and steps of less than some 10 GFLOP take longer."
    )
    if config.mixture.tokens_per_batch is None and plan.batch is None:
        say("Batch: that of each system (mixture.batch); batch has no effect.")
    elif plan.batch is None:
        say("Batch: by tokens (mixture.tokens_per_batch); batch has no effect.")
    elif plan.batch == 0:
        say("Batch: not even a batch of one fits into the memory that is free.")
    else:
        say(
            f"Batch: {plan.batch} is the largest power of two that fits and has windows enough; "
            f"it is set to {said_batch(config)}."
        )


def part_table(plan: "TuningPlan") -> "Table":
    """The weights by kind, where they come from, and whether they train, at which learning rate."""
    from matey.cli.console import make_table, plain

    table = make_table("Weights", ["part", "which"], ["numbers", "from", "training", "rate"])
    for part in plan.parts:
        fitted = part.kind.startswith("stencils") and part.origin == "new"
        training = "yes" if part.trains else "fitted" if fitted else "frozen"
        table.add_row(
            part.kind,
            plain(some(part.names)),
            f"{part.numbers:,}",
            part.origin,
            "-" if part.origin == "left out" else training,
            f"{part.group} × {part.rate:g}" if part.trains else "-",
        )
    return table


def some(names: "Sequence[str]") -> str:
    """Names in a cell of a table: all, or the first and how many more there are."""
    if len(names) <= NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: NAMES - 1])} and {len(names) - NAMES + 1} more"


COMMANDS = {
    "": Command(
        "adapt a trained model to a new system",
        "matey finetune runs/a --data mine.yaml --trajectories 1 --run runs/a-mine",
        add_arguments,
        run,
        defaults,
    )
}
