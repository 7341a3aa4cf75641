"""What docs/security.md promises. Damaged files are in test_fuzz.py, rules for code in
test_house.py."""

import ast
import getpass
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from matey.cli import FAMILIES, main
from tests.files import write_compressible, write_shallow_water
from tests.refusals import REFUSALS

ROOT = Path(__file__).parents[1]
SMALL = ["--model.embed_dim", "8", "--model.heads", "1", "--model.depth", "1"]
SMALL += ["--model.patches", "[8,4]", "--windows.history", "2", "--steps", "1", "--batch", "2"]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_what_must_be_refused_is_refused_by_a_named_error(refusal, tmp_path):
    assert refusal.fault(tmp_path) == ""


def test_the_same_is_refused_where_python_drops_asserts():
    command = [sys.executable, "-O", "-m", "tests.refusals"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith(f"{len(REFUSALS)} tried, asserts off")


def test_asserts_of_the_package_are_few_and_known():
    """They state invariants of our own; under -O nothing may depend on them. Those that tell the
    type checker of a class are not listed."""
    listed = {}
    for module in sorted((ROOT / "src/matey").rglob("*.py")):
        tests = [
            ast.unparse(node.test)
            for node in ast.walk(ast.parse(module.read_text()))
            if isinstance(node, ast.Assert)
        ]
        tests = [test for test in tests if not test.startswith("isinstance(")]
        if tests:
            listed[module.relative_to(ROOT / "src/matey").as_posix()] = tests
    assert listed == {
        "data/mixture.py": ["0 <= rank < ranks", "tokens is not None"],
        "data/resample/openpmd.py": ["found is not None"],
        "evaluate/ensembles.py": ["alone is not None", "moved is not None"],
        "nn/baselines/stencil.py": ["model.stencils is not None"],
        "nn/local/sandwich.py": [
            "all((points % self.piece == 0 for points in plan.before))",
            "features is not None",
        ],
        "records/files.py": ["is_dataclass(self)"],
        "tokens/regions.py": ["whole is not None"],
        "train/closed_form.py": ["model.stencils is not None"],
        "train/parallel/distributed.py": ["dist.group.WORLD is not None"],
        "train/parallel/ring.py": ["home is not None"],
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with two systems, and a secret in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATEY_TEST_SECRET", "correct-horse-battery")
    write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5")
    write_compressible(tmp_path / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_16_Train.hdf5")
    (tmp_path / "mix.yaml").write_text("systems: [{name: water, paths: [2D_rdb_NA_NA.h5]}]\n")
    return tmp_path


def train() -> None:
    assert main(["train", "--data", "mix.yaml", "--run", "runs/a", "--device", "cpu", *SMALL]) == 0


def test_a_model_folder_holds_no_environment_user_name_path_or_command_line(folder):
    train()
    tune = "finetune runs/a --data mix.yaml --run runs/b --steps 1 --device cpu"
    assert main(tune.split()) == 0
    models = [folder / "runs" / name for name in ("a/model", "a/best", "b/model", "b/best")]
    assert all((model / "README.md").is_file() for model in models)
    files = [path for model in models for path in model.rglob("*") if path.is_file()]
    assert len(files) == 4 * (3 + 3)  # of the model, and of the stencils beside it
    said = b"".join(path.read_bytes() for path in files)
    private = {
        *("correct-horse-battery", "MATEY_TEST_SECRET", str(folder), str(Path.home()), os.getcwd()),
        *(
            "--model.embed_dim",
            "mix.yaml",
            "runs/a",
            "runs/b",
            "2D_rdb_NA_NA",
            sys.executable,
            str(ROOT),
        ),
        *(socket.gethostname(), sys.argv[0], sys.executable),
    }
    private = {text for text in private if len(text) > 3}  # short ones stand in words by chance
    assert not {text for text in private if text.encode() in said}
    user = getpass.getuser()
    assert f'"{user}"'.encode() not in said
    assert f"/{user}/".encode() not in said


class NetworkError(BaseException):
    """Not an Exception, so that nothing swallows it."""


COMMANDS = {
    "doctor": ["doctor"],
    "simulate": [
        "simulate",
        "shallow_water",
        "--out",
        "swe",
        "--trajectories",
        "2",
        "--resolution",
        "16",
        "--steps",
        "3",
        "--jobs",
        "1",
    ],
    "data": ["data", "inspect", "2D_rdb_NA_NA.h5", "--write", "drafted.yaml"],
    "benchmark": ["benchmark", "cost", "--data", "mix.yaml", "--device", "cpu", *SMALL],
    "tune": ["tune", "--data", "mix.yaml", "--lr", "1e-3", "3e-3", "--device", "cpu", *SMALL],
    "finetune": ["finetune", "runs/a", "--data", "mix.yaml", "--steps", "1", "--device", "cpu"],
    "evaluate": ["evaluate", "runs/a", "--data", "mix.yaml", "--rollout", "2", "--windows", "2"],
    "predict": ["predict", "runs/a", "2D_rdb_NA_NA.h5", "--steps", "2", "--out", "next.nc"],
    "study": ["study", "tokens", "--scale", "smoke", "--plan", "--out", "study"],
    "models": ["models"],
    "report": ["report", "runs/a", "results", "--out", "page.html"],
    "launch": ["launch", "slurm", "--time", "1h", "--dry-run", "--", "train", "--run", "a"],
}


def test_no_command_reaches_for_the_network(folder, monkeypatch):
    """`demo` only runs the others; `data convert` writes what `data inspect` reads."""

    def refuse(*_, **__):
        raise NetworkError

    assert set(FAMILIES) - {"train", "demo"} <= set(COMMANDS), "a command that is not tried here"
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    with pytest.raises(NetworkError):
        socket.create_connection(("localhost", 1))
    train()
    for name in FAMILIES:
        if name in COMMANDS:
            assert main(COMMANDS[name]) == 0, name
    assert main(["data", "convert", "2D_rdb_NA_NA.h5", "converted"]) == 0


def test_a_page_of_a_report_asks_for_nothing_from_elsewhere(folder):
    train()
    assert main(["report", "runs/a", "--out", "page.html"]) == 0
    page = (folder / "page.html").read_text()
    for reach in ('src="http', 'href="http', "url(http", "@import", "fetch(", "XMLHttpRequest"):
        assert reach not in page


def test_a_link_in_place_of_a_model_file_is_read_as_data_only(folder):
    """A model is tensors and JSON, whatever file a link leads to: nothing of it is run."""
    train()
    weights = folder / "runs/a/model/model.safetensors"
    weights.unlink()
    weights.symlink_to("/etc/passwd")
    assert main(["predict", "runs/a", "2D_rdb_NA_NA.h5", "--steps", "1", "--out", "x.nc"]) == 2
    assert not (folder / "x.nc").exists()
