"""Options: YAML files and the command line into config dataclasses, with strict errors."""

import difflib
import re
from argparse import RawDescriptionHelpFormatter
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace, set_loader

from matey.config import RunConfig
from matey.errors import ConfigError, MateyError


class StrictLoader(yaml.SafeLoader):
    """Plain YAML data only: no tags that make objects, no duplicate keys, no aliases.

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
        return yaml.load(text, Loader=StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"Not valid YAML: {error}") from error


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


def parse(parser: Parser, words: list[str]) -> Namespace:
    """The options, or ConfigError with the nearest key to a misspelt one."""
    try:
        options = parser.parse_args(words)
        if isinstance(options.get("data"), Namespace):
            anchor_paths(options.data)
        return parser.instantiate(options)
    except MateyError:
        raise
    except (ArgumentError, TypeError, ValueError, OSError) as error:
        raise ConfigError(explain(parser, str(error), words)) from error


def anchor_paths(data: Namespace) -> None:
    """Make the paths in a data config relative to the YAML file that names them."""
    source = data.get("__path__")
    if source is None:
        return
    folder = Path(str(source.absolute)).parent
    for system in data.systems:
        system.paths = tuple(str(folder / path) for path in system.paths)


def run_config(options: Namespace, **given: Any) -> RunConfig:
    """A run's config from the options of its fields' names, and those given instead."""
    names = [field.name for field in fields(RunConfig) if field.name in options]
    return RunConfig(**{**{name: options[name] for name in names}, **given})


def explain(parser: Parser, message: str, words: list[str]) -> str:
    """A parser's complaint as one line, with a suggestion where a name is unknown."""
    message = " ".join(message.replace("Parser key", "option").split())
    unknown = re.search(r"(?i)option '([^']+)'|arguments?:? (--\S+)", message)
    known = [action.dest for action in parser._actions if action.dest != "help"]
    if unknown:
        key = (unknown[1] or unknown[2]).lstrip("-").split("=")[0]
        leaves = {dest.split(".")[-1]: dest for dest in known}
        close = difflib.get_close_matches(key, known, 1, 0.6)
        close = close or [leaves[k] for k in difflib.get_close_matches(key, leaves, 1, 0.6)]
        if close:
            message += f". Did you mean {close[0]!r}?"
    files = [word for word in words if word.endswith((".yaml", ".yml")) and Path(word).exists()]
    return message + (f" (read {', '.join(files)})" if files else "")
