"""The commands and programs on the pages of the documentation do what the pages say."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from contextlib import chdir
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from matey.cli import main
from matey.cli.options import load_yaml, make_parser, parse
from matey.config import DataConfig, RunConfig
from matey.data.trajectories import open_source
from matey.data.write import write_well
from matey.fields import Boundary
from matey.nn.local.stencil import WIDTHS
from matey.records import shipped
from matey.simulate import SYSTEMS, simulate
from matey.tokens import criteria
from tests.pages import (
    PAGES,
    ROOT,
    Block,
    Terminal,
    UnknownCommandError,
    at_smoke_size,
    blocks,
    check_inline,
    inline,
)
from tests.refined import write_flash
from tests.shipping import ship
from tests.stencils import NARROW

pytestmark = pytest.mark.usefixtures("narrow_stencils")

FORMATS = ROOT / "docs/formats.md"
ADDITIONS = [ROOT / "docs/extending.md", ROOT / "docs/readers.md"]  # whose code goes into files
ENVIRONMENT = {
    "PDEBENCH": "pdebench",
    "THERMALS": "thermals",
    "CAVITY": "cavity",
    "SLURM_JOB_ID": "1",
}

# What pages take for granted: files of the reader's own, and what another page made. A path's
# ending says what it is: a folder or .h5 are fields in the Well's layout, .nc is one trajectory as
# NetCDF, .npz an archive of the layout on the page of formats, .yaml the data config of a system
# or a copy of an example, runs/ a trained model, results/ its scores.
USUAL = {"mix.yaml": "shallow_water", "data/swe": "shallow_water", "runs/a": "shallow_water"}
STAND_INS = {
    "README.md": {
        "pdebench/diffre2d": "diffusion_reaction",
        "pdebench/swe": "shallow_water",
        "pdebench/incompNS": "incompressible",
        "pdebench/compNS": "compressible",
        "2D_rdb_NA_NA.h5": "shallow_water",
        "thermals/thermals_000.nc": "thermals",
        "thermals/thermals_001.nc": "thermals",
        "thermals/thermals_002.nc": "thermals",
    },
    "baselines.md": {"mix.yaml": "shallow_water"},
    "clusters.md": {"mix.yaml": "shallow_water"},
    "distributed.md": {"mix.yaml": "shallow_water", "run.yaml": "examples/pretrain-nano.yaml"},
    "ensembles.md": {
        "runs/a": "shallow_water",
        "data.yaml": "shallow_water",
        "data/test": "shallow_water",
    },
    "finetuning.md": {
        "runs/a": "shallow_water",
        "thermals/a_000.nc": "thermals",
        "thermals/a_001.nc": "thermals",
        "thermals/a_002.nc": "thermals",
    },
    "formats.md": {
        "data/2D_rdb_NA_NA.h5": "shallow_water",
        "data/swe": "shallow_water",
        "plumes/plumes.npz": "",
        **{f"out/sod_hdf5_plt_cnt_{n:04d}": "" for n in range(12)},
        "runs/a": "shallow_water",
        "new/run7.nc": "shallow_water",
    },
    "index.md": {"my/file.h5": "shallow_water"},
    "large-domains.md": {
        "initial.nc": "shallow_water",
        "mix.yaml": "shallow_water",
        "runs/a": "shallow_water",
    },
    "metrics.md": {"mix.yaml": "shallow_water", "runs/a": "shallow_water"},
    "model.md": {
        "mix.yaml": "shallow_water",
        "initial.nc": "shallow_water",
        "runs/a": "shallow_water",
    },
    "pretrained.md": {
        "mine.yaml": "shallow_water",
        "water.yaml": "shallow_water",
        "new.nc": "shallow_water",
        "runs/a": "shallow_water",
    },
    "report.md": {
        "runs/a": "shallow_water",
        "results": "shallow_water",
        "studies/tokens/one": "results of shallow_water",
    },
    "results.md": {
        "pdebench/diffre2d": "diffusion_reaction",
        "pdebench/swe": "shallow_water",
        "pdebench/incompNS": "incompressible",
        "pdebench/compNS": "compressible",
        "thermals": "thermals",
        "cavity": "mhd_cavity",
    },
    "rollouts.md": {"mix.yaml": "shallow_water", "runs/a": "shallow_water"},
    "scaling.md": {"mix.yaml": "shallow_water"},
    "studies.md": {"mix.yaml": "shallow_water", "studies/tokens/one": "results of shallow_water"},
    "tokens.md": USUAL,
    "training.md": {"mix.yaml": "shallow_water", "a.yaml": "examples/pretrain-nano.yaml"},
    "troubleshooting.md": USUAL | {"other.yaml": "burgers"},
}


@pytest.fixture(scope="session")
def stock(tmp_path_factory):
    """What stands in for the files of a page, made once: `stock(folder, path, system)`."""
    root = tmp_path_factory.mktemp("stock")

    @cache
    def field_of(system: str):
        return simulate(system, trajectories=8, resolution=32, steps=8, seed=0)

    @cache
    def well(system: str) -> Path:
        write_well(field_of(system), root / "well" / system, name=system)
        return root / "well" / system

    @cache
    def config(system: str) -> Path:
        path = root / f"{system}.yaml"
        text = {"systems": [{"name": system, "paths": [str(well(system))]}]}
        path.write_text(yaml.safe_dump(text))
        return path

    @cache
    def run(system: str) -> Path:
        words = f"train --config {ROOT}/examples/pretrain-nano.yaml --data {config(system)} --run"
        assert main(at_smoke_size([*words.split(), str(root / "run" / system)])) == 0
        return root / "run" / system

    @cache
    def results(system: str) -> Path:
        words = f"evaluate {run(system)} --data {config(system)} --out"
        assert main(at_smoke_size([*words.split(), str(root / "results" / system)])) == 0
        return root / "results" / system

    def put(folder: Path, path: str, system: str) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if system.startswith("examples/"):
            shutil.copy(ROOT / system, target)
        elif path == "run" or path.startswith("runs/"):
            shutil.copytree(run(system), target)
        elif path == "results" or system.startswith("results of "):
            shutil.copytree(results(system.removeprefix("results of ")), target)
        elif target.suffix == ".npz":
            write_plumes(target)
        elif "_hdf5_" in target.name:
            write_flash(target, time=0.1 * int(target.name[-4:]), seed=int(target.name[-4:]))
        elif target.suffix == ".yaml":
            shutil.copy(config(system), target)
        elif target.suffix == ".nc":
            number = int(target.stem[-1]) if target.stem[-1].isdigit() else 0
            field_of(system)[number].to_xarray().to_netcdf(target)
        elif target.suffix == ".h5":
            shutil.copy(next(well(system).rglob("*.h*5")), target)
        else:
            shutil.copytree(well(system), target)

    return put


def terminal(folder: Path, run: bool) -> Terminal:
    """A terminal in a folder that has the examples of the repository."""
    (folder / "examples").symlink_to(ROOT / "examples")
    return Terminal(folder, run)


@pytest.mark.parametrize("page", [p for p in PAGES if p not in ADDITIONS], ids=lambda p: p.stem)
def test_every_command_of_a_page_is_one_that_there_is(page, tmp_path):
    """Programs, commands, options, targets of make, extras of pip; Python that compiles."""
    shell = terminal(tmp_path, run=False)
    assert shell.take(blocks(page, "bash", "python"), ENVIRONMENT) == 0, "\n".join(shell.said)
    with chdir(tmp_path):
        check_inline(page)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "bash", "python") and page not in ADDITIONS],
    ids=lambda page: page.stem,
)
def test_a_page_runs_as_it_is_printed(page, tmp_path, stock, monkeypatch):
    monkeypatch.setattr(criteria, "CRITERIA", dict(criteria.CRITERIA))  # a page adds its own
    if page.name == "pretrained.md":  # whose `mini` may be none that ships yet
        for path in ("run", "results"):
            stock(tmp_path / "made", path, "shallow_water")
        assert ship(tmp_path / "made", tmp_path / "made/pretrained") == 0
        monkeypatch.setattr(shipped, "PRETRAINED", tmp_path / "made/pretrained")
    for path, system in STAND_INS.get(page.name, {}).items():
        stock(tmp_path, path, system)
    shell, parts = terminal(tmp_path, run=True), [blocks(page, "bash", "python")]
    if page.name == "README.md":  # whose `mini`, in its first tour, has stencils of the usual width
        after = 1 + next(i for i, block in enumerate(parts[0]) if "finetune mini" in block.text)
        parts = [parts[0][:after], parts[0][after:]]
        monkeypatch.setitem(WIDTHS, 2, 13)
    for part in parts:
        assert shell.take(part, ENVIRONMENT) == 0, "\n".join(shell.said)
        monkeypatch.setitem(WIDTHS, 2, NARROW[2])


def test_the_overview_leads_to_every_page():
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs/index.md").read_text())
    assert set(linked) == {page.name for page in PAGES} - {"README.md", "index.md"}


def test_the_page_of_installation_names_every_extra_and_what_dev_holds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    page = (ROOT / "docs/installation.md").read_text()
    rows = re.findall(r"^\| (`\w+`.*?) \| ", page, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(extras)
    (held,) = (re.fullmatch(r"matey-pde\[(.*)\]", line)[1].split(",") for line in extras["dev"])
    assert set(extras) - {*held, "dev"} == {"fno", "mesh", "wandb", "mlflow"}
    assert "`dev` | all of these but `fno`, `mesh`, `wandb` and `mlflow` |" in page


def test_the_page_of_watching_tells_every_kind_of_record():
    texts = (path.read_text() for path in (ROOT / "src/matey/train").glob("*.py"))
    written = re.findall(r"journal\.write\(\s*\"(\w+)\"", " ".join(texts))
    table = (ROOT / "docs/watching.md").read_text().split("| Kind |")[1].split("\n\n")[0]
    assert set(written) == set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


def test_the_page_of_systems_says_what_the_code_says():
    """`python docs/systems.py` writes it anew."""
    text = (ROOT / "docs/systems.md").read_text()
    names = [name for name in re.findall(r"^## (\w+)$", text, re.MULTILINE) if name in SYSTEMS]
    assert names
    assert runpy.run_path(str(ROOT / "docs/systems.py"))["page"](names) == text


def test_the_pictures_of_the_pages_are_small():
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    assert pictures
    assert all(path.stat().st_size < 100_000 for path in pictures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_settings_of_a_page_are_those_of_the_config(page):
    known = {field.name for config in (RunConfig, DataConfig) for field in fields(config)}
    for block in blocks(page, "yaml"):
        assert set(load_yaml(block.text)) <= known, f"{page.name}:{block.line}"


MISTAKES = [  # wherever they stand
    ("matey train --stepz 3", "matey train has no option --stepz"),
    ("pip install 'matey-pde[zar]'", "has extras"),
    ("python benchmarks/none.py", "no such file in the repository"),
    ("torchrun --standalone train.py", "expected -m matey"),
]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        *MISTAKES,
        ("matey trian --run runs/a", "matey trian: no such command"),
        ("matey data look x", "matey data look: no such command"),
        ("matey launch slurm --time 1h -- train --stepz 3", "train has no option --stepz"),
        ("make install && make demos", "make has no target demos"),
        ("pip install torchvision", "not an installation of matey-pde"),
        ("python docs/pictures.py --size 3", "has no option --size"),
        ("python docs/pictures.py --res 3", "has no option --res"),
        ("python benchmarks/adaptive.py --repeats 3 --tokens 3", "has no option --tokens"),
        ("curl example.org", "no test knows the program curl"),
        ("matey data inspect $NOWHERE", "NOWHERE: unbound variable"),
    ],
)
def test_a_command_that_there_is_not_is_found(line, complaint, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n```bash\nmatey doctor\n{line}\n```\n")
    shell = Terminal(tmp_path, run=False)
    assert shell.take(blocks(page, "bash"), {}) != 0
    assert complaint in "\n".join(shell.said)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        *MISTAKES,
        ("make PYTHON=python3.12 instal", "make has no target instal"),
        ("python benchmarks/step.py --repeat 5", "has no option --repeat"),
        ("tensorboard --log runs", "tensorboard has no option --log"),
    ],
)
def test_a_command_in_a_sentence_that_there_is_not_is_found(command, complaint, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Type `{command}`, or `matey COMMAND --help`, with `make` or `python -O`.\n")
    assert {program for program, _ in inline(page)} == {command.split()[0], "python"}
    with pytest.raises(UnknownCommandError, match=re.escape(complaint)):
        check_inline(page)


def test_blocks_go_on_where_those_before_them_ended(tmp_path):
    """With the variables, the folder, the files and the names in Python that these left."""
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nmkdir inner && cd inner\nname=one\ncat > $name.txt <<'EOF'\ntext\nEOF\n```\n"
        "```python\nfrom pathlib import Path\n\nfound = len(list(Path().glob('*.txt')))\n```\n"
        "```bash\nmatey simulate burgers --ndim 1 --out $name\n```\n"
        "```bash\nmatey data inspect o*[!t] | grep -c velocity_x\n```\n"
        "```python\ndef test_one():\n    assert found == 1 and Path('one').is_dir()\n```\n"
    )
    shell = Terminal(tmp_path, run=True)
    assert shell.take(blocks(page, "bash", "python"), {}) == 0, shell.said
    assert "$ matey data inspect one\n" in "".join(shell.said)


def test_a_test_on_a_page_that_fails_fails_here(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\ndef test_sums():\n    assert 1 + 1 == 3\n```\n")
    with pytest.raises(AssertionError):
        Terminal(tmp_path, run=True).take(blocks(page, "python"), {})


def write_plumes(path: Path) -> np.ndarray:
    """The archive that the page of formats describes; its array `state`."""
    state = np.random.default_rng(0).random((4, 5, 16, 8, 2))
    np.savez(
        path,
        state=state,
        ground=np.zeros((16, 8)),
        t=np.arange(5) * 0.1,
        x=np.arange(16.0),
        y=np.arange(8.0),
        Re=100.0,
    )
    return state


def test_the_description_of_the_page_reads_its_file(tmp_path):
    state = write_plumes(tmp_path / "plumes.npz")
    (tmp_path / "mix.yaml").write_text(blocks(FORMATS, "yaml")[0].text)
    parser = make_parser("test", "read a data config", "none")
    parser.add_argument("--data", type=DataConfig)
    config = parse(parser, ["--data", str(tmp_path / "mix.yaml")]).data
    fields = open_source(config.systems[0])
    field = fields[3]
    expected = state[3].transpose(0, 3, 2, 1).astype(np.float32)
    np.testing.assert_array_equal(field.values[:, :2, 0].numpy(), expected)
    assert [v.name for v in field.spec.variables] == ["tracer", "temperature", "ground"]
    assert field.spec.variables[1].units == "K"
    assert field.parameters == {"Re": 100.0, "g": 9.8}
    assert field.boundaries[1] == (Boundary.WALL, Boundary.OPEN)
    assert [t.split for t in fields.trajectories] == ["train"] * 3 + ["test"]


@dataclass(frozen=True)
class Addition:
    """What a page adds to the package: the lines of each file by its count, and the blocks."""

    name: str
    counts: dict[str, int]
    blocks: list[Block]

    def files(self) -> dict[str, str]:
        """The texts of all files that its blocks make or change, tests too."""
        texts: dict[str, str] = {}
        for block in (block for block in self.blocks if block.title):
            path = ROOT / block.title
            if block.language == "python":
                assert not path.exists()
                texts[block.title] = block.text
                continue
            text = texts.get(block.title, path.read_text(encoding="utf-8"))
            for hunk in block.text.split("@@\n"):
                rows = hunk.splitlines(keepends=True)
                before, after = (
                    "".join(row[1:] for row in rows if row[0] != sign) for sign in "+-"
                )
                assert text.count(before) == 1, f"{block.title} has no such place:\n{before}"
                text = text.replace(before, after)
            texts[block.title] = text
        return texts

    def added(self) -> dict[str, int]:
        """The number of lines that it adds to each file of the package."""
        lines: dict[str, int] = {}
        for block in (block for block in self.blocks if block.title.startswith("src/")):
            marks = "^[+]" if block.language == "diff" else "\n"
            new = len(re.findall(marks, block.text, re.MULTILINE))
            lines[block.title] = lines.get(block.title, 0) + new
        return lines


def additions() -> list[Addition]:
    """Every row of the table of additions, with the blocks of its section or page."""
    extending, readers = ADDITIONS
    text = extending.read_text(encoding="utf-8")
    headings = re.finditer(r"^## (.*)$", text, re.MULTILINE)
    starts = {match[1].lower(): text.count("\n", 0, match.start()) for match in headings}
    found = []
    for name, link, files in re.findall(r"^\| \[(.*?)\]\((.*?)\) \| (.*) \|$", text, re.MULTILINE):
        each = re.findall(r"`(.*?)`(?:, new)?: (\d+)", files)
        counts = {f"src/matey/{file}": int(lines) for file, lines in each}
        if link == readers.name:
            inside = blocks(readers, "python", "diff", "bash")
        else:
            end = min([at for at in starts.values() if at > starts[name]], default=10**6)
            every = blocks(extending, "python", "diff", "bash")
            inside = [block for block in every if starts[name] < block.line < end]
        found.append(Addition(name, counts, inside))
    return found


def test_the_page_has_an_addition_of_every_kind():
    kinds = "variable system criterion scheme mode term baseline metric reader"
    assert [addition.name.split()[1] for addition in additions()] == kinds.split()


@pytest.mark.parametrize("addition", additions(), ids=lambda addition: addition.name)
def test_an_addition_fits_the_files_and_has_the_lines_that_the_page_names(addition):
    assert addition.added() == addition.counts
    for path, text in addition.files().items():
        compile(text, path, "exec")


# Commands are played small, by Python processes of their own.
PLAYER = """
import runpy, sys
from tests.pages import at_smoke_size
from tests.stencils import narrow
narrow()
script, *words = sys.argv[1:]
sys.argv = [script, *at_smoke_size(words)]
if script == "matey":
    runpy.run_module("matey", run_name="__main__")
