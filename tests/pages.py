"""The commands and programs on the pages of the documentation, and a terminal for them.

The blocks of a page are taken in order, as a reader would: those in bash by one real bash, so that
variables, patterns, here documents and `cd` are its own, those in Python by this process. Programs
are played by functions of that bash, which ask this process for each command: `matey` is the real
one, called without a new Python. A program that nothing plays ends the page with an error.
"""

import ast
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from matey.cli import FAMILIES, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Options that a command gets when pages are run, in place of the same options on the page.
SMOKE = {
    "simulate": "--trajectories 4 --resolution 32 --steps 8 --jobs 1",
    "train": "--steps 2 --batch 2 --validate_windows 2 --model.embed_dim 24 --model.depth 2",
    "tune": "--budget 1min --steps 2 --batch 2 --validate_windows 2 --model.embed_dim 24",
    "benchmark": "--batch 2 --model.embed_dim 24 --model.depth 2",
    "finetune": "--steps 2 --batch 2 --validate_windows 2",
    "evaluate": "--rollout 2 --windows 2",
    "docs/pictures.py": "--resolution 32",
}
# Commands that are looked at, not run, and why.
NOT_RUN = {"demo": "tests/cli/test_demo.py runs it", "study": "tests/studies run them"}
# Words of a command that need a package; where that is missing, the command is looked at only.
NEEDS = {"fno": "neuralop"}
# Other programs that pages may use. Those of the shell run; the rest are looked at, not run, but
# for Python files that SMOKE names or that the page itself wrote.
SHELL = ("cat", "mkdir", "ls", "head", "tail", "cp", "grep", "wc", "cut")
LOOKED_AT = ("make", "pip", "python", "torchrun", "tensorboard")
PRELUDE = """\
set -eu
ask() {
    local code
    printf '%s\\0' "$#" "$PWD" "$@" >&"$ASK"
    read -r code <&"$ANSWER"
    cat "$SAID"
    return "$code"
}
srun() { "$@"; }          # a cluster's own words: the command runs here, once
scontrol() { :; }
command_not_found_handle() { echo "no test knows the program $1" >&2; exit 127; }
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, the line that the text begins at, and its
    title, which is the file that it belongs into."""

    language: str
    text: str
    line: int
    title: str = ""


class UnknownCommandError(Exception):
    """A command on a page is not one that the tool has."""


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    fences = r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$'
    return [
        Block(match[1], match[3], text.count("\n", 0, match.start(3)) + 1, match[2] or "")
        for match in re.finditer(fences, text, re.MULTILINE | re.DOTALL)
        if match[1] in languages
    ]


