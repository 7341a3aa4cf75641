"""The configs in examples/ are complete: each makes a model that trains."""

from pathlib import Path

import pytest

from matey.cli.options import make_parser, parse, run_config
from matey.cli.train import add_arguments
from matey.nn.model import Matey
from tests.nn.helpers import rough_inputs, system

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").rglob("*.yaml"))
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
