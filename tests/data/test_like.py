"""The descriptions of its data go along with a run: files that say little are read as they were."""

import json
import logging
import shutil

import numpy as np
import pytest
import xarray
import yaml

import matey
from matey.cli import main
from matey.cli.options import load_yaml
from matey.errors import DataError
from matey.fields import Boundary

FRAMES, POINTS = 10, 16
SMALL = ["--model.embed_dim", "12", "--model.heads", "1", "--model.depth", "1"]
SMALL += ["--model.patches", "[8]", "--windows.history", "2", "--batch", "2", "--device", "cpu"]
LAYOUT = {
    "axes": ["time", "y", "x"],
    "arrays": [{"array": "tracer", "variables": ["tracer"]}],
    "dt": 0.5,
    "boundaries": {"y": "wall", "x": "periodic"},
}
WALLS, ROUND = (Boundary.WALL,) * 2, (Boundary.PERIODIC,) * 2


def write(path, phase=0.0, stretch=1.0):
    """A wave whose file says nothing of times and sides."""
    x, t = np.arange(POINTS) / POINTS, np.arange(FRAMES)[:, None, None]
    wave = np.sin(2 * np.pi * (x - 0.05 * t + phase)) * np.cos(2 * np.pi * x)[:, None]
    places = {"x": x * stretch, "y": x}
    xarray.Dataset({"tracer": (("time", "y", "x"), wave.astype("f4"))}, places).to_netcdf(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with six files, a data config that describes them, and a run trained on them."""
    folder = tmp_path_factory.mktemp("like")
    (folder / "six").mkdir()
    for k in range(6):
        write(folder / "six" / f"run{k}.nc", 0.13 * k)
    entry = {"name": "waves", "paths": ["six"], "layout": LAYOUT}
    (folder / "w.yaml").write_text(yaml.safe_dump({"systems": [entry]}))
    words = ["train", "--data", str(folder / "w.yaml"), "--run", str(folder / "run")]
    assert main([*words, "--steps", "1", *SMALL]) == 0
    write(folder / "new.nc", 0.9)
    return folder


def test_a_file_is_read_as_those_of_a_run(trained):
    alone = matey.open(trained / "new.nc")[0]
    like = matey.open(trained / "new.nc", like=trained / "run")[0]
    assert alone.boundaries[1:] == ((Boundary.OPEN,) * 2,) * 2
    assert like.boundaries[1:] == (WALLS, ROUND)
    assert (like.spec.name, like.spec.dt) == ("waves", 0.5)
    np.testing.assert_array_equal(like.values, alone.values)
    again = matey.open(trained / "new.nc", like=trained / "run" / "model")[0]
    assert again.boundaries == like.boundaries


@pytest.mark.parametrize("data", [False, True])
def test_what_is_predicted_has_the_sides_of_training(trained, tmp_path, data):
    """By what the run keeps, or by a data config given to the command."""
    out = tmp_path / "p.nc"
    words = ["predict", str(trained / "run"), str(trained / "new.nc"), "--steps", "2"]
    described = ["--data", str(trained / "w.yaml")] if data else []
    assert main([*words, *described, "--out", str(out), "--device", "cpu"]) == 0
    field = matey.open(out)[0]
    assert field.boundaries[1:] == (WALLS, ROUND)
    np.testing.assert_allclose(field.times, [5.0, 5.5])  # the file holds frames 0 to 4.5
    if not data:  # what a prediction says of itself stands
        assert matey.open(out, like=trained / "run")[0].spec == field.spec


def test_scores_read_files_as_the_run_did(trained, tmp_path):
    """A data config without a layout; the same scores as with the one of training."""
    (tmp_path / "bare.yaml").write_text(
        yaml.safe_dump({"systems": [{"name": "waves", "paths": [str(trained / "six")]}]})
    )
    errors = []
    for data in (trained / "w.yaml", tmp_path / "bare.yaml"):
        out = tmp_path / data.stem
        words = ["evaluate", str(trained / "run"), "--data", str(data), "--rollout", "2"]
        assert main([*words, "--out", str(out), "--device", "cpu"]) == 0
        system = json.loads((out / "scores.json").read_text())["systems"][0]
        errors.append({k: v for k, v in system.items() if "seconds" not in k})
    assert errors[0] == errors[1]


def test_what_differs_from_training_is_said(trained, tmp_path, caplog):
    write(tmp_path / "wide.nc", stretch=2.0)
    model = matey.from_pretrained(trained / "run")
    with caplog.at_level(logging.WARNING):
        model.check(matey.open(trained / "new.nc", like=trained / "run")[0])
    assert "the model was trained on" not in caplog.text
    model.check(matey.open(tmp_path / "wide.nc")[0])
    assert "sides of system" in caplog.text
    assert "along x are open, but the model was trained on periodic ones" in caplog.text
    found = {one.quantity: one for one in model.outside(matey.open(tmp_path / "wide.nc")[0])}
    assert (found["dt"].value, found["dt"].high) == (1, 0.5)
    assert (found["spacing"].name, found["spacing"].value) == ("x", pytest.approx(2 / POINTS))


def test_spacing_that_differs_from_training_is_said_by_folders_without_ranges(trained, caplog):
    field = matey.open(trained / "new.nc", like=trained / "run")[0]
    model = matey.from_pretrained(trained / "run")
    del model.learned_from["ranges"]  # as of an older version
    assert model.outside(field) == []
    model.learned_from["spacing"] = {"waves": {"y": 1.0, "x": 3.0}}
    model.check(field)
    assert "along x are 1 apart, but the model was trained on 3." in caplog.text
    assert "along y are" not in caplog.text


def test_a_file_of_another_kind_is_read_by_itself_which_is_said(trained, tmp_path, caplog):
    values = np.random.default_rng(0).random((5, 6, 8))
    xarray.Dataset({"rho": (("time", "y", "x"), values)}).to_netcdf(tmp_path / "a.nc")
    field = matey.open(tmp_path / "a.nc", like=trained / "run")[0]
    assert field.spec.variables[0].name == "density"
    assert "a.nc is not laid out as the data of" in caplog.text
    assert "waves: " in caplog.text


def test_a_file_of_another_system_is_read_under_the_name_of_the_runs_which_is_said(
    trained, tmp_path, caplog
):
    """A description without a layout fits every file that says itself how it is laid out."""
    run = tmp_path / "run"
    shutil.copytree(trained / "run" / "model", run)
    described = json.loads((run / "config.json").read_text())
    del described["training"]["descriptions"]["waves"]["layout"]
    (run / "config.json").write_text(json.dumps(described))
    matey.write_field(matey.open(trained / "new.nc", like=trained / "run")[0], tmp_path / "own.nc")
    assert matey.open(tmp_path / "own.nc", like=run).spec.name == "waves"
    assert not caplog.text
    matey.write_field(matey.open(trained / "new.nc")[0], tmp_path / "other.nc")
    assert matey.open(tmp_path / "other.nc", like=run).spec.name == "waves"
    own = matey.open(tmp_path / "other.nc").spec.name
    assert f"other.nc is of system {own}, and is read as" in caplog.text
    assert "its system waves, under this name" in caplog.text


def test_a_data_config_that_does_not_fit_the_file_is_refused(trained, tmp_path, capsys):
    values = np.random.default_rng(0).random((5, 6, 8))
    xarray.Dataset({"rho": (("time", "y", "x"), values)}).to_netcdf(tmp_path / "a.nc")
    words = ["predict", str(trained / "run"), str(tmp_path / "a.nc")]
    assert main([*words, "--data", str(trained / "w.yaml"), "--out", str(tmp_path / "p.nc")]) == 2
    error = capsys.readouterr().err.strip()
    assert "a.nc is not laid out as the data config says: waves: " in error
    assert len(error.splitlines()) == 1


def test_a_run_of_an_older_version_has_its_config(trained, tmp_path):
    """Its model says nothing of the data; its config lacks keys that are newer."""
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    described = json.loads((run / "model" / "config.json").read_text())
    del described["training"]["descriptions"]
    (run / "model" / "config.json").write_text(json.dumps(described))
    config = load_yaml((run / "config.yaml").read_text())
    layout = config["data"]["systems"][0]["layout"]
    del layout["doubts"], layout["arrays"][0]["staggered"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert matey.open(trained / "new.nc", like=run)[0].boundaries[1:] == (WALLS, ROUND)
    words = ["train", "--data", str(trained / "w.yaml"), "--run", str(run), "--resume", "auto"]
    assert main([*words, "--steps", "2", *SMALL]) == 0


def test_what_is_no_run_is_refused(trained, tmp_path):
    with pytest.raises(DataError, match="neither a run nor a model folder"):
        matey.open(trained / "new.nc", like=tmp_path)
    shutil.copytree(trained / "run" / "model", tmp_path / "model")
    text = (tmp_path / "model" / "config.json").read_text()
    damaged = text.replace('"boundaries": {"y": "wall"', '"boundaries": {"y": "soft"')
    damaged = damaged.replace('"y": "wall"', '"y": "soft"')
    assert damaged != text
    (tmp_path / "model" / "config.json").write_text(damaged)
    with pytest.raises(DataError, match=r"config.json is damaged: .*soft"):
        matey.open(trained / "new.nc", like=tmp_path / "model")
