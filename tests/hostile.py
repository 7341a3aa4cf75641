"""Small real files of every format that is loaded, and how each is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import torch
import yaml

import matey
from matey.cli.options import make_parser, parse, run_config
from matey.cli.train import add_arguments
from matey.config import ModelConfig
from matey.data.formats import files
from matey.data.reader import open_reader
from matey.nn.folder import from_pretrained, save_pretrained
from matey.nn.transformer import Matey
from matey.report import build
from matey.train import checkpoint
from matey.train.optim import make_optimizer
from tests.data.conftest import compressible, shallow
from tests.nn.helpers import system

MODEL = ModelConfig(embed_dim=8, heads=1, depth=1, patches=(8, 4), latent_channels=2)
Load = Callable[[Path], object]


def read_fields(path: Path) -> None:
    """Every value of every trajectory."""
    try:
        reader = open_reader(path)
        for trajectory in range(len(reader.trajectories)):
            reader.read(trajectory)
    finally:
        files.close_files()


def write_netcdf(path: Path, style: str) -> Path:
    """The variables of miniWeather."""
    with netCDF4.Dataset(path, "w", format=style) as file:
        for axis, size in (("t", 3), ("z", 4), ("x", 5)):
            file.createDimension(axis, None if axis == "t" else size)
        file.createVariable("t", "f8", ("t",))[:] = np.arange(3)
        for variable in ("dens", "uwnd", "wwnd", "theta"):
            file.createVariable(variable, "f8", ("t", "z", "x"))[:] = np.ones((3, 4, 5))
    return path


def new_model() -> Matey:
    torch.manual_seed(0)
    return Matey(MODEL, [system(2)], history=2)


def write_model(folder: Path) -> Path:
    save_pretrained(new_model(), folder, {"steps": 1})
    return folder


def write_checkpoint(run: Path) -> Path:
    """A checkpoint after one step of an optimizer."""
    model = new_model()
    optimizer = make_optimizer(model, matey.config.OptimConfig())
    sum(parameter.square().sum() for parameter in model.parameters()).backward()
    optimizer.step()
    run.mkdir()
    return checkpoint.save(run, checkpoint.capture(model, optimizer, checkpoint.Progress(1)), 1)


def load_checkpoint(folder: Path) -> None:
    model = new_model()
    optimizer = make_optimizer(model, matey.config.OptimConfig())
    checkpoint.restore(checkpoint.read(folder), model, optimizer, folder)


def load_config(path: Path) -> None:
    """As `matey train --config` does."""
    parser = make_parser("train", "train", "example")
    add_arguments(parser)
    run_config(parse(parser, ["--config", str(path), "--run", "unused"]))


def write_config(path: Path) -> Path:
    settings = {
        "model": {"embed_dim": 24, "patches": [8, 4], "refine": {"threshold": 0.5}},
        "optim": {"lr": 1e-3, "schedule": "wsd"},
        "data": {"systems": [{"name": "water", "paths": ["a.h5", "b.h5"]}]},
        "steps": 10,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def write_run(folder: Path) -> Path:
    """What a report reads of a run."""
    folder.mkdir()
    write_config(folder / "config.yaml")
    records = [
        {"kind": "start", "step": 0, "steps": 2, "seconds": 0.1},
        {"kind": "train", "step": 1, "loss": 0.5, "losses": {"water": 0.5}, "seconds": 0.2},
        {"kind": "valid", "step": 1, "nrmse": {"water": 0.5}, "persistence": {"water": 1.0}},
        {"kind": "end", "step": 1, "seconds": 0.3},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "provenance.json").write_text(json.dumps({"command": "matey train", "seed": 0}))
    return folder


def report(folder: Path) -> None:
    build([folder], folder.parent / "page.html")


def samples(folder: Path) -> dict[str, tuple[Path, Load]]:
    """By its name: a small real file, or a folder of files, and the function that loads it."""
    fields = folder / "fields"
    fields.mkdir(parents=True)
    np.savez_compressed(fields / "a.npz", u=np.ones((3, 4, 5)), t=np.arange(3.0))
    np.save(fields / "a.npy", np.ones((3, 4, 5)))
    compressible(fields / "a.hdf5", frames=3)
    shallow(fields / "2D_rdb.h5", frames=3)
    write_netcdf(fields / "classic.nc", "NETCDF3_CLASSIC")
    write_netcdf(fields / "offset64.nc", "NETCDF3_64BIT_OFFSET")
    write_netcdf(fields / "netcdf4.nc", "NETCDF4")
    found: dict[str, tuple[Path, Load]] = {
        path.name: (path, read_fields) for path in sorted(fields.iterdir())
    }
    found["config.yaml"] = write_config(folder / "config.yaml"), load_config
    found["model"] = write_model(folder / "model"), from_pretrained
    found["checkpoint"] = write_checkpoint(folder / "trained"), load_checkpoint
    found["run"] = write_run(folder / "run"), report
    return found
