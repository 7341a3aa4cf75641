"""Mirrors as a user meets them: what a file of vorticities goes through, with `windows.flip` on."""

import json

import h5py
import numpy as np
import pytest
import torch
import xarray
import yaml

import matey
from matey.cli import main
from matey.cli.options import read_data
from matey.config import WindowConfig
from matey.data.mixture import Mixture
from matey.data.systems import open_systems
from matey.data.windows import Windows
from tests.cli.test_commands import refusal

MODEL = ["--model.embed_dim=24", "--model.heads=2", "--model.depth=1", "--model.patches=[4]"]
TRAIN = ["train", "--data", "mix.yaml", "--run", "run", *MODEL, "--windows.history=2"]
TRAIN += ["--windows.flip=[x,y]", "--steps=4", "--batch=8", "--device=cpu"]
PSEUDO = {"velocity_x": False, "velocity_y": False, "height": False}
PSEUDO |= {"relative_vorticity": True, "potential_vorticity": True}


def curl(u, v):
    """v_x - u_y on a periodic grid, by central differences: a mirror changes its sign exactly."""
    along = [np.roll(v, -1, -1) - np.roll(v, 1, -1), np.roll(u, -1, -2) - np.roll(u, 1, -2)]
    return (along[0] - along[1]) / 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Smooth flow of five trajectories, its height and its vorticities, [n, t, y, x]."""
    monkeypatch.chdir(tmp_path)
    rows, columns = (2 * np.pi * np.arange(n) / n for n in (16, 12))
    phase = np.arange(5)[:, None, None, None]
    t, y, x = np.arange(6)[:, None, None] / 4, rows[:, None], columns
    u = np.sin(y + x + t + phase) + 0.3 * np.cos(2 * x - t)
    v = np.cos(x - y + phase) - 0.5 * np.sin(x + t)
    height = 2 + 0.5 * np.sin(x + 2 * y - t + phase)
    flow = {"u": u, "v": v, "height": height, "relative_vorticity": curl(u, v)}
    flow["potential_vorticity"] = flow["relative_vorticity"] / height
    arrays = {name: values.astype(np.float32) for name, values in flow.items()}
    np.savez(tmp_path / "flow.npz", time=np.arange(6) / 4, y=rows, x=columns, **arrays)
    with np.load(tmp_path / "flow.npz") as stored, h5py.File(tmp_path / "flow.h5", "w") as file:
        for name in stored.files:
            file["shear" if name == "height" else name] = stored[name]
    return tmp_path


def inspect(path):
    assert main(["data", "inspect", path, "--write", "mix.yaml", "--overwrite"]) == 0


def test_vorticities_change_their_sign_from_inspection_to_prediction(folder, capsys):
    inspect("flow.npz")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[0][:10]: row[3] for row in rows if row[2:3] == ["-"]}  # long names are folded
    assert shown == {n[:10]: "pseudo" if p else "true" for n, p in PSEUDO.items()}
    written = yaml.safe_load((folder / "mix.yaml").read_text())["systems"][0]["layout"]["arrays"]
    assert {array["variables"][0]: array["pseudo"] for array in written} == PSEUDO

    assert main(TRAIN) == 0
    (system,) = json.loads((folder / "run/model/config.json").read_text())["systems"]
    assert {v["name"]: v["pseudo"] for v in system["variables"]} == PSEUDO
    assert main(["evaluate", "run", "--data", "mix.yaml", "--rollout", "2"]) == 0
    assert main(["predict", "run", "flow.npz", "--steps", "2", "--out", "next.nc"]) == 0
    (later,) = matey.open("next.nc")
    assert {v.name: v.pseudo for v in later.spec.variables} == PSEUDO
    with xarray.open_dataset("next.nc") as stored:
        assert stored["potential_vorticity"].attrs["pseudo"] == 1
    assert main(["data", "convert", "flow.npz", "well"]) == 0
    assert {v.name: v.pseudo for v in matey.open("well").spec.variables} == PSEUDO


def test_batches_of_a_mirrored_flow_are_a_flow(folder):
    """In every window, mirrored or not, vorticity is the curl of the velocity, and potential
    vorticity what that is over the height: exact, as a mirror only turns signs."""
    inspect("flow.npz")
    (name, system), *_ = open_systems(read_data(["mix.yaml"])).items()
    plain, flipped = (
        Mixture({name: Windows(system.fields, range(5), WindowConfig(2, flip=flip))}, 32, 0)[0]
        for flip in ((), ("x", "y"))
    )
    moved = (plain.values != flipped.values).flatten(1).any(dim=1)
    assert 16 < moved.sum() <= 32  # three of four; 16 is three standard deviations below
    for values in (flipped.values, flipped.target):
        u, v, height, relative, potential = values.double().unbind(-4)
        expected = torch.from_numpy(curl(u.numpy(), v.numpy()))
        torch.testing.assert_close(relative, expected, rtol=0, atol=1e-6)  # float32's rounding
        torch.testing.assert_close(potential, relative / height, rtol=1e-5, atol=1e-6)


def test_flips_of_an_unknown_quantity_are_refused_until_it_is_declared(folder, capsys):
    inspect("flow.h5")
    assert "unknown" in capsys.readouterr().out
    said = refusal(capsys, *TRAIN)
    assert "windows.flip" in said
    assert "whether shear of system" in said
    assert "Set `pseudo: {shear: false}`" in said
    config = yaml.safe_load((folder / "mix.yaml").read_text())
    (system,) = config["systems"]
    (shear,) = [a for a in system["layout"]["arrays"] if a["variables"] == ["shear"]]
    shear["pseudo"] = True
    (folder / "mix.yaml").write_text(yaml.safe_dump(config))
    assert main(TRAIN) == 0

    # The same of the system, which holds for files of every layout.
    assert main(["data", "convert", "flow.h5", "well"]) == 0
    capsys.readouterr()
    system = {"name": "flow", "paths": ["well"]}
    (folder / "mix.yaml").write_text(yaml.safe_dump({"systems": [system]}))
    assert "whether shear of system 'flow'" in refusal(capsys, *TRAIN, "--run=again")
    system["pseudo"] = {"sheer": True}
    (folder / "mix.yaml").write_text(yaml.safe_dump({"systems": [system]}))
    assert "'sheer', which the file has not. Did you mean 'shear'" in refusal(
        capsys, *TRAIN, "--run=again"
    )
    system["pseudo"] = {"shear": True}
    (folder / "mix.yaml").write_text(yaml.safe_dump({"systems": [system]}))
    assert main([*TRAIN, "--run=again"]) == 0


def test_rollouts_go_through_the_mirrors_of_training_unless_told_not_to(folder):
    """The first step is that of the field as it is; what is turned is told, and can be left out;
    fine-tuning says anew what a system's mirrors are."""
    inspect("flow.npz")
    assert main(TRAIN) == 0
    told = json.loads((folder / "run/model/config.json").read_text())["training"]
    assert list(told["mirrors"].values()) == [["x", "y"]]
    frames = {}
    for name, words in (("turned", []), ("plain", ["--mirrors=none"]), ("again", [])):
        out = f"{name}.nc"
        assert main(["predict", "run", "flow.npz", "--steps=3", "--out", out, *words]) == 0
        with xarray.open_dataset(out) as file:
            frames[name] = file["height"].values
            assert file.attrs.get("mirrors", "") == ("" if words else "xy turns")
    assert np.array_equal(frames["turned"], frames["again"])
    same = [np.array_equal(*pair) for pair in zip(frames["turned"], frames["plain"], strict=True)]
    assert same[0]
    assert not same[1]

    score = ["evaluate", "run", "--data", "mix.yaml", "--rollout=3"]
    for words, said in (([], None), (["--mirrors=mean"], "mean")):
        assert main([*score, *words, "--out=scores"]) == 0
        assert (
            json.loads((folder / "scores/scores.json").read_text())["model"].get("mirrors") == said
        )

    tune = ["finetune", "run", "--data", "mix.yaml", "--run=tuned", "--steps=2", "--batch=4"]
    assert main([*tune, "--optim.lr=1e-4", "--windows.flip=[x]", "--device=cpu"]) == 0
    told = json.loads((folder / "tuned/model/config.json").read_text())["training"]
    assert list(told["mirrors"].values()) == [["x"]]
