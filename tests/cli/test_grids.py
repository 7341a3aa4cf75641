"""Stretched and falling coordinates from inspect to predict, as a user types the commands."""

import json

import numpy as np
import pytest
import xarray
import yaml

import matey
from matey.cli import main

NY, NX, FRAMES, SPLITS = 16, 16, 8, ("train", "train", "valid", "test")
TIMES, X = np.arange(FRAMES) * 0.5, np.arange(NX) * 0.25
WALL = 1 + np.tanh(2.5 * (np.linspace(0, 1, NY) - 1)) / np.tanh(2.5)
LATITUDE = np.linspace(90, -90, NY)
TINY = ["--model.embed_dim", "24", "--model.heads", "2", "--model.depth", "1"]
TINY += ["--model.patches", "[8,4]", "--windows.history", "2", "--steps", "4", "--batch", "2"]


def waves(run: int, y: np.ndarray) -> xarray.Dataset:
    """Waves that a flow along x carries, faster away from y = 0."""
    phase = 2 * np.pi * (X / 4 - 0.1 * TIMES[:, None, None] * (1 + y[:, None])) + run
    arrays = {"u": 2 + np.cos(phase) * y[:, None], "v": np.sin(phase) + y[:, None] ** 2}
    variables = {
        name: (("time", "lat", "lon"), values.astype("f4")) for name, values in arrays.items()
    }
    attributes = {"system": "waves", "boundary_y": "wall open", "boundary_x": "periodic"}
    return xarray.Dataset(variables, {"time": TIMES, "lat": y, "lon": X}, attributes)


def write_runs(folder, y: np.ndarray) -> None:
    for run, split in enumerate(SPLITS):
        (folder / split).mkdir(parents=True, exist_ok=True)
        waves(run, y).to_netcdf(folder / split / f"run_{run}.nc")


def train_and_score(folder, *, criterion: str = "gradient") -> dict:
    """Inspect, train and evaluate what lies in `data`; the scores of its one system."""
    assert main(["data", "inspect", "data", "--write", "mix.yaml"]) == 0
    train = ["train", "--data", "mix.yaml", "--run", "runs/a", *TINY, "--device", "cpu"]
    assert main([*train, "--model.refine.criterion", criterion]) == 0
    assert main(["evaluate", "runs/a", "--data", "mix.yaml", "--rollout", "3"]) == 0
    return json.loads((folder / "results/scores.json").read_text())["systems"][0]


def test_a_channel_clustered_at_a_wall(tmp_path, monkeypatch, capsys):
    """Positions to the bit, errors over the volume; spectra and an FNO are refused in a line."""
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "data", WALL)
    scores = train_and_score(tmp_path)
    said = capsys.readouterr()
    assert "coordinate y is stretched, in steps of" in said.out
    assert "Left out on a stretched grid: spectra" in said.err
    assert yaml.safe_load((tmp_path / "mix.yaml").read_text())["systems"][0]["layout"][
        "coordinates"
    ] == {"y": "lat", "x": "lon"}

    # Persistence has no model in it: its error by volume is known from the file alone.
    middle = (WALL[1:] + WALL[:-1]) / 2
    edges = np.concatenate([[2 * WALL[0] - middle[0]], middle, [2 * WALL[-1] - middle[-1]]])
    share = np.diff(edges)[:, None] / (edges[-1] - edges[0]) / NX

    def still(path, variable, last):
        truth = xarray.open_dataset(path)[variable].values.astype("f8")
        square, power = ((truth[1:] - truth[:-1]) ** 2 * share), truth[1:] ** 2 * share
        return np.sqrt(square.sum((1, 2)) / power.sum((1, 2)))[1:last].mean()

    expected = still("data/test/run_3.nc", "u", FRAMES - 3)
    lines = (tmp_path / "runs/a/metrics.jsonl").read_text().splitlines()
    valid = [json.loads(line) for line in lines if '"valid"' in line][-1]
    by_volume = np.mean([still("data/valid/run_2.nc", name, FRAMES) for name in "uv"])
    assert valid["persistence"]["waves"] == pytest.approx(by_volume, rel=1e-5)
    nrmse = scores["metrics"]["nrmse"]["by_variable"]
    assert nrmse["velocity_x"]["persistence"][0] == pytest.approx(expected, rel=1e-5)
    assert all(np.isfinite(nrmse["velocity_x"]["error"]))
    assert scores["metrics"]["band_nrmse_low"]["mean"]["error"] == [None] * 3
    assert scores["spectra"]["truth"] == {}
    assert main(["report", "runs/a", "results", "--out", "page.html"]) == 0

    assert (
        main(["predict", "runs/a", "data/train/run_0.nc", "--steps", "2", "--out", "next.nc"]) == 0
    )
    with xarray.open_dataset("next.nc") as prediction:
        assert prediction["lat"].values.tolist() == WALL.tolist()
        assert prediction["lon"].values.tolist() == X.tolist()
    grid = matey.open("next.nc").trajectories[0].grid
    assert grid.positions[1] == tuple(WALL.tolist())
    assert main(["predict", "runs/a", "next.nc", "--steps", "1", "--out", "later.nc"]) == 0
    fno = ["train", "--data", "mix.yaml", "--run", "runs/b", "--model.kind", "fno"]
    capsys.readouterr()
    assert main([*fno, *TINY, "--model.width", "8", "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "an FNO" in line


def test_latitude_from_the_north_pole_to_the_south_pole(tmp_path, monkeypatch, capsys):
    """Values come in the order of rising latitude, as xarray sorts them, with the signs they had;
    a prediction falls again, and is that of the same file sorted beforehand."""
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "data", LATITUDE)
    scores = train_and_score(tmp_path, criterion="variance")
    assert "coordinate y falls from 90 to -90" in capsys.readouterr().out
    assert scores["grid"] == [1, NY, NX]
    fields = matey.open("data/train")
    ordered = xarray.open_dataset("data/train/run_1.nc").sortby("lat")
    for i, name in enumerate(("u", "v")):
        np.testing.assert_array_equal(fields[1].values[:, i, 0], ordered[name].values)
    np.testing.assert_allclose(fields[1].grid.coordinate(1), LATITUDE[::-1], atol=1e-12)
    assert [side.name for side in fields[1].boundaries[1]] == ["WALL", "OPEN"]

    ordered.to_netcdf("sorted.nc")
    for source, name in (("data/train/run_1.nc", "falling.nc"), ("sorted.nc", "rising.nc")):
        assert main(["predict", "runs/a", source, "--steps", "2", "--out", name]) == 0
    with xarray.open_dataset("falling.nc") as falling, xarray.open_dataset("rising.nc") as rising:
        np.testing.assert_allclose(falling["lat"], LATITUDE, atol=1e-12)
        for name in ("u", "v"):
            np.testing.assert_array_equal(falling.sortby("lat")[name], rising[name])
            assert not np.array_equal(falling[name], rising[name])
    assert main(["predict", "runs/a", "falling.nc", "--steps", "1", "--out", "later.nc"]) == 0
    with xarray.open_dataset("later.nc") as later:
        assert later["lat"].values[0] == 90