else:
    runpy.run_path(script, run_name="__main__")
"""
FOR_ALL = (  # tests that take what is added along
    "tests/test_house.py",
    "tests/nn/test_family.py::test_a_config_names_every_scheme_and_mode_that_there_is",
    "tests/evaluate/test_protocols.py",
    "tests/metrics/test_stretched.py",
)
SHELL = """set -eu
matey() { "$PYTHON" player.py matey "$@"; }
python() { "$PYTHON" player.py "$@"; }
"""


@pytest.mark.slow
@pytest.mark.parametrize("addition", additions(), ids=lambda addition: addition.name)
def test_an_addition_works_from_the_page_alone(addition, tmp_path, stock):
    """In a copy of the repository: its commands, its test, and those that list names."""
    for folder in ("src", "tests", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "player.py").write_text(PLAYER)
    for path, system in USUAL.items():
        stock(tmp_path, path, system)
    for path, text in addition.files().items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    tests = [block.title for block in addition.blocks if block.title.startswith("tests/")]
    assert tests
    if addition.name == "a reader":
        names: dict[str, Any] = {}
        exec(addition.files()["tests/data/layouts/test_plume.py"], names)
        names["write"](tmp_path / "plume.h5", runs=8, points=32)
    commands = "".join(block.text for block in addition.blocks if block.language == "bash")
    checks = f'"$PYTHON" -m pytest -q -m "not slow" {" ".join([*tests, *FOR_ALL])}\n'
    done = subprocess.run(
        ["bash", "-c", SHELL + checks + commands],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": f"{tmp_path}/src:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
