"""Options: YAML files and the command line into config dataclasses, with strict errors."""

import difflib
import re
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace, set_loader
from jsonargparse.typing import PositiveInt

from matey.config import DataConfig, LossConfig, RunConfig, SourceConfig, current
from matey.errors import ConfigError, MateyError, nearest
from matey.output import plain_yaml

if TYPE_CHECKING:
    from matey.nn.surrogate import Surrogate


class StrictLoader(yaml.SafeLoader):
    """Read plain YAML data only: no tags that make objects, no duplicate keys, no aliases.

    Numbers like `3e-4` are floats, as in YAML 1.2.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ConfigError(f"An alias (*{self.peek_event().anchor}) is not allowed in a config.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"Key {key!r} stands twice{node.start_mark}.")
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+\Z"),
    list("-+.0123456789"),
)


def load_yaml(text: str) -> Any:
    """The plain data in YAML text. Raises ConfigError on tags, aliases and duplicate keys."""
    try:
        data = plain_yaml(text, StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"Not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError("Not a config: YAML that is nested hundreds of levels deep.") from error
    if isinstance(data, dict) and isinstance(data.get("model"), dict):
        data["model"] = current(data["model"])
    return data


set_loader("matey", load_yaml, (ConfigError,))


class HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Shows defaults, and keeps the line breaks of the example."""


