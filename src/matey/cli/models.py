"""`matey models`: the models that ship with the package, and model folders to and from a hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matey.cli import CHECKPOINT, Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matey.records.scores import Scores


def add_list_arguments(parser: Any) -> None:
    parser.add_argument("name", nargs="?", help="the one whose card to show; without: a list")


def run_list(options: Any) -> None:
    """List the models that ship, or show the card of one."""
    from matey.cli.console import say
    from matey.errors import ConfigError
    from matey.records.shipped import shipped, those_that_ship

    models = shipped()
    if options.name is not None:
        from matey.nn.folder import card_of

        if options.name not in models:
            raise ConfigError(
                f"No model that ships is called {options.name!r}: {those_that_ship()}. The card of "
                "a run or a model folder: matey data inspect FOLDER."
            )
        say(card_of(models[options.name]).rstrip())
        return
    if not models:
        say(f"Models: {those_that_ship()}. Of your own, every run is one: matey train.")
        return
    for name, folder in models.items():
        for line in about(name, folder):
            say(line)
    say("Every command that takes a run takes a name, too. The card of one: matey models NAME")


def about(name: str, folder: Path) -> "Iterator[str]":
    """What a list says of a model that ships, by the files in its folder."""
    from matey.nn.adapters.stored import CONFIG, WEIGHTS
    from matey.records.files import read_json
    from matey.records.scores import Scores
    from matey.records.shipped import FACTS, SCORES, Shipped
    from matey.words import plural

    facts = Shipped.load(folder / FACTS)
    trained: dict[str, int] = read_json(folder / CONFIG)["training"]["trajectories"]
    size = (folder / WEIGHTS).stat().st_size / 1e6
    yield f"{name} {facts.version}   {size:.1f} MB, {facts.licence}"
    yield (
        f"  trained on {plural(len(trained), 'system')}, "
        f"{plural(sum(trained.values()), 'trajectory')}, {facts.operations:.2g} operations: "
        f"{', '.join(trained)}"
    )
    if (folder / SCORES).is_file():
        yield from standing(Scores.load(folder / SCORES))


def standing(scores: "Scores") -> "Iterator[str]":
    """Errors at the first and the last step of rollouts, over those of persistence and of the
    stencil: geometric means over the systems where these are no zero."""
    from matey.records.scores import is_yardstick
    from matey.words import geometric_mean, plural, ratio

    for at in (0, -1):
        curves = [system.main for system in scores.systems]
        still = [c.error[at] / c.persistence[at] for c in curves if c.comparable(at)]
        fitted = [
            c.error[at] / c.stencil[at] for c in curves if c.stencil and is_yardstick(c.stencil[at])
        ]
        steps = sorted({system.steps[at] for system in scores.systems})
        yield (
            f"  {', '.join(map(str, steps))} dt ahead: {ratio(geometric_mean(still))} × the error "
            f"of persistence, {ratio(geometric_mean(fitted))} × that of the stencil "
            f"({plural(len(scores.systems), 'system')})"
        )


def add_push_arguments(parser: Any) -> None:
    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("target", help="OWNER/NAME on huggingface.co, or file:FOLDER")
    parser.add_argument(
        "--public", action="store_true", help="for all to see, where the hub has no such model yet"
    )


def run_push(options: Any) -> None:
    """Send a model folder to a hub."""
    from matey.cli.console import say
    from matey.hub import push

    say(f"The model is at {push(options.checkpoint, options.target, public=options.public)}.")


def add_pull_arguments(parser: Any) -> None:
    parser.add_argument("source", help="OWNER/NAME on huggingface.co, or file:FOLDER")
    parser.add_argument("--out", help="the new model folder; by default models/NAME")
    parser.add_argument(
        "--revision", help="a branch, tag or commit of the hub; by default the newest"
    )


def run_pull(options: Any) -> None:
    """Fetch a model folder from a hub."""
    from matey.cli.console import say
    from matey.hub import pull

    name = Path(options.source.removeprefix("file:")).name
    out = Path(options.out or Path("models") / name)
    taken = pull(options.source, out, options.revision)
    say(f"{taken}, in {out}. Look at it: matey data inspect {out}")


COMMANDS = {
    "": Command(
        "the models that ship: size, licence, training and scores; or the card of one",
        "matey models\n  matey models mini\n  matey models push runs/a OWNER/NAME\n"
        "  matey models pull OWNER/NAME --out models/a",
        add_list_arguments,
        run_list,
    ),
    "push": Command(
        "send a model folder to a hub, private unless --public; nothing else of a run",
        "matey models push runs/a OWNER/NAME",
        add_push_arguments,
        run_push,
    ),
    "pull": Command(
        "fetch a model folder from a hub: safetensors and JSON only",
        "matey models pull OWNER/NAME --out models/a",
        add_pull_arguments,
        run_pull,
    ),
}
