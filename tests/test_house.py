"""The rules of the house, enforced on the syntax trees of the package."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
LAYERS = (
    {"errors", "device", "fields", "config", "output", "records", "words"},
    {"tokens", "metrics", "simulate"},
    {"nn", "data"},
    {"cost", "hub"},
    {"train", "evaluate"},
    {"studies", "report"},
    {"cli"},
)
LAYER = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
ROOT = "the package"  # matey/__init__.py and __main__.py

FIELD_FILES = {"h5py", "netCDF4", "xarray", "zarr"}
OPENS_FIELD_FILES = {"data", "fields/field.py", "cli/doctor.py"}
LOADS_RESULTS = {"data", "report"}
HEAVY = {"torch", "numpy", "einops", "matplotlib", "jaxtyping", *FIELD_FILES}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
UNSAFE_FLAGS = {("weights_only", False), ("allow_pickle", True)}
UNSAFE_LOADERS = {f"{c}{kind}Loader" for c in ("", "C") for kind in ("", "Full", "Unsafe")}
LONGEST_FUNCTION = 80
LONGEST_MODULE = 350
MOST_MODULES = 16  # in a folder, but for the simulators, of which there is one a system


def room_of(path: str) -> str:
    """The room that a module, given relative to the package, belongs to."""
    first = path.split("/")[0].removesuffix(".py")
    return ROOT if first in ("__init__", "__main__") else first


def imported(node: ast.AST, path: str) -> list[str]:
    """Full names of what an import statement reaches for."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = ["matey", *path.split("/")[:-1]]
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        return [f"{module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] == "import_module":
        literal = node.args[0] if node.args else None
        return [literal.value] if isinstance(literal, ast.Constant) else []
    return []


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute, else an empty string."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def names_in(node: ast.AST) -> set[str]:
    """The last name or the text that this node itself spells."""
    spelt = getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "value", None)
    return {text for text in spelt if isinstance(text, str)}


def checking_only(tree: ast.AST) -> set[ast.AST]:
    """Statements under `if TYPE_CHECKING:`, which never run."""
    blocks = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")
    )
    return {inner for block in blocks for part in block.body for inner in ast.walk(part)}


def import_violations(name: str, path: str, node: ast.AST, top_level: bool) -> Iterator[str]:
    """What is wrong with importing `name` in the module at `path`."""
    room = room_of(path)
    parts = name.split(".")
    if parts[0] == "matey" and len(parts) > 1 and parts[1] in LAYER and room in LAYER:
        other = parts[1]
        within = other == room or LAYER[other] == LAYER[room] == 0
        if not within and LAYER[other] >= LAYER[room]:
            yield f"{room} (layer {LAYER[room]}) imports {other} (layer {LAYER[other]})"
    if room == ROOT and top_level and (parts[0] in HEAVY or name.startswith("matey.fields")):
        yield f"{name} is heavy, and imported with the package"
    if parts[0] in FIELD_FILES and not {room, path} & OPENS_FIELD_FILES:
        yield f"only data opens field files, but {room} imports {parts[0]}"
    if parts[0] in FIELD_FILES and path == "fields/field.py" and top_level:
        yield f"{parts[0]} is imported before it is used"
    if name.startswith("torch.distributed") and room != "train":
        yield f"only train uses torch.distributed, but {room} imports it"
    if parts[0] == "huggingface_hub" and room != "hub":
        yield f"only hub talks to a hub, but {room} imports {parts[0]}"
    if parts[0] in UNSAFE_MODULES:
        yield f"{parts[0]} runs code from files"


def call_violations(call: ast.Call, path: str) -> Iterator[str]:
    """What is wrong with one call in the module at `path`."""
    room, name = room_of(path), dotted(call.func)
    flags = {
        (keyword.arg, keyword.value.value)
        for keyword in call.keywords
        if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool)
    }
    if name == "print" and room != "cli":
        yield "only cli prints"
    if name in ("eval", "exec"):
        yield f"{name} runs text as code"
    if name in ("np.load", "numpy.load") and room not in LOADS_RESULTS:
        yield f"only data opens field files, but {room} calls np.load"
    if name in ("np.load", "numpy.load") and "allow_pickle" not in dict(flags):
        yield "np.load without allow_pickle=False"
    for flag, value in flags & UNSAFE_FLAGS:
        yield f"{flag}={value} runs code from files"
    if name.startswith("yaml.") and name.endswith(("load", "load_all")):
        yield f"{name}: YAML is read by plain_yaml"
    if name in ("torch.load", "torch.save"):
        yield f"{name} is pickle"


def body_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, its docstring not counted."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def violations(source: str, path: str) -> list[str]:
    """Every broken rule in a module's source, as `path:line: what`.

    `path` is relative to the package, with forward slashes.
    """
    tree = ast.parse(source)
    unexecuted = checking_only(tree)
    broken: list[tuple[int, str]] = []
    lines = len(source.splitlines())
    if lines > LONGEST_MODULE:
        broken.append((1, f"the module has {lines} lines, over {LONGEST_MODULE}"))
    if ast.get_docstring(tree) is None:
        broken.append((1, "the module has no docstring"))
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if node not in unexecuted:
            names = imported(node, path)
            problems = [
                problem
                for name in names
                for problem in import_violations(name, path, node, node in tree.body)
            ]
            broken += [(line, problem) for problem in dict.fromkeys(problems)]
        if isinstance(node, ast.Call):
            broken += [(line, problem) for problem in call_violations(node, path)]
        loaders = names_in(node) & UNSAFE_LOADERS
        broken += [(line, f"{loader} is no loader of plain data") for loader in loaders]
        reached = isinstance(node, ast.Attribute) and dotted(node).startswith("torch.distributed.")
        if reached and room_of(path) != "train":
            broken.append((line, "only train uses torch.distributed"))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = body_length(node)
            if length > LONGEST_FUNCTION:
                broken.append((line, f"{node.name} has {length} lines, over {LONGEST_FUNCTION}"))
    return [f"{path}:{line}: {problem}" for line, problem in sorted(broken)]