class Parser(ArgumentParser):
    """A parser that raises ConfigError instead of leaving the process."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise ArgumentError(None, message) from ex


def make_parser(name: str, text: str, example: str) -> Parser:
    """A parser with the options that every command has."""
    parser = Parser(
        prog=name,
        description=f"{text[0].upper()}{text[1:]}.\n\nexample:\n  {example}",
        formatter_class=HelpFormatter,
        parser_mode="matey",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_common(parser: Parser) -> None:
    """`--seed` and `--device` for a command that has nothing random and computes nothing large.

    Every command takes them, so that a script may pass the same options to all.
    """
    if "--seed" not in parser._option_string_actions:
        parser.add_argument("--seed", type=int, default=0, help="nothing here is random")
    if "--device" not in parser._option_string_actions:
        add_device(parser, "this command computes on the CPU")


def add_device(parser: Any, text: str = "where to compute") -> None:
    """`--device` for a command that computes."""
    devices = Literal["auto", "cpu", "cuda"]
    parser.add_argument("--device", type=devices, default="auto", help=text)


def add_model_options(parser: Any) -> None:
    """The options of every command that applies a trained model."""
    parser.add_argument(
        "--token-budget",
        type=PositiveInt | None,
        help="refine as many cells as leave no more than so many tokens per frame",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the shifts of a model made with jitter"
    )
    parser.add_argument(
        "--mirrors",
        type=Literal["turns", "mean", "none"],
        default="turns",
        help="of those that training had (windows.flip): another one at each step, or the mean of "
        "what is made in all of them, for as many times the cost",
    )
    add_device(parser)


def load_model(options: Namespace) -> "Surrogate":
    """Load the model of `checkpoint` with its device and token budget set."""
    from matey.device import choose_device
    from matey.nn.folder import from_pretrained, set_token_budget
    from matey.train.threads import stay_within_cores

    stay_within_cores()
    model = from_pretrained(options.checkpoint).to(choose_device(options.device))
    model.mirrors = options.mirrors
    if options.token_budget is not None:
        set_token_budget(model, options.token_budget)
    return model


def parse(parser: Parser, words: list[str]) -> Namespace:
    """Parse and check the options. Raises ConfigError with the nearest key to a misspelt one."""
    with explaining(parser, words):
        return parser.instantiate(read(parser, words))


@contextmanager
def explaining(parser: Parser, words: list[str]) -> Iterator[None]:
    """Turn the errors of a parser into one-line ConfigErrors."""
    try:
        yield
    except MateyError:
        raise
    except (ArgumentError, TypeError, ValueError, OSError) as error:
        raise ConfigError(explain(parser, str(error), words)) from error


def read(parser: Parser, words: list[str]) -> Namespace:
    """Parse the options as plain data, not yet checked against each other."""
    words = [re.sub(r"^--model\.(kind|width|modes)\b", r"--model.baseline.\1", w) for w in words]
    for option in ("--config", "--data"):
        if option in parser._option_string_actions:
            check_text(option, values_of(option, words))
    with explaining(parser, words):
        options = parser.parse_args(words)
    for action in parser._actions:
        parts = action.dest.split(".")
        for depth in range(1, len(parts)):
            group = ".".join(parts[:depth])
            if group in options and options[group] is None:
                raise ConfigError(f"{group} is empty (null), expected its settings or no such key.")
        if (
            action.default not in (None, SUPPRESS)
            and options.get(action.dest, action.default) is None
        ):
            raise ConfigError(
                f"{action.dest} is empty (null), expected something like {action.default!r}, or no "
                "such key."
            )
    if isinstance(options.get("data"), Namespace):
        anchor_paths(options, words)
    return options


def spelt_out(words: Sequence[str]) -> list[str]:
    """The words with `--loss crps`, or another loss by its name, written as `--loss.of`."""
    names = get_args(get_type_hints(LossConfig)["of"])
    following = [*words, ""][1:]
    return [
        "--loss.of" + word.removeprefix("--loss")
        if word in {f"--loss={name}" for name in names} or (word == "--loss" and after in names)
        else word
        for word, after in zip(words, following, strict=True)
    ]


def given(parser: Parser, words: list[str]) -> Namespace:
    """The options that words and config files give, without any default but empty mappings: in none
    a key of two parts, as `model.keep.NAME.means`, has no place."""
    empty = Namespace()
    for action in parser._actions:
        if action.default == {}:
            empty[action.dest] = {}
    options: Namespace = parser.parse_args(words, namespace=empty, defaults=False)
    return options


def read_data(paths: list[str]) -> DataConfig | None:
    """The data config that a path ending in .yaml is; None where none does.

    Raises ConfigError if other paths stand beside it.
    """
    configs = [path for path in paths if path.endswith((".yaml", ".yml"))]
    if not configs:
        return None
    if len(paths) > 1:
        raise ConfigError(f"{configs[0]} is a data config. Give it alone, without {paths[-1]}.")
    parser = Parser(parser_mode="matey", exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(DataConfig, "data")
    config: DataConfig = parse(parser, ["--data", configs[0]]).data
    return config


def values_of(option: str, words: list[str]) -> list[str]:
    """The values of an option among the words."""
    after = [b for a, b in pairwise(words) if a == option]
    return after + [word.partition("=")[2] for word in words if word.startswith(option + "=")]


def check_text(option: str, values: list[str]) -> None:
    """Raise ConfigError unless the values name text files: a data file is easily given instead."""
    for value in values:
        path = Path(value)
        if value.lstrip().startswith(("{", "[")):
            continue  # written out on the command line
        if not path.exists():
            near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, near, 1, 0.6)
            raise ConfigError(
                f"{option}: {value} does not exist."
                + (f" Did you mean {str(path.parent / close[0])!r}?" if close else "")
            )
        if path.is_dir() or is_binary(path):
            kind = "a folder" if path.is_dir() else "no text file"
            way_out = (
                f" For files of fields, write one: matey data inspect {value} --write mix.yaml"
                if option == "--data"
                else ""
            )
            raise ConfigError(f"{option}: {value} is {kind}, expected a YAML file.{way_out}")


def is_binary(path: Path) -> bool:
    """Whether a file starts with bytes that no text has."""
    with path.open("rb") as file:
        start = file.read(512)
    return b"\0" in start or start.startswith((b"\x89", b"\x93", b"PK", b"CDF"))


def anchor_paths(options: Namespace, words: list[str]) -> None:
    """Make the paths to data relative to the YAML file that names them; `~` is the home."""
    folder = Path()
    source = options.data.get("__path__")
    if source is not None:
        folder = Path(str(source.absolute)).parent
    elif not any(word.startswith("--data.systems") for word in words):
        for config in options.get("config") or ():
            settings = load_yaml(Path(str(config.absolute)).read_text(encoding="utf-8"))
            data = settings.get("data") if isinstance(settings, dict) else None
            if isinstance(data, dict) and "systems" in data:
                folder = Path(str(config.absolute)).parent
    for system in options.data.systems or ():
        system.paths = tuple(str(folder / Path(path).expanduser()) for path in system.paths)


def run_config(options: Namespace) -> RunConfig:
    """A run's config from the options of its fields' names."""
    names = [field.name for field in fields(RunConfig) if field.name in options]
    config = RunConfig(**{name: options[name] for name in names})
    few = options.get("trajectories")
    return config if few is None else replace(config, data=replace(config.data, trajectories=few))


def explain(parser: Parser, message: str, words: list[str]) -> str:
    """A parser's complaint as one line, with a suggestion where a name is unknown."""
    message = " ".join(message.replace("Parser key", "option").split())
    message = re.sub(r"Problem with given class_path '[^']*': ", "", message)
    choices = set(re.findall(r"typing\.Literal\[(.*?)\]", message))
    if len(choices) == 1 and "'int'" not in message:  # one of some names, or a list of them
        names = re.findall(r"[\w-]+", choices.pop())
        words_given = re.findall(r"value: \W*([\w-]+)", message)
        name = next((word for word in words_given if word not in names), None)
        if name is not None:
            wrong = f"{name!r} is unknown. {nearest(name, names)}"
            message = re.sub(r"(Does not validate|Expected a) .*", wrong, message)
    unknown = re.search(r"(?i)option '([^']+)'|arguments?:? (--\S+)", message)
    if unknown:
        key = (unknown[1] or unknown[2]).lstrip("-").split("=")[0].replace("-", "_")
        keys = {a.dest: str(a.help or "") for a in parser._actions if a.dest != "help"}
        if '"data.systems"' in message:
            keys = {field.name: "" for field in fields(SourceConfig)}
        group = re.search(r"Group '([^']+)'", message)
        inner = (f"{group[1]}.{key}" if group else key).rpartition(".")[0]
        names = [dest.removeprefix(f"{inner}.") for dest in keys if dest.startswith(f"{inner}.")]
        if "." in inner and names:
            message = message.rstrip(".") + f". {inner} has {', '.join(names)}."
        elif close := nearest_key(key, keys):
            message = message.rstrip(".") + f". Did you mean {close!r}?"
    files = [word for word in words if word.endswith((".yaml", ".yml")) and Path(word).exists()]
    return message + (f" (read {', '.join(files)})" if files else "")


def nearest_key(key: str, keys: Mapping[str, str]) -> str | None:
    """The key spelt most alike, as a whole or by its last part; else the one whose description has
    all words of the unknown one, so that `learning_rate` finds `optim.lr`."""
    leaf = key.split(".")[-1]
    leaves = {dest.split(".")[-1]: dest for dest in keys}
    alike = 0.75 if len(leaf) > 3 else 0.6  # two letters in another order are much of a short word
    close = difflib.get_close_matches(key, keys, 1, alike)
    close = close or [leaves[k] for k in difflib.get_close_matches(leaf, leaves, 1, alike)]
    if close:
        return close[0]
    described = []
    for dest, text in keys.items():
        vocabulary = re.findall(r"[a-z]+", text.lower())
        if all(difflib.get_close_matches(word, vocabulary, 1, 0.8) for word in leaf.split("_")):
            described.append((len(text), dest))
    return min(described)[1] if described else None
