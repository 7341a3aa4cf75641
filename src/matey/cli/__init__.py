"""The command line: `matey COMMAND ...`. The only room that prints.

One module per family of commands, imported when called, so that help answers at once.
A module holds `COMMANDS`: a `Command` for each word after the family's name; the one under the
empty word is what the family does without such a word.
"""

import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from matey.errors import ConfigError, MateyError, StoppedError, nearest

FAMILIES = {
    "demo": "simulate, pretrain, fine-tune, score and report: everything, in minutes",
    "doctor": "what works on this machine, and what is missing",
    "simulate": "make trajectories of a system, without any data",
    "data": "inspect files, write the data config for them, convert them",
    "train": "pretrain a model on one or many systems",
    "tune": "choose the learning rate, and more if asked, by short trainings",
    "finetune": "adapt a trained model to a new system",
    "evaluate": "score a model against persistence and extrapolation on test trajectories",
    "predict": "continue a field in time",
    "launch": "train on a cluster: the batch script, written and submitted",
    "benchmark": "what a run will cost: tokens, operations, memory",
    "study": "the experiments of the paper, with verdicts on its claims",
    "models": "the models that ship with the package; model folders to and from a hub",
    "report": "one self-contained HTML page of a run or its scores",
}

CHECKPOINT = "a run, a model folder or the name of a model that ships (matey models)"
SPINS = (
    10_000  # turns of a waiting thread before it sleeps: about as long as two operations are apart
)
LOOKS, LOOK_SECONDS = 5, 0.004  # at how many programs run


@dataclass(frozen=True)
class Command:
    """One command: its help, its arguments, and the function that runs it.

    `add_arguments` receives a jsonargparse parser; `run` receives the parsed options and
    returns the exit code, or None for success. `example` is shown below the help.
    `defaults`, where there are any, receives a first parse, and the options that were given, and
    returns defaults that depend on them.
    """

    help: str
    example: str
    add_arguments: Callable[[Any], None]
    run: Callable[[Any], int | None]
    defaults: Callable[[Any, Any], dict[str, Any]] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    User errors are one line on stderr, and code 2; a run that a signal ended in good order has
    128 and the signal's number.
    """
    choose_waiting()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--"]:  # what keeps torchrun from reading `--run` as an option of its own
        words.pop(0)
    try:
        code = dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, as in `matey ... | head`, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for what is still to be flushed
        return 0
    except StoppedError as stop:
        print(f"matey: {' '.join(str(stop).split())}", file=sys.stderr)
        return 128 + stop.signal
    except MateyError as error:
        if "--debug" in words:
            raise
        print(f"matey: error{one_of_many()}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("matey: interrupted", file=sys.stderr)
        return 130


def choose_waiting() -> None:
    """Choose how OpenMP's threads wait for each other, unless the environment decides.

    They spin by default, also for one that has no core while another program has it: a step then
    takes ten times as long or more. Where other programs leave too few cores, threads sleep at
    once; that costs a third of a step's speed where they leave enough, so there each spins for
    some microseconds first. The library reads this when torch is imported, so it comes before.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        return
    if running_elsewhere() + usable_threads() > (os.cpu_count() or 1):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    else:
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def running_elsewhere() -> float:
    """How many threads of other programs run now, the median of a few looks; 0 where unknown."""
    try:
        looks = []
        for _ in range(LOOKS):
            running = Path("/proc/loadavg").read_text().split()[3].split("/")[0]
            looks.append(int(running) - 1)  # this program itself is one
            time.sleep(LOOK_SECONDS)
        return statistics.median(looks)
    except (OSError, ValueError, IndexError):
        return 0


def usable_threads() -> int:
    """How many cores this program may run on."""
    bound = getattr(os, "sched_getaffinity", None)
    return len(bound(0)) if bound else os.cpu_count() or 1


def dispatch(words: list[str]) -> int:
    """Find and run the command that the words name."""
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        from matey import __version__

        print(f"matey {__version__}")
        return 0
    family = words.pop(0)
    if family not in FAMILIES:
        raise ConfigError(f"Unknown command {family!r}. {nearest(family, FAMILIES)}")
    commands: dict[str, Command] = import_module(f"matey.cli.{family}").COMMANDS
    name, word = "matey " + family, words[0] if words else ""
    if word and word in commands:
        return run(f"{name} {word}", commands[word], words[1:])
    if "" in commands:
        return run(name, commands[""], words)
    if word in ("", "-h", "--help"):
        print("\n".join(f"{name} {word:<10} {c.help}" for word, c in commands.items()))
        return 0
    raise ConfigError(f"Unknown command '{family} {word}'. {nearest(word, commands)}")


def run(name: str, command: Command, words: list[str]) -> int:
    """Parse one command's words and run it."""
    with notices():
        return command.run(parse_words(name, command, words)) or 0


def parse_words(name: str, command: Command, words: list[str]) -> Any:
    """The options of one command. Raises ConfigError."""
    from matey.cli.options import add_common, given, make_parser, parse, read, spelt_out

    words = spelt_out(words)
    parser = make_parser(name, command.help, command.example)
    command.add_arguments(parser)
    add_common(parser)
    if command.defaults:
        first = read(parser, words)
        parser.set_defaults(command.defaults(first, given(parser, words)))
    return parse(parser, words)


def one_of_many() -> str:
    """The number of this process, ` (process 1)`, where torchrun started several."""
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    return f" (process {os.environ.get('RANK', '0')})" if several else ""


def is_first() -> bool:
    """Whether this process reports to the user, and not another one that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


class Notices(logging.Handler):
    """Keeps each logged message once, in order, and prints it on stderr if told to."""

    def __init__(self, level: int, show: bool) -> None:
        super().__init__(level)
        self.show = show
        self.messages: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if message not in self.messages and self.show:
            print(f"matey: {record.levelname.lower()}: {message}", file=sys.stderr, flush=True)
        self.messages.setdefault(message)


@contextmanager
def notices(level: int = logging.WARNING, show: bool = True) -> Iterator[Notices]:
    """Send the package's log here, and nowhere else, while the block runs."""
    logger = logging.getLogger("matey")
    before = logger.level, logger.propagate, logger.handlers
    handler = Notices(level, show and is_first())
    logger.setLevel(level)
    logger.propagate, logger.handlers = False, [handler]
    try:
        yield handler
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]


def overview() -> str:
    """The text of `matey --help`."""
    lines = [f"  {family:<10} {text}" for family, text in FAMILIES.items()]
    return "\n".join(
        [
            "usage: matey COMMAND [options]",
            "",
            "Transformer surrogates of physics that spend their tokens where the physics happens.",
            "",
            *lines,
            "",
            "`matey COMMAND --help` explains one. New here: `matey demo`.",
        ]
    )