def inline(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command within a sentence of a page: a program that CHECKS has, and its words.

    `matey COMMAND` is not one.
    """
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for match in re.finditer(rf"`({'|'.join(CHECKS)}) ([^`]+)`", prose):
        words = shlex.split(match[2])
        if not (words[0].isalpha() and words[0].isupper()):
            yield match[1], words


# What a command may be


@cache
def options_of(family: str, word: str) -> frozenset[str]:
    """The options of one command, by the parser that it has."""
    from matey.cli.options import add_common, make_parser

    command = import_module(f"matey.cli.{family}").COMMANDS[word]
    parser = make_parser(f"matey {family}", command.help, command.example)
    command.add_arguments(parser)
    add_common(parser)
    return frozenset(parser._option_string_actions)


def check_matey(words: list[str]) -> None:
    """Raise UnknownCommandError for a command or an option that `matey` does not have."""
    if not words or words[0] in ("--help", "--version"):
        return
    family, *rest = words
    if family not in FAMILIES:
        raise UnknownCommandError(f"matey {family}: no such command")
    commands = import_module(f"matey.cli.{family}").COMMANDS
    word = rest[0] if rest and rest[0] in commands else ""
    if word:
        rest.pop(0)
    elif "" not in commands:
        word = rest.pop(0) if rest else "--help"
    if word == "--help":
        return
    if word not in commands:
        raise UnknownCommandError(f"matey {family} {word}: no such command")
    if "--" in rest:  # what follows is a command of its own
        check_matey(rest[rest.index("--") + 1 :])
        rest = rest[: rest.index("--")]
    check_options(f"matey {family} {word}".strip(), rest, options_of(family, word))


@cache
def options_of_script(script: Path) -> frozenset[str]:
    """The options that a script adds to its parser, and those that all benchmarks share if it has
    these."""
    found = {"--help"}
    for call in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        match call:
            case ast.Call(func=ast.Attribute(attr="add_argument")):
                texts = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
                found |= {text for text in texts if text.startswith("--")}
            case ast.Call(func=ast.Name(id="options")):
                found |= options_of_script(script.parent / "common.py")
    return frozenset(found)


def check_options(command: str, words: list[str], known: frozenset[str]) -> None:
    """Raise UnknownCommandError for an option that is not among those known."""
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        if option not in known:
            raise UnknownCommandError(f"{command} has no option {option}")


def check_make(words: list[str]) -> None:
    """Targets are those of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
    unknown = {word for word in words if "=" not in word and not word.startswith("-")} - known
    if unknown:
        raise UnknownCommandError(f"make has no target {', '.join(sorted(unknown))}")
    if "install" in words:  # pages go on with what it makes
        Path(".venv/bin").mkdir(parents=True, exist_ok=True)
        Path(".venv/bin/activate").touch()


def check_pip(words: list[str]) -> None:
    """`pip install` of this package, with extras that it has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, extras = project["name"], project["optional-dependencies"]
    for word in words[1:]:
        found = re.fullmatch(rf"(?:{name}|\.)(?:\[([\w,]+)\])?|-e|--upgrade", word)
        if words[0] != "install" or not found:
            raise UnknownCommandError(f"pip {shlex.join(words)}: not an installation of {name}")
        if found[1] and set(found[1].split(",")) - set(extras):
            raise UnknownCommandError(f"pip {shlex.join(words)}: {name} has extras {list(extras)}")


def check_python(words: list[str]) -> None:
    """`python FILE`: a file of this repository that has the options it is given, or one that the
    page wrote, which hands its words over to `matey`."""
    if words == ["-O"]:  # of Python itself
        return None
    if words[:2] == ["-m", "matey"]:
        return check_matey(words[2:])
    own, script = Path(words[0]), ROOT / words[0]
    if own.is_file() and not own.resolve().is_relative_to(ROOT):
        return check_matey(words[1:]) if "matey.cli import main" in own.read_text() else None
    if not script.is_file():
        raise UnknownCommandError(f"python {words[0]}: no such file in the repository")
    return check_options(f"python {words[0]}", words[1:], options_of_script(script))


def check_torchrun(words: list[str]) -> list[str]:
    """torchrun's own options by its own parser; the words of the `matey` that it starts."""
    from torch.distributed.run import get_args_parser

    read = get_args_parser().parse_args(words)
    if not read.module or read.training_script != "matey" or "--" not in words:
        raise UnknownCommandError(f"torchrun {shlex.join(words)}: expected -m matey -- COMMAND")
    inner = words[words.index("--") + 1 :]
    check_matey(inner)
    return inner


CHECKS: dict[str, Callable[[list[str]], object]] = {
    "matey": check_matey,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "torchrun": check_torchrun,
    "tensorboard": lambda words: check_options("tensorboard", words, frozenset({"--logdir"})),
}


def check_inline(page: Path) -> None:
    """Raise UnknownCommandError for a command within a sentence that there is not."""
    for program, words in inline(page):
        CHECKS[program](words)


# Running


def at_smoke_size(words: list[str]) -> list[str]:
    """A command with the options that SMOKE has for it."""
    smoke = shlex.split(SMOKE.get(words[0], ""))
    for option in smoke[::2]:
        while option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
        words = [word for word in words if not word.startswith(option + "=")]
    return words + smoke


def run_command(program: str, words: list[str]) -> int:
    """Run `matey` and scripts, small; look at other programs. The exit code."""
    CHECKS[program](words)
    if program == "python" and words[:2] == ["-m", "matey"]:
        program, words = "matey", words[2:]
    if program == "torchrun":
        check_readable(check_torchrun(words))
    if program == "python":
        return run_script(words)
    missing = [word for word in words if word in NEEDS and find_spec(NEEDS[word]) is None]
    if program != "matey" or words[0] in NOT_RUN or missing:
        return 0
    if words[0] == "launch":
        if "--dry-run" not in words:
            raise UnknownCommandError("matey launch without --dry-run submits a job")
        check_readable(words[words.index("--") + 1 :])
    return main(at_smoke_size(words))


def run_script(words: list[str]) -> int:
    """Run a Python file that SMOKE names, or that the page wrote, in this process."""
    script, *options = words
    own = Path(script).is_file() and not Path(script).resolve().is_relative_to(ROOT)
    if not own and script not in SMOKE:
        return 0
    options = at_smoke_size(options) if own else at_smoke_size(words)[1:]
    before = sys.argv
    sys.argv = [script, *options]
    try:
        runpy.run_path(script if own else str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def check_readable(words: list[str]) -> None:
    """A training that is not run: all of its options and files are read."""
    from matey.cli.launch import check_command

    check_command(words)


class Terminal:
    """A bash in a folder, for the blocks of one page.

    With `run` false, commands and programs are looked at only: nothing is computed.
    `said` is the transcript.
    """

    def __init__(self, folder: Path, run: bool) -> None:
        self.folder = folder
        self.run = run
        self.names: dict[str, object] = {"__name__": "page"}
        self.said: list[str] = []
        self.page: list[Block] = []

    def take(self, page: list[Block], variables: dict[str, str]) -> int:
        """Take all blocks; the exit code of the first command that fails, else 0."""
        self.page = page
        room = self.folder / ".terminal"
        if not room.exists():
            (room / "bin").mkdir(parents=True)
            for program in SHELL:
                (room / "bin" / program).symlink_to(shutil.which(program))
        functions = "".join(f'{p}() {{ ask {p} "$@"; }}\n' for p in ("matey", *LOOKED_AT))
        if not self.run:  # what commands would have written is not there
            functions += "".join(f'{p}() {{ command {p} "$@" || :; }}\n' for p in SHELL)
        parts = [
            block.text if block.language == "bash" else f"ask block {number}\n"
            for number, block in enumerate(page)
        ]
        (room / "script").write_text(PRELUDE + functions + "\n".join(parts), encoding="utf-8")
        asked, ask = os.pipe()
        answer, answered = os.pipe()
        places = {
            "PATH": str(room / "bin"),
            "ASK": str(ask),
            "ANSWER": str(answer),
            "SAID": str(room / "said"),
        }
        with (
            (room / "log").open("wb") as log,
            subprocess.Popen(
                [shutil.which("bash"), "--noprofile", "--norc", str(room / "script")],
                cwd=self.folder,
                env=places | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(ask, answer),
            ) as shell,
        ):
            os.close(ask)
            os.close(answer)
            # Where this process raises an error, the pipes close, and bash ends.
            with open(asked, "rb") as questions, open(answered, "wb", buffering=0) as answers:
                for words in self.questions(questions):
                    code = self.answer(words, room / "said")
                    answers.write(f"{code}\n".encode())
        self.said.append((room / "log").read_text())
        return shell.returncode

    @staticmethod
    def questions(pipe: io.BufferedReader) -> Iterator[list[str]]:
        """What bash asks for, until it ends: a folder, a program and its words."""
        rest = b""
        while chunk := pipe.read1():
            rest += chunk
            while (parts := rest.split(b"\0"))[1:] and len(parts) > int(parts[0]) + 2:
                count = int(parts[0]) + 2
                yield [part.decode() for part in parts[1:count]]
                rest = b"\0".join(parts[count:])

    def answer(self, words: list[str], said: Path) -> int:
        """Do what bash asks for, where it is; the exit code."""
        where, program, *rest = words
        began = time.monotonic()
        output = io.StringIO()
        with chdir(where), redirect_stdout(output), redirect_stderr(output):
            try:
                if program == "block":
                    code = self.python(self.page[int(rest[0])])
                elif self.run:
                    code = run_command(program, rest)
                else:
                    code = CHECKS[program](rest) and 0
            except UnknownCommandError as error:
                print(error)
                code = 1
        said.write_text(output.getvalue())
        took = f"{time.monotonic() - began:.1f} s"
        self.said.append(f"$ {shlex.join(words[1:])}\n[{code or 0}, {took}]")
        return code or 0

    def python(self, block: Block) -> int:
        """Run a program of the page, and the tests without arguments that it defines."""
        code = compile("\n" * (block.line - 1) + block.text, "page", "exec")
        if self.run:
            before = set(self.names)
            exec(code, self.names)
            for name in sorted(set(self.names) - before):
                test = self.names[name]
                if name.startswith("test_") and test.__code__.co_argcount == 0:
                    test()
        return 0
