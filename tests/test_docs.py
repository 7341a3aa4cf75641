"""The examples in the pages of the documentation run as they are printed."""

import importlib.util
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import matey
from matey.cli.options import make_parser, parse
from matey.config import DataConfig
from matey.data import reader
from matey.data.reader import open_source
from matey.fields import Boundary

PAGE = Path(__file__).parents[1] / "docs" / "readers.md"


def blocks(language):
    """The fenced blocks of the page in a language, in order."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def plume(tmp_path):
    """Diffusion between walls by explicit differences: fluxes cancel in the sum."""
    state = np.random.default_rng(0).random((2, 1, 6, 8))
    frames = [state]
    for _ in range(4):
        flux_y, flux_x = (np.diff(frames[-1], axis=axis) for axis in (2, 3))
        change = np.zeros_like(state)
        change[:, :, :-1] += flux_y
        change[:, :, 1:] -= flux_y
        change[..., :-1] += flux_x
        change[..., 1:] -= flux_x
        frames.append(frames[-1] + 0.1 * change)
    with h5py.File(tmp_path / "plume.h5", "w") as file:
        file["concentration"] = np.concatenate(frames, axis=1).astype(np.float32)
        file["time"], file["kappa"] = np.arange(5) * 0.1, [0.1, 0.2]
        file.attrs["cell"] = 0.5
    return tmp_path / "plume.h5"


def test_the_reader_of_the_page_reads_its_files(plume, tmp_path, monkeypatch):
    code, test = blocks("python")
    (tmp_path / "plume.py").write_text(code)
    spec = importlib.util.spec_from_file_location("plume", tmp_path / "plume.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (line,) = blocks("text")
    assert line.strip() == "Plume(),"
    monkeypatch.setattr(reader, "LAYOUTS", [module.Plume(), *reader.LAYOUTS])
    fields = matey.open(plume)
    assert (fields.spec.name, fields.readers[0].layout) == ("plume", "plume")
    assert fields.trajectories[1].parameters == {"kappa": 0.2}
    assert fields[0].grid.spacing == (1.0, 0.5, 0.5)
    names = {"matey": matey, "torch": torch}
    exec(test, names)  # the test of the page, as it is printed there
    names["test_walls_keep_the_amount_of_tracer"](plume)


def test_the_description_of_the_page_reads_its_file(tmp_path):
    state = np.random.default_rng(0).random((4, 5, 8, 6, 2))
    np.savez(
        tmp_path / "plumes.npz",
        state=state,
        ground=np.zeros((8, 6)),
        t=np.arange(5) * 0.1,
        x=np.arange(8.0),
        y=np.arange(6.0),
        Re=100.0,
    )
    (text,) = blocks("yaml")
    (tmp_path / "mix.yaml").write_text(text)
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