def modules() -> list[Path]:
    return sorted((SOURCE / "matey").rglob("*.py"))


def test_every_module_keeps_the_rules_of_the_house():
    broken = [
        violation
        for module in modules()
        for violation in violations(
            module.read_text(encoding="utf-8"), module.relative_to(SOURCE / "matey").as_posix()
        )
    ]
    assert not broken, "\n" + "\n".join(broken)


def test_no_folder_holds_too_many_modules():
    named = [module for module in modules() if module.name != "__init__.py"]
    counts = Counter(module.parent.relative_to(SOURCE).as_posix() for module in named)
    del counts["matey/simulate"]
    assert not {folder: n for folder, n in counts.items() if n > MOST_MODULES}


def test_every_room_has_a_layer():
    rooms = {room_of(m.relative_to(SOURCE / "matey").as_posix()) for m in modules()}
    assert rooms <= {*LAYER, ROOT}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("tokens/bad.py", "from matey.nn import model", "tokens (layer 1) imports nn (layer 2)"),
        ("tokens/bad.py", "from matey import nn", "tokens (layer 1) imports nn (layer 2)"),
        ("tokens/bad.py", "from ..nn.model import Model", "tokens (layer 1) imports nn"),
        ("tokens/bad.py", "from importlib import import_module as i", None),
        ("nn/bad.py", "import matey.data.reader", "nn (layer 2) imports data (layer 2)"),
        ("metrics/bad.py", "from matey.tokens import pack", "metrics (layer 1) imports tokens"),
        ("train/bad.py", "from matey.evaluate import score", "train (layer 4) imports evaluate"),
        ("errors.py", "from matey.fields import Field", None),
        ("nn/good.py", "from matey.nn.block import Block\nfrom matey.tokens import pack", None),
        ("nn/bad.py", "def f():\n    import_module('matey.cli')", "nn (layer 2) imports cli"),
        ("nn/bad.py", "def f():\n    import h5py", "only data opens field files"),
        ("report/bad.py", "import xarray", "only data opens field files"),
        ("data/good.py", "import h5py", None),
        ("fields/field.py", "import xarray", "is imported before it is used"),
        ("fields/field.py", "def to_xarray():\n    import xarray", None),
        ("nn/bad.py", "import numpy as np\nnp.load('x', allow_pickle=False)", "calls np.load"),
        ("report/good.py", "np.load('x', allow_pickle=False)", None),
        ("report/bad.py", "np.load('x')", "without allow_pickle=False"),
        ("data/bad.py", "np.load('x', allow_pickle=True)", "allow_pickle=True runs code"),
        ("nn/bad.py", "import torch.distributed as dist", "only train uses torch.distributed"),
        ("nn/bad.py", "from torch import distributed", "only train uses torch.distributed"),
        ("nn/bad.py", "torch.distributed.barrier()", "only train uses torch.distributed"),
        ("train/good.py", "import torch.distributed as dist", None),
        ("train/bad.py", "print('loss')", "only cli prints"),
        ("cli/good.py", "print('loss')", None),
        ("data/bad.py", "import pickle", "pickle runs code from files"),
        ("cli/bad.py", "def f():\n    import huggingface_hub", "only hub talks to a hub"),
        ("hub.py", "def f():\n    from huggingface_hub import HfApi", None),
        ("config/bad.py", "eval('1 + 1')", "eval runs text as code"),
        ("config/bad.py", "exec('x = 1')", "exec runs text as code"),
        ("nn/good.py", "model.eval()", None),
        ("nn/bad.py", "load('x', weights_only=False)", "weights_only=False runs code"),
        ("nn/bad.py", "torch.load('x')", "torch.load is pickle"),
        ("cli/bad.py", "yaml.load(text, Loader=yaml.SafeLoader)", "YAML is read by plain_yaml"),
        ("cli/bad.py", "yaml.full_load_all(text)", "YAML is read by plain_yaml"),
        ("cli/bad.py", "yaml.safe_load(text)", "YAML is read by plain_yaml"),
        ("cli/good.py", "plain_yaml(text, StrictLoader)", None),
        ("data/bad.py", "plain_yaml(text, yaml.Loader)", "Loader is no loader of plain data"),
        ("data/bad.py", "getattr(yaml, 'FullLoader', SafeLoader)", "FullLoader is no loader"),
        ("data/good.py", "getattr(yaml, 'CSafeLoader', SafeLoader)", None),
        ("__init__.py", "import torch", "is heavy"),
        ("__init__.py", "def f():\n    import torch", None),
        ("nn/long.py", "def f():\n" + "    x = 1\n" * 81, "f has 81 lines, over 80"),
        ("nn/good.py", "def f():\n" + "    x = 1\n" * 80, None),
        ("nn/long.py", "x = 1\n" * 349, "the module has 351 lines, over 350"),
        ("nn/good.py", "x = 1\n" * 348, None),
        (
            "nn/good.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import xarray",
            None,
        ),
    ],
)
def test_the_checker_finds_violations_and_only_violations(path, source, complaint):
    broken = violations(f'"""A module."""\n{source}\n', path)
    if complaint is None:
        assert broken == []
    else:
        assert len(broken) == 1
        assert complaint in broken[0]


def test_a_module_without_a_docstring_is_found():
    assert violations("x = 1\n", "nn/bad.py") == ["nn/bad.py:1: the module has no docstring"]
