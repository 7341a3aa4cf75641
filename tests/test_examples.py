"""What is in examples/ works: configs make models that train, scripts run in an empty folder."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import matey
from matey.cli.options import make_parser, parse, run_config
from matey.cli.train import add_arguments
from matey.nn.transformer import Matey
from tests.nn.helpers import rough_inputs, system

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.rglob("*.yaml"))
SCRIPTS = sorted(FOLDER.glob("*.py"))
TOUR = FOLDER / "tour.ipynb"
TABLE = {
    f"{scheme}-{mode}"
    for scheme in ("vit", "svit", "avit")
    for mode in ("uniform", "adap-mix", "adap-mul")
}


def read(path: Path):
    parser = make_parser("train", "train", "example")
    add_arguments(parser)
    return run_config(parse(parser, ["--config", str(path), "--run", "unused"]))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_makes_a_model_that_predicts(path):
    config = read(path)
    spec = system(2)
    model = Matey(config.model, [spec], config.windows.history).eval()
    points = 2 * config.model.patches[0]
    inputs = rough_inputs(spec, points=points, samples=1, times=config.windows.history)
    assert model(inputs).fields.shape == (1, 2, 1, points, points)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_it_is_run_and_what_to_expect(path):
    header = path.read_text().split("model:")[0]
    folder = path.relative_to(Path(__file__).parents[1]).as_posix()
    assert f"matey train --config {folder}" in header
    assert "\n# Cost " in header
    assert "\n# Score " in header


def test_there_is_an_example_for_every_scheme_and_mode():
    found = {path.stem: read(path).model for path in EXAMPLES if path.parent.name == "schemes"}
    assert set(found) == TABLE
    for name, config in found.items():
        assert f"{config.scheme}-{config.mode}".replace("_", "-") == name


def execute(folder: Path, *words: str, **variables: str) -> str:
    """What Python prints when it runs some words in a folder, with one thread and no screen."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"} | variables
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> tuple[Path, str]:
    """The folder in which a model was fine-tuned on a user's own file, and what was printed."""
    folder = tmp_path_factory.mktemp("own")
    return folder, execute(folder, str(FOLDER / "own_data.py"))


def test_own_data_become_a_model_that_is_better_than_persistence(tuned):
    folder, printed = tuned
    error, still = map(float, re.findall(r"\d\.\d+", printed))
    assert error < 0.8 * still
    (field,) = matey.open(folder / "prediction.nc")
    assert field.values.shape == (6, 1, 1, 32, 32)
    assert (field.spec.variables[0].name, field.spec.variables[0].units) == ("dye", "kg m-3")
    results = json.loads((folder / "results" / "scores.json").read_text())
    assert f"{results['systems'][0]['metrics']['nrmse']['mean']['error'][-1]:.3f}" in printed


def test_own_data_take_fifteen_lines():
    source = (FOLDER / "own_data.py").read_text()
    (part,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "yours"
    )
    first, last = part.body[1].lineno, part.body[-1].end_lineno  # after the docstring
    assert last - first + 1 == 15
    assert "in 15 lines" in source.splitlines()[0]


def test_fewer_tokens_are_scored_beside_more(tmp_path):
    printed = execute(tmp_path, str(FOLDER / "token_budget.py"))
    rows = [line.split() for line in printed.splitlines()[1:]]
    assert [row[0] for row in rows] == ["64", "112", "160", "208", "256", "persistence"]
    assert all(float(tokens) <= float(budget) for budget, tokens, *_ in rows[:-1])
    assert (tmp_path / "budget.svg").read_text().count("<path") > 2
    found = [float(row[2]) for row in rows[:-1]]
    assert len(set(found)) > 2  # the budget makes a difference


def test_a_checkpoint_is_read_without_matey(tuned, tmp_path):
    """What is called matey there cannot be imported; the token is the model's own."""
    (tmp_path / "matey.py").write_text("raise SystemExit('matey was imported')")
    folder, _ = tuned
    words = [str(FOLDER / "plain_torch.py"), str(folder / "runs" / "dye")]
    printed = execute(tmp_path, *words, PYTHONPATH=str(tmp_path))
    model = matey.from_pretrained(folder / "runs" / "dye")
    assert f"{sum(p.numel() for p in model.parameters()):,} numbers" in printed
    assert "dye [kg m-3], predicted" in printed
    assert all(f"    {name} " in printed for name in model.state_dict())
    token = json.loads(printed.split("\ntoken ")[1])
    wave = torch.sin(2 * torch.pi * torch.arange(8) / 8)
    name = next(iter(model.specs.values())).variables[0].name
    patch = (wave[:, None] * wave).view(1, 1, 1, 1, 8, 8)
    with torch.no_grad():
        own = model.tokenizer.encoders["1x8x8"](patch, model.tokenizer.inputs([name]))
    np.testing.assert_allclose(token, own.flatten().numpy(), atol=1e-5)  # printed to five digits


def test_a_checkpoint_with_something_behind_its_tensors_is_told(tuned, tmp_path):
    folder, _ = tuned
    account_for = runpy.run_path(str(FOLDER / "plain_torch.py"))["account_for"]
    weights = (folder / "runs/dye/model/model.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(weights)
    assert "norm.weight" in account_for(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(weights + b"more")
    with pytest.raises(AssertionError, match="something after the last tensor"):
        account_for(tmp_path / "w.safetensors")


def test_the_tour_runs_from_top_to_bottom_and_is_kept_without_output(tmp_path):
    notebook = json.loads(TOUR.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    (tmp_path / "tour.py").write_text(code)
    printed = execute(tmp_path, "tour.py")
    rows = [line.split() for line in printed.split("persistence\n")[1].splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert (tmp_path / "report.html").stat().st_size > 1e5


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_how_it_is_run_what_it_costs_and_what_is_seen(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert f"python examples/{path.name}" in text
    assert "\nCost " in text
    assert "\nShows " in text
